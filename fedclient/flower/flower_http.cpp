#include "fedclient/flower/flower_http.h"

#include <algorithm>
#include <chrono>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "conf/base/log.h"
#include "fedclient/flower/flower_transport.h"

namespace cardionode::fed {
namespace {

constexpr auto kKeepEnded = std::chrono::hours(14 * 24);
constexpr Milliseconds kFarewell{15'000};

}  // namespace

Result<std::unique_ptr<Transport>> make_flower_transport(TransportOptions options) {
    if (options.heartbeat_interval_seconds < 10 || options.heartbeat_interval_seconds > 1800)
        return config_error("heartbeat interval: expected 10 to 1800 seconds");
    for (const auto& [name, value] : options.extra_headers) {
        if (name.empty() || (name + value).find_first_of("\r\n") != std::string::npos)
            return config_error("extra header: expected a name and a value on one line");
    }
    auto key = NodeKey::load(options.node_key);
    if (!key) return std::move(key).error();
    if (auto made = make_folder(options.work); !made) return std::move(made).error();
    auto kept_options = std::make_unique<TransportOptions>(std::move(options));
    auto kept_key = std::make_unique<NodeKey>(std::move(key).value());
    auto client = FleetClient::create(*kept_options, *kept_key);
    if (!client) return std::move(client).error();
    return std::unique_ptr<Transport>(
        new FlowerTransport(std::move(kept_options), std::move(kept_key), std::move(client).value()));
}

double FlowerTransport::now_seconds() const {
    return static_cast<double>(surroundings().clock->now().time_since_epoch().count()) / 1000;
}

CallLimits FlowerTransport::limits(const Incoming* message) const {
    CallLimits limits{surroundings().clock->now() + options_->patience};
    if (options_->deadline) limits.until = std::min(limits.until, *options_->deadline);
    if (message) {
        const double end = message->created_at + message->ttl + client_.clock_skew_seconds().value_or(0);
        limits.until = std::min(limits.until, Moment(Milliseconds(static_cast<std::int64_t>(end * 1000))));
    }
    return limits;
}

FlowerTransport::RunState FlowerTransport::state_of_run(std::uint64_t run_id) {
    fleet::GetRunRequest request;
    if (node_id_) request.mutable_node()->set_node_id(*node_id_);
    request.set_run_id(run_id);
    CallLimits few = limits();
    few.tries_on_500 = 2;
    const auto called = client_.call<fleet::GetRunResponse>("get-run", request, few);
    if (!called || called->refusal || !called->response.has_run()) return RunState::Unknown;
    const std::string& status = called->response.run().status().status();
    if (status.empty()) return RunState::Unknown;
    return status.starts_with("finished") ? RunState::Over : RunState::Running;
}

Result<std::optional<std::uint64_t>> FlowerTransport::activate(int tries) {
    fleet::ActivateNodeRequest request;
    request.set_public_key(key_->public_pem());
    request.set_heartbeat_interval(options_->heartbeat_interval_seconds);
    CallLimits allowed = limits();
    allowed.tries_on_500 = tries;
    const auto called = client_.call<fleet::ActivateNodeResponse>("activate-node", request, allowed);
    if (!called) return called.error();
    if (called->refusal || called->response.node_id() == 0) return std::optional<std::uint64_t>();
    return std::optional<std::uint64_t>(called->response.node_id());
}

Result<bool> FlowerTransport::still_online(std::uint64_t node_id) {
    fleet::SendNodeHeartbeatRequest request;
    request.mutable_node()->set_node_id(node_id);
    request.set_heartbeat_interval(options_->heartbeat_interval_seconds);
    CallLimits allowed = limits();
    allowed.tries_on_500 = 1;
    const auto called = client_.call<fleet::SendNodeHeartbeatResponse>("send-node-heartbeat", request, allowed);
    if (!called) return called.error();
    return !called->refusal && called->response.success();
}

/// One attempt. A server may refuse to activate a node that it thinks is active: after kill -9 and a quick restart.
Result<bool> FlowerTransport::try_join() {
    auto active = activate(1);
    if (!active) return std::move(active).error();
    if (!*active) {
        if (const auto known = remembered_node()) {
            auto online = still_online(*known);
            if (!online) return std::move(online).error();
            if (*online) {
                node_id_ = known;
                return true;
            }
        }
        fleet::RegisterNodeRequest request;
        request.set_public_key(key_->public_pem());
        CallLimits allowed = limits();
        allowed.tries_on_500 = 1;
        const auto called = client_.call<fleet::RegisterNodeResponse>("register-node", request, allowed);
        if (!called) return called.error();
        if (called->refusal) return false;
        active = activate(3);
        if (!active) return std::move(active).error();
        if (!*active) return false;
    }
    node_id_ = **active;
    if (auto kept = remember_node(*node_id_); !kept) return std::move(kept).error();
    return true;
}

Result<void> FlowerTransport::join() {
    if (heartbeat_) return {};
    Backoff backoff(surroundings(), limits().until, Milliseconds(1000));
    while (true) {
        auto joined = try_join();
        if (!joined) return std::move(joined).error().in("joining");
        if (*joined) break;
        if (!backoff.wait()) {
            if (surroundings().stop()) return retry_error("joining: stopped");
            return config_error(
                "joining: the server neither activates nor registers this node: ask the consortium to "
                "register its public key");
        }
    }
    auto own_client = FleetClient::create(*options_, *key_);
    if (!own_client) return std::move(own_client).error();
    heartbeat_ = std::make_unique<Heartbeat>(std::move(own_client).value(), *node_id_, key_->public_pem(), *options_);
    log_info("fed_joined", {{"server", options_->http.url}});
    return {};
}

Result<void> FlowerTransport::remember_node(std::uint64_t node_id) {
    nlohmann::json node;
    node["public_key_sha256"] = sha256_hex(key_->public_pem());
    node["node_id"] = node_id;
    node["server"] = options_->http.url;
    return write_file_durably(options_->work / "node.json", node.dump(1) + "\n");
}

std::optional<std::uint64_t> FlowerTransport::remembered_node() const {
    const auto text = read_file(options_->work / "node.json");
    if (!text) return std::nullopt;
    const nlohmann::json node = nlohmann::json::parse(*text, nullptr, false);
    if (!node.is_object() || node.value("public_key_sha256", std::string()) != sha256_hex(key_->public_pem()) ||
        node.value("server", std::string()) != options_->http.url || !node.contains("node_id") ||
        !node["node_id"].is_number_unsigned())
        return std::nullopt;
    return node["node_id"].get<std::uint64_t>();
}

Result<std::uint64_t> FlowerTransport::node_id() const {
    if (node_id_) return *node_id_;
    if (const auto known = remembered_node()) return *known;
    return bug_error("the node has not joined");
}

/// What an earlier process was told and did not end; old ends are cleared away.
Result<void> FlowerTransport::collect_leftovers() {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(options_->work, error)) {
        const std::string id = entry.path().filename().string();
        if (!is_object_id(id)) continue;
        const MessageFolder folder(options_->work, id);
        const auto kept = folder.kept();
        const bool over =
            !kept || folder.marked("finished") || kept->incoming.created_at + kept->incoming.ttl < now_seconds();
        if (!over) {
            waiting_.push_back(kept->incoming);
            continue;
        }
        std::error_code ignored;  // a folder that cannot be removed is looked at again next night
        const auto age =
            std::filesystem::file_time_type::clock::now() - std::filesystem::last_write_time(entry, ignored);
        if (age > kKeepEnded) std::filesystem::remove_all(entry.path(), ignored);
    }
    if (error) return file_error("reading folder", options_->work, error.value());
    std::sort(waiting_.begin(), waiting_.end(), [](const Incoming& a, const Incoming& b) {
        return std::tie(a.created_at, a.message_id) < std::tie(b.created_at, b.message_id);
    });
    return {};
}

Result<std::optional<Incoming>> FlowerTransport::poll() {
    if (!looked_for_leftovers_) {
        if (auto looked = collect_leftovers(); !looked) return std::move(looked).error();
        looked_for_leftovers_ = true;
    }
    if (waiting_.empty()) {
        const auto node = node_id();
        if (!node) return node.error();
        fleet::PullMessagesRequest request;
        request.mutable_node()->set_node_id(*node);
        CallLimits allowed = limits();
        allowed.repeatable = false;
        const auto called = client_.call<fleet::PullMessagesResponse>("pull-messages", request, allowed);
        if (!called) return called.error();
        if (called->refusal) return retry_error(fmt::format("pull-messages: {}", called->refusal->text()));
        const fleet::PullMessagesResponse& response = called->response;
        // The server thinks now that everything in this answer is delivered: keep it before anything else.
        std::optional<Error> unusable;
        for (int i = 0; i < response.messages_list_size(); ++i) {
            const bool has_tree = i < response.message_object_trees_size();
            auto kept = MessageFolder::keep(options_->work, response.messages_list(i),
                                            has_tree ? response.message_object_trees(i) : fleet::ObjectTree());
            if (!kept) {
                log_error("fed_message_unusable", {{"reason", kept.error().message}});
                unusable = std::move(kept).error();
                continue;
            }
            auto incoming = kept->kept();
            if (!incoming) return std::move(incoming).error();
            waiting_.push_back(incoming->incoming);
        }
        if (waiting_.empty() && unusable) return *std::move(unusable);
    }
    if (waiting_.empty()) return std::optional<Incoming>();
    Incoming first = waiting_.front();
    waiting_.pop_front();
    return std::optional<Incoming>(std::move(first));
}

Result<void> FlowerTransport::finish(const Incoming& message, std::string_view how) {
    log_info("fed_message_ended", {{"message", message.message_id.substr(0, 12)}, {"end", how}});
    return MessageFolder(options_->work, message.message_id).mark("finished", how);
}

Result<Receipt> FlowerTransport::receipt(const Incoming& message) {
    const MessageFolder folder(options_->work, message.message_id);
    const auto node = node_id();
    if (!node) return node.error();
    const auto request = folder.reply();
    if (!request) return request.error();
    const std::string& id = request->messages_list(0).metadata().message_id();
    auto pulled = client_.pull_object(*node, message.run_id, id, nullptr, limits());
    if (!pulled) return std::move(pulled).error();
    if (!pulled->refusal && pulled->found) return Receipt::Waiting;
    Receipt result = Receipt::Taken;
    if (pulled->refusal) {
        const RunState state = state_of_run(message.run_id);
        if (state == RunState::Running)
            return retry_error(fmt::format("asking for a receipt: {}", pulled->refusal->text()));
        result = Receipt::RunOver;
    }
    if (auto ended = finish(message, result == Receipt::Taken ? "taken" : "run over"); !ended)
        return std::move(ended).error();
    return result;
}

Result<void> FlowerTransport::leave() {
    if (heartbeat_) {
        heartbeat_->stop();
        const HttpTotals beats = heartbeat_->totals();
        ended_heartbeats_.bytes_sent += beats.bytes_sent;
        ended_heartbeats_.bytes_received += beats.bytes_received;
        ended_heartbeats_.calls += beats.calls;
        ended_heartbeats_.connects += beats.connects;
        heartbeat_.reset();
    }
    if (!node_id_) return {};
    fleet::DeactivateNodeRequest request;
    request.set_node_id(*node_id_);
    CallLimits short_ones = limits();
    short_ones.until = std::min(short_ones.until, surroundings().clock->now() + kFarewell);
    const auto called = client_.call<fleet::DeactivateNodeResponse>("deactivate-node", request, short_ones);
    node_id_.reset();
    client_.close();
    if (!called) return Error(called.error()).in("leaving");
    if (called->refusal) return retry_error(fmt::format("leaving: {}", called->refusal->text()));
    return {};
}

TransferTotals FlowerTransport::totals() const {
    TransferTotals all;
    const auto add = [&](const HttpTotals& part) {
        all.bytes_sent += part.bytes_sent;
        all.bytes_received += part.bytes_received;
        all.calls += part.calls;
        all.reconnects += std::max<std::int64_t>(0, part.connects - 1);
    };
    add(client_.totals());
    add(heartbeat_ ? heartbeat_->totals() : HttpTotals{});
    add(ended_heartbeats_);
    all.download_bytes_per_second = client_.download_bytes_per_second();
    all.clock_skew_seconds = client_.clock_skew_seconds().value_or(0);
    return all;
}

}  // namespace cardionode::fed
