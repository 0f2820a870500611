// A small server of the Fleet protocol over real sockets, with the quirks that facts were seen for: pull-messages gives
// a message once, objects go after the confirmation, a reply is wanted once and refused by {"None": 0}, a node that is
// online is not activated again, replies of a node that leaves are dropped, v1 checks signatures and upload sessions.
//
// Thread safety: tests change it while no call runs. Errors: throws std::runtime_error.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fedclient/flower/object_store.h"
#include "fedclient/flower/record.h"
#include "tests/support/scripted_server.h"

namespace cardionode::test {

class FleetServer {
public:
    using Answer = ScriptedServer::Answer;

    FleetServer(const std::filesystem::path& folder, bool v1, std::optional<ScriptedServer::Tls> tls = std::nullopt);
    ~FleetServer();

    std::string url() const;
    int connections() const;

    /// Puts a message into the node's queue; returns its id.
    std::string issue(const std::string& type, const std::map<std::string, std::filesystem::path>& arrays,
                      const fed::Record& config, double created_at, double ttl = 3600);
    /// The ServerApp takes the reply, when it is complete.
    bool take();

    struct ReplySeen {
        std::string id, reply_to, type, failure_reason;
        std::int64_t failure_code = 0;
        double created_at = 0, ttl = 0;
        std::uint64_t src = 0, dst = 0, run_id = 0;
        bool content_present = false;
        fed::ObjectTree tree;
    };
    std::optional<ReplySeen> reply;           ///< the one that was accepted
    fed::ObjectStore replies;                 ///< what was pushed
    fed::ObjectStore outgoing;                ///< what is offered
    std::vector<std::string> pushed, pulled;  ///< object ids in order of calls that succeeded
    std::map<std::string, int> calls;
    std::map<std::string, std::string> headers;  ///< of the last call
    bool confirmed = false, online = false, run_over = false, has_get_run = true;
    bool refuse_replies = false;  ///< {"None": 0}
    std::string unavailable;      ///< this object is found but not available

    void lapse_session();  ///< v1: forgets a reply that is not complete
    void restart();        ///< forgets who is online
    void forget_nodes();

    /// Answers instead of acting. @param nth  of this call, from 1
    std::function<std::optional<Answer>(const std::string& call, int nth)> instead;
    /// Changes an answer after acting.
    std::function<void(const std::string& call, int nth, Answer& answer)> after;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cardionode::test
