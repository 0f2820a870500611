#include "tests/fedclient/flower/fleet_server.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <stdexcept>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <nlohmann/json.hpp>

#include "conf/base/free_by.h"
#include "conf/base/hash.h"
#include "fedclient/flower/fleet.pb.h"
#include "fedclient/flower/records.h"
#include "fedclient/flower/tensor_objects.h"

namespace cardionode::test {
namespace {

using fed::ObjectStore;
using fed::ObjectTree;
using fed::ObjectType;
using Request = ScriptedServer::Request;

template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return std::move(result).value();
}

void put_tree(const ObjectTree& tree, fleet::ObjectTree& to) {
    to.set_object_id(tree.id);
    for (const ObjectTree& child : tree.children) put_tree(child, *to.add_children());
}

ObjectTree tree_of(const fleet::ObjectTree& from) {
    ObjectTree tree{from.object_id(), {}};
    for (const auto& child : from.children()) tree.children.push_back(tree_of(child));
    return tree;
}

std::string from_base64(const std::string& text) {
    std::string bytes(text.size(), '\0');
    const int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                  reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (n < 0) return {};
    bytes.resize(static_cast<std::size_t>(n) - static_cast<std::size_t>(std::count(text.begin(), text.end(), '=')));
    return bytes;
}

bool signature_holds(const std::string& pem, const std::string& text, const std::string& der) {
    const std::unique_ptr<BIO, FreeBy<BIO_free_all>> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    const std::unique_ptr<EVP_PKEY, FreeBy<EVP_PKEY_free>> key(
        PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
    const std::unique_ptr<EVP_MD_CTX, FreeBy<EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
    return key && EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1 &&
           EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(der.data()), der.size(),
                            reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1;
}

FleetServer::Answer refusal(bool v1, int status, const std::string& code) {
    FleetServer::Answer answer;
    answer.status = v1 ? status : 500;
    answer.content_type = v1 ? "application/json" : "text/plain";
    answer.body =
        v1 ? nlohmann::json({{"detail", "no"}, {"code", code}, {"extra", nullptr}}).dump() : "Internal Server Error";
    return answer;
}

FleetServer::Answer answer_of(const google::protobuf::MessageLite& message) {
    FleetServer::Answer answer;
    answer.body = message.SerializeAsString();
    return answer;
}

}  // namespace

struct FleetServer::State {
    FleetServer* self;
    bool v1;
    std::string public_key;  ///< of the one node that is known
    std::uint64_t node_id = 0x8000000000000123ULL;
    std::vector<fleet::Message> queue;  ///< not pulled yet
    std::map<std::string, fleet::Message> delivered;
    std::set<std::string> answered;
    std::string session;
    int sessions = 0;
    std::unique_ptr<ScriptedServer> server;

    Answer refused(int status, const std::string& code) const { return refusal(v1, status, code); }

    Answer serve(const Request& request) {
        const std::string prefix = v1 ? "/v1/fleet/" : "/api/v0/fleet/";
        if (!request.target.starts_with(prefix)) {
            Answer unknown;
            unknown.status = 404;
            return unknown;
        }
        const std::string call = request.target.substr(prefix.size());
        const int nth = ++self->calls[call];
        self->headers = request.headers;
        if (self->instead) {
            if (auto other = self->instead(call, nth)) return *other;
        }
        Answer answer = act(call, request);
        if (self->after) self->after(call, nth, answer);
        return answer;
    }

    Answer act(const std::string& call, const Request& request) {
        if (v1) {
            const std::string pem = from_base64(request.headers.at("flwr-public-key"));
            const bool holds = signature_holds(pem, request.headers.at("flwr-timestamp"),
                                               from_base64(request.headers.at("flwr-signature")));
            if (!holds) return refused(401, "UNAUTHENTICATED");
        }
        if (call == "register-node") return register_node(request.body);
        if (call == "activate-node") return activate_node(request.body);
        if (call == "deactivate-node") return deactivate_node();
        if (call == "send-node-heartbeat") {
            fleet::SendNodeHeartbeatResponse response;
            response.set_success(self->online);
            return answer_of(response);
        }
        if (call == "pull-messages") return pull_messages();
        if (call == "get-run" && self->has_get_run) {
            fleet::GetRunResponse response;
            response.mutable_run()->mutable_status()->set_status(self->run_over ? "finished" : "running");
            return answer_of(response);
        }
        if (self->run_over) return refused(409, "RUN_NOT_RUNNING");
        if (call == "pull-object") return pull_object(request.body);
        if (call == "confirm-message-received") return confirm(request.body);
        if (call == "push-messages") return push_messages(request.body);
        if (call == "push-object") return push_object(request.body);
        Answer answer;
        answer.status = 404;
        return answer;
    }

