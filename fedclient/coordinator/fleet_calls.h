// The Fleet calls of Flower under /api/v0/fleet and /v1/fleet, with its quirks; facts and field numbers: fleet.proto.
//
// Copied from real servers, because a client must live with them: a message counts as delivered when pull-messages is
// answered; objects can be read again until confirm-message-received; push-object before push-messages, wrong bytes and
// (v1) an object that is there already: stored=false; a repeated push-messages lists what is still missing; a reply
// that is late, a second one, one whose ttl is too long or whose created_at is before 2024: results {"None": 0}, while
// objects_to_push lists them all the same; object calls of a run that is not running: HTTP 500 (v0), JSON with a code
// (v1); v1 push sessions end after 180 s without an object, and the reply is then forgotten.
// A node is offline after two heartbeat intervals. Thread safety: handle() from any thread. Errors are answers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "conf/base/time.h"
#include "fedclient/coordinator/coordinator_store.h"
#include "fedclient/coordinator/faults.h"
#include "fedclient/coordinator/http_server.h"
#include "fedclient/coordinator/run_settings.h"
#include "fedclient/flower/fleet.pb.h"
#include "fedclient/flower/object_store.h"

namespace cardionode::fed {

class FleetCalls {
public:
    /// All must outlive it. Config: a site's public key cannot be read.
    static Result<std::unique_ptr<FleetCalls>> create(const RunSettings& settings, CoordinatorStore& store,
                                                      const ObjectStore& objects, Faults& faults, const Clock& clock);
    HttpReply handle(const HttpQuestion& question);

private:
    enum class Dialect { V0, V1 };
    /// Why a call is refused.
    struct Refusal {
        int status = 500;
        std::string code, detail;
    };
    struct Call {
        Dialect dialect;
        std::string name, key_id, public_key;  ///< of the signed headers; empty in v0
        const HttpQuestion& question;
        Moment now;
        std::optional<Refusal> refusal;  ///< set by the call
        bool spoiled = false;            ///< a fault fell on it: one a call is enough
    };
    FleetCalls(const RunSettings& settings, CoordinatorStore& store, const ObjectStore& objects, Faults& faults,
               const Clock& clock)
        : settings_(settings), store_(store), objects_(objects), faults_(faults), clock_(clock) {}

    Moment now() const;
    HttpReply carry_out(Call& call);
    HttpReply refused(const Call& call, const Refusal& refusal) const;
    void spoil(const Call& call, HttpReply& reply);
    template <class Request, class Response>
    HttpReply typed(Call& call, Result<Response> (FleetCalls::*method)(Call&, const Request&));

    Result<fleet::RegisterNodeResponse> register_node(Call& call, const fleet::RegisterNodeRequest& request);
    Result<fleet::ActivateNodeResponse> activate_node(Call& call, const fleet::ActivateNodeRequest& request);
    Result<fleet::DeactivateNodeResponse> deactivate_node(Call& call, const fleet::DeactivateNodeRequest& request);
    Result<fleet::UnregisterNodeResponse> unregister_node(Call& call, const fleet::UnregisterNodeRequest& request);
    Result<fleet::SendNodeHeartbeatResponse> heartbeat(Call& call, const fleet::SendNodeHeartbeatRequest& request);
    Result<fleet::PullMessagesResponse> pull_messages(Call& call, const fleet::PullMessagesRequest& request);
    Result<fleet::PullObjectResponse> pull_object(Call& call, const fleet::PullObjectRequest& request);
    Result<fleet::ConfirmMessageReceivedResponse> confirm(Call& call,
                                                          const fleet::ConfirmMessageReceivedRequest& request);
    Result<fleet::PushMessagesResponse> push_messages(Call& call, const fleet::PushMessagesRequest& request);
    Result<fleet::PushObjectResponse> push_object(Call& call, const fleet::PushObjectRequest& request);
    Result<fleet::GetRunResponse> get_run(Call& call, const fleet::GetRunRequest& request);

    Result<std::string> site_of(Call& call, const std::string& key_id);
    bool own_key(Call& call, const std::string& key_id);
    bool heartbeat_allowed(Call& call, double interval);
    bool run_is_running(Call& call, std::uint64_t run_id);
    bool is_node(Call& call, std::uint64_t node_id);
    /// Why a reply is not wanted; empty: it is.
    Result<std::string> unwanted(const fleet::Message& reply, const ObjectTree& tree, std::uint64_t node_id,
                                 std::optional<MessageRow>& parent);
    Result<void> settle(MessageRow& message, Moment now);

    const RunSettings& settings_;
    CoordinatorStore& store_;
    const ObjectStore& objects_;
    Faults& faults_;
    const Clock& clock_;
    std::map<std::string, std::string> sites_;  ///< key id -> name
    std::mutex delivering_, pushing_;
};

}  // namespace cardionode::fed
