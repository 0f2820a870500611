#include "tests/fedclient/coordinator/scripted_node.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <signal.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <functional>
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/base64.h"
#include "conf/base/hash.h"
#include "fedclient/flower/objects.h"
#include "fedclient/flower/records.h"

namespace cardionode::test {

using namespace fed;  // NOLINT: a test

struct ScriptedNode::State {
    int port = 0;
    const Clock* clock = nullptr;
    bool v1 = false;
    std::optional<TlsIdentity> tls;
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key{nullptr, &EVP_PKEY_free};
    std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context{nullptr, &SSL_CTX_free};
    std::unique_ptr<BIO, decltype(&BIO_free_all)> connection{nullptr, &BIO_free_all};

    bool connect() {
        const auto place = fmt::format("127.0.0.1:{}", port);
        if (tls) {
            context.reset(SSL_CTX_new(TLS_client_method()));
            SSL_CTX_set_min_proto_version(context.get(), tls->version);
            SSL_CTX_set_max_proto_version(context.get(), tls->version);
            SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
            SSL_CTX_load_verify_locations(context.get(), tls->ca.c_str(), nullptr);
            if (!tls->certificate.empty()) {
                SSL_CTX_use_certificate_chain_file(context.get(), tls->certificate.c_str());
                SSL_CTX_use_PrivateKey_file(context.get(), tls->key.c_str(), SSL_FILETYPE_PEM);
            }
            connection.reset(BIO_new_ssl_connect(context.get()));
            BIO_set_conn_hostname(connection.get(), place.c_str());
        } else {
            connection.reset(BIO_new_connect(place.c_str()));
        }
        return BIO_do_connect(connection.get()) == 1;
    }
};

ScriptedNode::ScriptedNode(int port, const Clock& clock, bool v1, std::optional<TlsIdentity> tls)
    : state_(std::make_unique<State>()) {
    signal(SIGPIPE, SIG_IGN);  // a server that closes first is an answer
    state_->port = port;
    state_->clock = &clock;
    state_->v1 = v1;
    state_->tls = std::move(tls);
    state_->key.reset(EVP_EC_gen("P-384"));
    if (!state_->key) throw std::runtime_error("no key");
}
ScriptedNode::~ScriptedNode() = default;
ScriptedNode::ScriptedNode(ScriptedNode&&) noexcept = default;

std::string ScriptedNode::public_key() const {
    const std::unique_ptr<BIO, decltype(&BIO_free_all)> out(BIO_new(BIO_s_mem()), &BIO_free_all);
    PEM_write_bio_PUBKEY(out.get(), state_->key.get());
    char* data = nullptr;
    const long length = BIO_get_mem_data(out.get(), &data);
    return {data, static_cast<std::size_t>(length)};
}

Answer ScriptedNode::post(const std::string& path, const std::string& body,
                          const std::map<std::string, std::string>& headers) {
    std::string request =
        fmt::format("POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n", path, body.size());
    for (const auto& [name, value] : headers) request += name + ": " + value + "\r\n";
    request += "\r\n" + body;
    Answer answer;
    if (!state_->connection && !state_->connect()) {
        state_->connection.reset();
        return answer;
    }
    for (std::size_t sent = 0; sent < request.size();) {
        const int n =
            BIO_write(state_->connection.get(), request.data() + sent, static_cast<int>(request.size() - sent));
        if (n <= 0) {
            state_->connection.reset();
            return answer;
        }
        sent += static_cast<std::size_t>(n);
    }
    std::string text;
    std::size_t head = std::string::npos, length = 0;
    while (head == std::string::npos || text.size() < head + length) {
        char buffer[16384];
        const int n = BIO_read(state_->connection.get(), buffer, sizeof buffer);
        if (n <= 0) {
            state_->connection.reset();
            answer.cut = head != std::string::npos;
            return answer;
        }
        text.append(buffer, static_cast<std::size_t>(n));
        if (head != std::string::npos || (head = text.find("\r\n\r\n")) == std::string::npos) continue;
        answer.status = std::stoi(text.substr(9, 3));
        for (std::size_t at = text.find("\r\n") + 2; at < head;) {
            const auto end = std::min(text.find("\r\n", at), head), colon = text.find(':', at);
            std::string name = text.substr(at, colon - at);
            for (auto& c : name) c = static_cast<char>(std::tolower(c));
            answer.headers[name] = text.substr(colon + 2, end - colon - 2);
            at = end + 2;
        }
        head += 4;
        length = answer.headers.contains("content-length") ? std::stoul(answer.headers["content-length"]) : 0;
    }
    answer.body = text.substr(head, length);
    if (answer.headers["connection"] == "close") state_->connection.reset();
    return answer;
}

Answer ScriptedNode::ask(const std::string& call, const std::string& body) {
    std::map<std::string, std::string> headers = {{"Content-Type", "application/protobuf"},
                                                  {"Accept", "application/protobuf"}};
    if (state_->v1) {
        std::string moment =
            to_iso8601(state_->clock->now() + Milliseconds(static_cast<std::int64_t>(signed_ahead_seconds * 1000)));
        moment.replace(moment.size() - 1, 1, "000+00:00");  // microseconds, as Python writes them
        const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
        EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, state_->key.get());
        std::size_t length = 512;
        std::string signature(length, '\0');
        const std::string text = sign_wrong ? moment + "x" : moment;
        EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &length,
                       reinterpret_cast<const unsigned char*>(text.data()), text.size());
        signature.resize(length);
        headers["flwr-public-key"] = to_base64(public_key());
        headers["flwr-timestamp"] = moment;
        headers["flwr-signature"] = to_base64(signature);
    }
    return post((state_->v1 ? "/v1/fleet/" : "/api/v0/fleet/") + call, body, headers);
}

