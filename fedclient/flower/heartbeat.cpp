#include "fedclient/flower/heartbeat.h"

#include <algorithm>

#include "conf/base/log.h"

namespace cardionode::fed {
namespace {

constexpr Milliseconds kAfterTrouble{5000};

}  // namespace

Heartbeat::Heartbeat(FleetClient client, std::uint64_t node_id, std::string public_pem, const TransportOptions& options)
    : client_(std::move(client)), node_id_(node_id), public_pem_(std::move(public_pem)), options_(&options) {
    pause_ = options.heartbeat_pause;
    if (pause_.count() <= 0)
        pause_ = Milliseconds(static_cast<std::int64_t>(options.heartbeat_interval_seconds * 1000 / 2));
    thread_ = std::thread([this] { run(); });
}

Heartbeat::~Heartbeat() { stop(); }

void Heartbeat::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

HttpTotals Heartbeat::totals() const {
    const std::lock_guard lock(mutex_);
    return totals_;
}

void Heartbeat::run() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
        changed_.wait_for(lock, trouble_ ? std::min(pause_, kAfterTrouble) : pause_, [this] { return stop_; });
        if (stop_) return;
        lock.unlock();
        try {
            beat();
        } catch (const std::exception& problem) {
            trouble_ = true;
            log_error("fed_heartbeat_failed", {{"reason", problem.what()}});
        }
        lock.lock();
        totals_ = client_.totals();
    }
}

void Heartbeat::beat() {
    const CallLimits once{options_->http.surroundings.clock->now(), 1, true};
    fleet::SendNodeHeartbeatRequest request;
    request.mutable_node()->set_node_id(node_id_);
    request.set_heartbeat_interval(options_->heartbeat_interval_seconds);
    const auto called = client_.call<fleet::SendNodeHeartbeatResponse>("send-node-heartbeat", request, once);
    if (called && !called->refusal && called->response.success()) {
        if (trouble_) log_info("fed_heartbeat_again");
        trouble_ = false;
        return;
    }
    const std::string reason = !called ? called.error().message : called->refusal ? called->refusal->text() : "offline";
    if (!trouble_) log_warning("fed_heartbeat_failed", {{"reason", reason}});
    trouble_ = true;
    if (!called) return;
    // The server has given the node up meanwhile, after a sleep of the machine for example.
    fleet::ActivateNodeRequest activate;
    activate.set_public_key(public_pem_);
    activate.set_heartbeat_interval(options_->heartbeat_interval_seconds);
    const auto active = client_.call<fleet::ActivateNodeResponse>("activate-node", activate, once);
    if (active && !active->refusal) log_info("fed_node_activated_again");
}

}  // namespace cardionode::fed