    Answer register_node(const std::string& body) {
        fleet::RegisterNodeRequest request;
        request.ParseFromString(body);
        if (!public_key.empty()) return refused(409, "PUBLIC_KEY_IN_USE");
        public_key = request.public_key();
        fleet::RegisterNodeResponse response;
        response.set_node_id(node_id);
        return answer_of(response);
    }

    Answer activate_node(const std::string& body) {
        fleet::ActivateNodeRequest request;
        request.ParseFromString(body);
        if (request.public_key() != public_key) return refused(404, "NODE_NOT_FOUND");
        if (self->online) return refused(409, "NODE_ONLINE");
        self->online = true;
        fleet::ActivateNodeResponse response;
        response.set_node_id(node_id);
        return answer_of(response);
    }

    Answer deactivate_node() {
        self->online = false;
        self->reply.reset();
        return answer_of(fleet::DeactivateNodeResponse());
    }

    Answer pull_messages() {
        fleet::PullMessagesResponse response;
        for (const fleet::Message& message : queue) {
            *response.add_messages_list() = message;
            put_tree(must(self->outgoing.tree_of(message.metadata().message_id())),
                     *response.add_message_object_trees());
            delivered[message.metadata().message_id()] = message;
        }
        queue.clear();
        return answer_of(response);
    }

    Answer pull_object(const std::string& body) {
        fleet::PullObjectRequest request;
        request.ParseFromString(body);
        const std::string& id = request.object_id();
        fleet::PullObjectResponse response;
        const bool own_reply = self->reply && self->reply->id == id;
        const ObjectStore& from = own_reply ? self->replies : self->outgoing;
        response.set_object_found(own_reply || (!self->confirmed && self->outgoing.has(id)));
        response.set_object_available(response.object_found() && from.has(id) && id != self->unavailable);
        if (response.object_available()) {
            const auto object = must(from.load(id));
            response.set_object_content(make_object(object.head.type, object.head.children, object.body));
            self->pulled.push_back(id);
        }
        return answer_of(response);
    }

    Answer confirm(const std::string& body) {
        fleet::ConfirmMessageReceivedRequest request;
        request.ParseFromString(body);
        if (!delivered.contains(request.message_object_id())) return refused(404, "MESSAGE_NOT_FOUND");
        self->confirmed = true;
        return answer_of(fleet::ConfirmMessageReceivedResponse());
    }

    std::vector<std::string> missing() const {
        std::vector<std::string> ids = post_order(self->reply->tree);
        std::erase_if(ids, [&](const std::string& id) { return self->replies.has(id); });
        return ids;
    }