bool ScriptedNode::enroll() {
    fleet::RegisterNodeRequest request;
    request.set_public_key(public_key());
    return call<fleet::RegisterNodeResponse>("register-node", request).has_value();
}

bool ScriptedNode::join(double heartbeat_seconds) {
    fleet::ActivateNodeRequest request;
    request.set_public_key(public_key());
    request.set_heartbeat_interval(heartbeat_seconds);
    const auto response = call<fleet::ActivateNodeResponse>("activate-node", request);
    if (!response) return false;
    node_id = response->node_id();
    return true;
}

bool ScriptedNode::heartbeat(double heartbeat_seconds) {
    fleet::SendNodeHeartbeatRequest request;
    request.mutable_node()->set_node_id(node_id);
    request.set_heartbeat_interval(heartbeat_seconds);
    const auto response = call<fleet::SendNodeHeartbeatResponse>("send-node-heartbeat", request);
    return response && response->success();
}

void ScriptedNode::leave() {
    fleet::DeactivateNodeRequest request;
    request.set_node_id(node_id);
    call<fleet::DeactivateNodeResponse>("deactivate-node", request);
}

std::optional<fleet::Message> ScriptedNode::pull() {
    fleet::PullMessagesRequest request;
    request.mutable_node()->set_node_id(node_id);
    const auto response = call<fleet::PullMessagesResponse>("pull-messages", request);
    if (!response || response->messages_list_size() == 0) return std::nullopt;
    message = response->messages_list(0);
    tree = response->message_object_trees(0);
    objects.clear();
    return message;
}

fleet::PullObjectResponse ScriptedNode::pull_object(const std::string& id) {
    fleet::PullObjectRequest request;
    request.mutable_node()->set_node_id(node_id);
    request.set_run_id(message.metadata().run_id());
    request.set_object_id(id);
    return call<fleet::PullObjectResponse>("pull-object", request).value_or(fleet::PullObjectResponse());
}

void ScriptedNode::fetch() {
    const std::function<void(const fleet::ObjectTree&)> walk = [&](const fleet::ObjectTree& node) {
        const auto response = pull_object(node.object_id());
        if (!response.object_available() || sha256_hex(response.object_content()) != node.object_id())
            throw std::runtime_error("object " + node.object_id() + " did not come");
        objects[node.object_id()] = response.object_content();
        for (const auto& child : node.children()) walk(child);
    };
    walk(tree);
}

void ScriptedNode::confirm() {
    fleet::ConfirmMessageReceivedRequest request;
    request.mutable_node()->set_node_id(node_id);
    request.set_run_id(message.metadata().run_id());
    request.set_message_object_id(message.metadata().message_id());
    call<fleet::ConfirmMessageReceivedResponse>("confirm-message-received", request);
}

std::map<std::string, std::string> ScriptedNode::record_ids() const {
    const auto dict = parse_object(objects.at(tree.children(0).object_id())).value();
    std::map<std::string, std::string> ids;
    const auto body = nlohmann::json::parse(dict.body);
    for (const auto& [name, id] : body.items()) ids[name] = id.get<std::string>();
    return ids;
}

Record ScriptedNode::config() const {
    return parse_record_object(parse_object(objects.at(record_ids().at("config"))).value()).value();
}

std::map<std::string, std::vector<float>> ScriptedNode::arrays(const std::string& record) const {
    std::map<std::string, std::vector<float>> weights;
    const auto ids = nlohmann::json::parse(parse_object(objects.at(record_ids().at(record))).value().body);
    for (const auto& [name, id] : ids.items()) {
        const auto array = parse_object(objects.at(id.get<std::string>())).value();
        std::string npy;
        const auto body = nlohmann::json::parse(array.body);
        for (const auto& index : body["arraychunk_ids"])
            npy += parse_object(objects.at(array.head.children.at(index.get<std::size_t>()))).value().body;
        const std::size_t start =
            10 + static_cast<unsigned char>(npy.at(8)) + 256U * static_cast<unsigned char>(npy.at(9));
        auto& values = weights[name];
        values.resize((npy.size() - start) / sizeof(float));
        std::memcpy(values.data(), npy.data() + start, values.size() * sizeof(float));
    }
    return weights;
}

