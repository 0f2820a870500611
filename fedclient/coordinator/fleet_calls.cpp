#include "fedclient/coordinator/fleet_calls.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "fedclient/coordinator/node_signature.h"
#include "fedclient/coordinator/random_id.h"

namespace cardionode::fed {
namespace {

constexpr double kLongestHeartbeatSeconds = 1800;
constexpr std::string_view kV0 = "/api/v0/fleet/", kV1 = "/v1/fleet/";

std::string header(const HttpQuestion& question, const std::string& name) {
    const auto found = question.headers.find(name);
    return found == question.headers.end() ? std::string() : found->second;
}

Milliseconds seconds(double value) { return Milliseconds(static_cast<std::int64_t>(value * 1000)); }

}  // namespace

Result<std::unique_ptr<FleetCalls>> FleetCalls::create(const RunSettings& settings, CoordinatorStore& store,
                                                       const ObjectStore& objects, Faults& faults, const Clock& clock) {
    std::unique_ptr<FleetCalls> calls(new FleetCalls(settings, store, objects, faults, clock));
    for (const auto& site : settings.sites) {
        const auto pem = read_file(site.public_key);
        if (!pem) return pem.error();
        const auto id = key_id_of(*pem);
        if (!id) return config_error(fmt::format("{}: {}", site.public_key.string(), id.error().message));
        calls->sites_[*id] = site.name;
    }
    return calls;
}

Moment FleetCalls::now() const { return clock_.now() + seconds(faults_.argument("skew")); }

HttpReply FleetCalls::handle(const HttpQuestion& question) {
    Call call{Dialect::V1, {}, {}, {}, question, now(), {}, false};
    if (question.target.starts_with(kV0)) {
        call.dialect = Dialect::V0;
        call.name = question.target.substr(kV0.size());
    } else if (question.target.starts_with(kV1)) {
        call.name = question.target.substr(kV1.size());
    } else {
        return {404, "text/plain", "Not Found\n"};
    }
    HttpReply reply;
    if (faults_.take("drop-connection")) reply.drop = true;
    else if (faults_.take("http-500")) reply = {500, "text/plain", "Internal Server Error"};
    else if (faults_.take("http-502")) reply = {502, "text/html", "<html><h1>502 Bad Gateway</h1></html>"};
    else {
        reply = carry_out(call);
        spoil(call, reply);
    }
    if (const auto delay = faults_.take("slow")) reply.delay_seconds = *delay;
    if (!reply.drop && faults_.take("stale-connection")) reply.close_silently = true;
    return reply;
}

/// Faults of answers whose call was carried out.
void FleetCalls::spoil(const Call& call, HttpReply& reply) {
    const bool object_call = call.name == "pull-object" || call.name == "push-object";
    if (reply.status != 200 || call.spoiled) return;
    if (call.name == "pull-messages" && !reply.body.empty() && faults_.take("drop-pull-answer")) reply.drop = true;
    else if (call.name == "push-messages" && faults_.take("drop-push-answer")) reply.drop = true;
    else if (object_call && faults_.take("drop-object-answer")) reply.drop = true;
    else if (call.name == "pull-object" && reply.body.size() > 8 && faults_.take("truncated-answer")) reply.cut = true;
}

HttpReply FleetCalls::refused(const Call& call, const Refusal& refusal) const {
    log_info("call_refused", {{"call", call.name}, {"status", refusal.status}, {"reason", refusal.detail}});
    if (call.dialect == Dialect::V0)
        return {refusal.status == 403 || refusal.status == 404 ? refusal.status : 500, "text/plain",
                "Internal Server Error"};
    const nlohmann::json body = {{"detail", refusal.detail}, {"code", refusal.code}, {"extra", nullptr}};
    return {refusal.status, "application/json", body.dump()};
}

template <class Request, class Response>
HttpReply FleetCalls::typed(Call& call, Result<Response> (FleetCalls::*method)(Call&, const Request&)) {
    Request request;
    if (!request.ParseFromString(call.question.body))
        return refused(call, {400, "INVALID_REQUEST", "the body is no protobuf of this call"});
    auto response = (this->*method)(call, request);
    if (call.refusal) return refused(call, *call.refusal);
    if (!response) {
        log_error(
            "call_failed",
            {{"call", call.name}, {"kind", to_string(response.error().kind)}, {"reason", response.error().message}});
        return refused(call, {response.error().kind == ErrorKind::Retry ? 503 : 500, "INTERNAL", "internal error"});
    }
    HttpReply reply;
    reply.body = response->SerializeAsString();
    return reply;
}

HttpReply FleetCalls::carry_out(Call& call) {
    if (call.question.method != "POST") return {405, "text/plain", "Method Not Allowed"};
    if (header(call.question, "content-type") != "application/protobuf")
        return {415, "text/plain", "Unsupported Media Type"};
    if (call.dialect == Dialect::V1) {
        const auto key =
            check_signed_headers(header(call.question, "flwr-public-key"), header(call.question, "flwr-timestamp"),
                                 header(call.question, "flwr-signature"), call.now);
        if (!key) return refused(call, {401, "UNAUTHENTICATED", key.error().message});
        call.key_id = *key;
    }
    if (call.name == "register-node") return typed(call, &FleetCalls::register_node);
    if (call.name == "activate-node") return typed(call, &FleetCalls::activate_node);
    if (call.name == "deactivate-node") return typed(call, &FleetCalls::deactivate_node);
    if (call.name == "unregister-node") return typed(call, &FleetCalls::unregister_node);
    if (call.name == "send-node-heartbeat") return typed(call, &FleetCalls::heartbeat);
    if (call.name == "pull-messages") return typed(call, &FleetCalls::pull_messages);
    if (call.name == "pull-object") return typed(call, &FleetCalls::pull_object);
    if (call.name == "confirm-message-received") return typed(call, &FleetCalls::confirm);
    if (call.name == "push-messages") return typed(call, &FleetCalls::push_messages);
    if (call.name == "push-object") return typed(call, &FleetCalls::push_object);
    if (call.name == "get-run") return typed(call, &FleetCalls::get_run);
    return {404, "text/plain", "Not Found\n"};
}

/// The name under which a key's owner stands in logs.
Result<std::string> FleetCalls::site_of(Call& call, const std::string& key_id) {
    if (const auto found = sites_.find(key_id); found != sites_.end()) return found->second;
    if (!sites_.empty()) {
        call.refusal = Refusal{403, "NODE_NOT_ALLOWED", "this public key is not in the list of sites"};
        return std::string();
    }
    const auto& name = call.question.client_name;
    return is_site_name(name) ? name : "site-" + key_id.substr(0, 8);
}

bool FleetCalls::own_key(Call& call, const std::string& key_id) {
    if (call.dialect == Dialect::V0 || call.key_id == key_id) return true;
    call.refusal = Refusal{401, "UNAUTHENTICATED", "public_key is another one than that of the headers"};
    return false;
}

bool FleetCalls::heartbeat_allowed(Call& call, double interval) {
    if (interval >= settings_.server.shortest_heartbeat_seconds && interval <= kLongestHeartbeatSeconds) return true;
    call.refusal = Refusal{400, "INVALID_REQUEST",
                           fmt::format("heartbeat_interval {} is not within {} to {} s", interval,
                                       settings_.server.shortest_heartbeat_seconds, kLongestHeartbeatSeconds)};
    return false;
}

/// v1: the caller must be the node; v0 lets anybody speak for any node, as Flower's REST does.
bool FleetCalls::is_node(Call& call, std::uint64_t node_id) {
    if (call.dialect == Dialect::V0) return true;
    const auto node = store_.node(node_id);
    if (node && *node && (*node)->key_id == call.key_id) return true;
    call.refusal = Refusal{401, "UNAUTHENTICATED", "the signing key is not that of the node"};
    return false;
}

bool FleetCalls::run_is_running(Call& call, std::uint64_t run_id) {
    const auto run = store_.run();
    if (run && *run && (*run)->id == run_id && (*run)->status == "running") return true;
    call.refusal = Refusal{409, "RUN_NOT_RUNNING", "the run is not running"};
    return false;
}

Result<fleet::RegisterNodeResponse> FleetCalls::register_node(Call& call, const fleet::RegisterNodeRequest& request) {
    fleet::RegisterNodeResponse response;
    const auto key_id = key_id_of(request.public_key());
    if (!key_id) {
        call.refusal = Refusal{400, "INVALID_REQUEST", key_id.error().message};
        return response;
    }
    if (!own_key(call, *key_id)) return response;
    const auto known = store_.node_of_key(*key_id);
    if (!known) return known.error();
    if (*known) {
        call.refusal = Refusal{409, "NODE_ALREADY_REGISTERED", "this public key is registered already"};
        return response;
    }
    const auto site = site_of(call, *key_id);
    if (!site) return site.error();
    if (call.refusal) return response;
    NodeRow node;
    node.id = random_id();
    node.key_id = *key_id;
    node.site = *site;
    node.last_seen = call.now;
    if (auto done = store_.put_node(node); !done) return std::move(done).error();
    log_info("node_registered", {{"site", node.site}});
    response.set_node_id(node.id);
    return response;
}

Result<fleet::ActivateNodeResponse> FleetCalls::activate_node(Call& call, const fleet::ActivateNodeRequest& request) {
    fleet::ActivateNodeResponse response;
    const auto key_id = key_id_of(request.public_key());
    if (!key_id) {
        call.refusal = Refusal{400, "INVALID_REQUEST", key_id.error().message};
        return response;
    }
    if (!own_key(call, *key_id)) return response;
    auto node = store_.node_of_key(*key_id);
    if (!node) return std::move(node).error();
    if (!*node) {
        // What a consortium's administrator registered needs no call of its own.
        if (sites_.empty()) {
            call.refusal = Refusal{404, "NODE_NOT_FOUND", "this public key is not registered"};
            if (call.dialect == Dialect::V0) call.refusal->status = 500;
            return response;
        }
        const auto site = site_of(call, *key_id);
        if (!site) return site.error();
        if (call.refusal) return response;
        *node = NodeRow{random_id(), *key_id, *site, 30, {}, {}};
    }
    if (!heartbeat_allowed(call, request.heartbeat_interval())) return response;
    (*node)->interval_seconds = request.heartbeat_interval();
    (*node)->last_seen = call.now;
    (*node)->online_until = call.now + seconds(2 * request.heartbeat_interval());
    if (auto done = store_.put_node(**node); !done) return std::move(done).error();
    log_info("node_online", {{"site", (*node)->site}});
    response.set_node_id((*node)->id);
    return response;
}

Result<fleet::DeactivateNodeResponse> FleetCalls::deactivate_node(Call& call,
                                                                  const fleet::DeactivateNodeRequest& request) {
    if (!is_node(call, request.node_id())) return fleet::DeactivateNodeResponse();
    auto node = store_.node(request.node_id());
    if (!node) return std::move(node).error();
    if (!*node) {
        call.refusal = Refusal{404, "NODE_NOT_FOUND", "there is no such node"};
        return fleet::DeactivateNodeResponse();
    }
    (*node)->online_until = (*node)->last_seen = call.now;
    if (auto done = store_.put_node(**node); !done) return std::move(done).error();
    log_info("node_offline", {{"site", (*node)->site}});
    return fleet::DeactivateNodeResponse();
}

Result<fleet::UnregisterNodeResponse> FleetCalls::unregister_node(Call& call,
                                                                  const fleet::UnregisterNodeRequest& request) {
    if (!is_node(call, request.node_id())) return fleet::UnregisterNodeResponse();
    if (auto done = store_.remove_node(request.node_id()); !done) return std::move(done).error();
    return fleet::UnregisterNodeResponse();
}

Result<fleet::SendNodeHeartbeatResponse> FleetCalls::heartbeat(Call& call,
                                                               const fleet::SendNodeHeartbeatRequest& request) {
    fleet::SendNodeHeartbeatResponse response;
    if (!is_node(call, request.node().node_id())) return response;
    auto node = store_.node(request.node().node_id());
    if (!node) return std::move(node).error();
    if (!*node) return response;  // success=false: unknown
    if (!heartbeat_allowed(call, request.heartbeat_interval())) return response;
    const bool lost = faults_.take("offline").has_value();
    (*node)->interval_seconds = request.heartbeat_interval();
    (*node)->last_seen = call.now;
    (*node)->online_until = lost ? call.now : call.now + seconds(2 * request.heartbeat_interval());
    if (auto done = store_.put_node(**node); !done) return std::move(done).error();
    response.set_success(!lost);
    return response;
}

Result<fleet::GetRunResponse> FleetCalls::get_run(Call& call, const fleet::GetRunRequest& request) {
    fleet::GetRunResponse response;
    if (!is_node(call, request.node().node_id())) return response;
    const auto run = store_.run();
    if (!run) return run.error();
    if (!*run || (*run)->id != request.run_id()) {
        call.refusal = Refusal{404, "RUN_NOT_FOUND", "there is no such run"};
        return response;
    }
    response.mutable_run()->set_run_id((*run)->id);
    response.mutable_run()->mutable_status()->set_status((*run)->status);
    return response;
}

}  // namespace cardionode::fed