    Answer push_messages(const std::string& body) {
        fleet::PushMessagesRequest request;
        request.ParseFromString(body);
        fleet::PushMessagesResponse response;
        const fleet::Metadata& metadata = request.messages_list(0).metadata();
        const auto question = delivered.find(metadata.reply_to_message_id());
        bool wanted = question != delivered.end() && !self->refuse_replies && request.messages_list_size() == 1 &&
                      request.message_object_trees_size() == 1 && !answered.contains(metadata.reply_to_message_id());
        if (wanted) {
            const fleet::Metadata& asked = question->second.metadata();
            wanted = metadata.created_at() + metadata.ttl() <= asked.created_at() + asked.ttl() + 0.1 &&
                     metadata.src_node_id() == node_id && metadata.run_id() == asked.run_id();
        }
        if (wanted && self->reply && self->reply->id != metadata.message_id()) wanted = false;
        if (!wanted) {
            (*response.mutable_results())["None"] = 0;
            return answer_of(response);
        }
        const fleet::Message& message = request.messages_list(0);
        self->reply = ReplySeen{metadata.message_id(),    metadata.reply_to_message_id(),
                                metadata.message_type(),  message.failure().reason(),
                                message.failure().code(), metadata.created_at(),
                                metadata.ttl(),           metadata.src_node_id(),
                                metadata.dst_node_id(),   metadata.run_id(),
                                message.has_content(),    tree_of(request.message_object_trees(0))};
        (*response.mutable_results())[metadata.message_id()] = 0;
        for (const std::string& id : missing()) response.add_objects_to_push(id);
        if (v1) {
            session = "session-" + std::to_string(++sessions);
            response.set_session_id(session);
        }
        return answer_of(response);
    }

    Answer push_object(const std::string& body) {
        fleet::PushObjectRequest request;
        request.ParseFromString(body);
        fleet::PushObjectResponse response;
        const bool known = self->reply && [&] {
            const auto ids = post_order(self->reply->tree);
            return std::find(ids.begin(), ids.end(), request.object_id()) != ids.end();
        }();
        const bool in_session = !v1 || request.session_id() == session;
        const bool right = sha256_hex(request.object_content()) == request.object_id();
        const bool again = v1 && self->replies.has(request.object_id());
        response.set_stored(known && in_session && right && !again && self->replies.put(request.object_content()).ok());
        if (response.stored()) self->pushed.push_back(request.object_id());
        return answer_of(response);
    }
};

FleetServer::FleetServer(const std::filesystem::path& folder, bool v1, std::optional<ScriptedServer::Tls> tls)
    : replies(must(ObjectStore::open(folder / "replies"))),
      outgoing(must(ObjectStore::open(folder / "outgoing"))),
      state_(std::make_unique<State>()) {
    state_->self = this;
    state_->v1 = v1;
    state_->server = std::make_unique<ScriptedServer>([this](const Request& r) { return state_->serve(r); }, tls);
}
FleetServer::~FleetServer() { state_->server.reset(); }

std::string FleetServer::url() const { return state_->server->url(); }
int FleetServer::connections() const { return state_->server->connections(); }

std::string FleetServer::issue(const std::string& type, const std::map<std::string, std::filesystem::path>& arrays,
                               const fed::Record& config, double created_at, double ttl) {
    std::vector<std::pair<std::string, std::string>> names;
    for (const auto& [name, file] : arrays)
        names.emplace_back(name, must(encode_tensors(file, outgoing, fed::ChunkPlace::InStore)).tree.id);
    names.emplace_back("config", must(outgoing.put(fed::make_config_object(config))));
    const std::string dict = must(outgoing.put(make_name_object(ObjectType::RecordDict, names)));
    fleet::Message message;
    fleet::Metadata& metadata = *message.mutable_metadata();
    metadata.set_run_id(7);
    metadata.set_src_node_id(1);
    metadata.set_dst_node_id(state_->node_id);
    metadata.set_group_id("3");
    metadata.set_message_type(type);
    metadata.set_created_at(created_at);
    metadata.set_ttl(ttl);
    const std::string id = must(outgoing.put(make_object(ObjectType::Message, {dict}, message.SerializeAsString())));
    metadata.set_message_id(id);
    state_->queue.push_back(message);
    confirmed = false;
    return id;
}

bool FleetServer::take() {
    if (!reply || !state_->missing().empty()) return false;
    state_->answered.insert(reply->reply_to);
    reply.reset();
    return true;
}

void FleetServer::lapse_session() {
    if (reply && state_->missing().empty()) return;
    state_->session = "lapsed";
    if (reply) {
        for (const std::string& id : post_order(reply->tree)) {
            if (!replies.remove(id)) throw std::runtime_error("removing " + id);
        }
    }
    reply.reset();
}

void FleetServer::restart() { online = false; }
void FleetServer::forget_nodes() {
    online = false;
    state_->public_key.clear();
}

}  // namespace cardionode::test
