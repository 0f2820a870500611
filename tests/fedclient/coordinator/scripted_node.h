// A node of the tests' own: speaks the Fleet protocol over a real socket, step by step, and can do everything wrong.
//
// It shares only the protobuf types and make_object() with the project; HTTP, TLS, keys and .npy are its own.
// Thread safety: one thread. Errors: throws std::runtime_error, which fails the test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/time.h"
#include "fedclient/flower/fleet.pb.h"
#include "fedclient/flower/record.h"

namespace cardionode::test {

struct Answer {
    int status = 0;                              ///< 0: the connection ended without an answer
    std::map<std::string, std::string> headers;  ///< names in lower case
    std::string body;
    bool cut = false;  ///< the connection ended within the body
};

struct TlsIdentity {
    std::filesystem::path ca, certificate, key;  ///< certificate may be empty
    int version = 0x0304;                        ///< TLS 1.3
};

/// A reply's objects by id, children before parents in `order`; the last one is the message.
struct ReplyObjects {
    std::map<std::string, std::string> bytes;
    std::vector<std::string> order;
    fleet::ObjectTree tree;
    std::string id;
    fleet::Message message;
};

class ScriptedNode {
public:
    ScriptedNode(int port, const Clock& clock, bool v1 = false, std::optional<TlsIdentity> tls = {});
    ~ScriptedNode();
    ScriptedNode(ScriptedNode&&) noexcept;

    Answer post(const std::string& path, const std::string& body, const std::map<std::string, std::string>& headers);
    /// With this dialect's path and headers.
    Answer ask(const std::string& call, const std::string& body);
    template <class Response>
    std::optional<Response> call(const std::string& name, const google::protobuf::MessageLite& request) {
        last = ask(name, request.SerializeAsString());
        Response response;
        if (last.status != 200 || !response.ParseFromString(last.body)) return std::nullopt;
        return response;
    }

    bool enroll();  ///< register-node
    bool join(double heartbeat_seconds = 30);
    bool heartbeat(double heartbeat_seconds = 30);
    void leave();

    /// One message if there is one; `tree` is its object tree.
    std::optional<fleet::Message> pull();
    fleet::PullObjectResponse pull_object(const std::string& id);
    /// All objects of the pulled message, hashes checked; kept in `objects`.
    void fetch();
    void confirm();
    fed::Record config() const;                             ///< of the fetched message
    std::map<std::string, std::string> record_ids() const;  ///< names in its RecordDict
    std::map<std::string, std::vector<float>> arrays(const std::string& record = "arrays") const;

    ReplyObjects make_reply(const std::map<std::string, std::vector<float>>& weights, const fed::Record& metrics) const;
    ReplyObjects make_failure(const std::string& reason) const;
    /// Fills metadata.message_id and the Message object anew after `reply.message` was changed.
    static void seal(ReplyObjects& reply);
    fleet::PushMessagesResponse push_messages(const ReplyObjects& reply);
    bool push_object(const std::string& id, const std::string& bytes);
    /// All that is missing. false: refused
    bool push(const ReplyObjects& reply);

    std::string public_key() const;
    std::uint64_t node_id = 0;
    std::string session;  ///< of push-messages, v1
    fleet::Message message;
    fleet::ObjectTree tree;
    std::map<std::string, std::string> objects;
    Answer last;
    double signed_ahead_seconds = 0;  ///< of the node's clock
    bool sign_wrong = false;

private:
    struct State;
    ReplyObjects wrap(ReplyObjects reply) const;
    std::unique_ptr<State> state_;
};

}  // namespace cardionode::test