namespace {

fleet::ObjectTree& add(ReplyObjects& reply, fleet::ObjectTree& tree, const std::string& bytes) {
    const auto id = sha256_hex(bytes);
    if (reply.bytes.emplace(id, bytes).second) reply.order.push_back(id);
    tree.set_object_id(id);
    return tree;
}

std::string npy_of(const std::vector<float>& values) {
    std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", values.size());
    header.append(64 - (10 + header.size() + 1) % 64, ' ');
    header += '\n';
    std::string npy("\x93NUMPY\x01\x00", 8);
    npy += static_cast<char>(header.size() % 256);
    npy += static_cast<char>(header.size() / 256);
    npy += header;
    return npy.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

}  // namespace

ReplyObjects ScriptedNode::make_reply(const std::map<std::string, std::vector<float>>& weights,
                                      const Record& metrics) const {
    ReplyObjects reply;
    std::vector<std::pair<std::string, std::string>> names;
    fleet::ObjectTree dict;
    if (!weights.empty()) {
        auto& record = *dict.add_children();
        nlohmann::json ids;
        std::vector<std::string> children;
        for (const auto& [name, values] : weights) {
            fleet::ObjectTree chunk, array;
            add(reply, chunk, make_object(ObjectType::ArrayChunk, {}, npy_of(values)));
            const nlohmann::json body = {
                {"dtype", "float32"}, {"shape", {values.size()}}, {"stype", "numpy.ndarray"}, {"arraychunk_ids", {0}}};
            add(reply, array, make_object(ObjectType::Array, {chunk.object_id()}, body.dump()));
            *array.add_children() = chunk;
            ids[name] = array.object_id();
            if (std::find(children.begin(), children.end(), array.object_id()) != children.end()) continue;
            children.push_back(array.object_id());
            *record.add_children() = array;
        }
        add(reply, record, make_object(ObjectType::ArrayRecord, children, ids.dump()));
        names.emplace_back("arrays", record.object_id());
    }
    add(reply, *dict.add_children(), make_metric_object(metrics).value());
    names.emplace_back("metrics", dict.children(dict.children_size() - 1).object_id());
    nlohmann::json body;
    std::vector<std::string> children;
    for (const auto& [name, id] : names) {
        body[name] = id;
        children.push_back(id);
    }
    add(reply, dict, make_object(ObjectType::RecordDict, children, body.dump()));
    *reply.tree.add_children() = dict;
    return wrap(std::move(reply));
}

ReplyObjects ScriptedNode::make_failure(const std::string& reason) const {
    ReplyObjects reply;
    reply.message.mutable_failure()->set_code(2);
    reply.message.mutable_failure()->set_reason(reason);
    return wrap(std::move(reply));
}

ReplyObjects ScriptedNode::wrap(ReplyObjects reply) const {
    const auto& asked = message.metadata();
    auto& metadata = *reply.message.mutable_metadata();
    metadata.set_run_id(asked.run_id());
    metadata.set_src_node_id(node_id);
    metadata.set_dst_node_id(1);
    metadata.set_reply_to_message_id(asked.message_id());
    metadata.set_group_id(asked.group_id());
    metadata.set_message_type(asked.message_type());
    const double now = static_cast<double>(state_->clock->now().time_since_epoch().count()) / 1000;
    metadata.set_created_at(now);
    metadata.set_ttl(asked.created_at() + asked.ttl() - now);
    seal(reply);
    return reply;
}

void ScriptedNode::seal(ReplyObjects& reply) {
    if (!reply.id.empty()) {
        reply.bytes.erase(reply.id);
        std::erase(reply.order, reply.id);
    }
    fleet::Message bare = reply.message;
    bare.mutable_metadata()->clear_message_id();
    bare.clear_content();
    std::vector<std::string> children;
    for (const auto& child : reply.tree.children()) children.push_back(child.object_id());
    add(reply, reply.tree, make_object(ObjectType::Message, children, bare.SerializeAsString()));
    reply.id = reply.tree.object_id();
    reply.message.mutable_metadata()->set_message_id(reply.id);
    reply.message.mutable_content();
}

fleet::PushMessagesResponse ScriptedNode::push_messages(const ReplyObjects& reply) {
    fleet::PushMessagesRequest request;
    request.mutable_node()->set_node_id(node_id);
    *request.add_messages_list() = reply.message;
    *request.add_message_object_trees() = reply.tree;
    auto response = call<fleet::PushMessagesResponse>("push-messages", request).value_or(fleet::PushMessagesResponse());
    session = response.session_id();
    return response;
}

bool ScriptedNode::push_object(const std::string& id, const std::string& bytes) {
    fleet::PushObjectRequest request;
    request.mutable_node()->set_node_id(node_id);
    request.set_run_id(message.metadata().run_id());
    request.set_object_id(id);
    request.set_object_content(bytes);
    request.set_session_id(session);
    const auto response = call<fleet::PushObjectResponse>("push-object", request);
    return response && response->stored();
}

bool ScriptedNode::push(const ReplyObjects& reply) {
    const auto response = push_messages(reply);
    if (!response.results().contains(reply.id)) return false;
    for (const auto& id : response.objects_to_push()) push_object(id, reply.bytes.at(id));
    return push_messages(reply).objects_to_push_size() == 0;
}

}  // namespace cardionode::test
