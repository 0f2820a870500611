// The Transport over Fleet HTTP: its state. Private to fedclient/flower.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "fedclient/flower/fleet_client.h"
#include "fedclient/flower/flower_http.h"
#include "fedclient/flower/heartbeat.h"
#include "fedclient/flower/message_folder.h"

namespace cardionode::fed {

class FlowerTransport final : public Transport {
public:
    /// Both are heap objects, as clients keep their addresses.
    FlowerTransport(std::unique_ptr<TransportOptions> options, std::unique_ptr<NodeKey> key, FleetClient client)
        : options_(std::move(options)), key_(std::move(key)), client_(std::move(client)) {}

    Result<void> join() override;
    Result<std::optional<Incoming>> poll() override;
    Result<Pulled> fetch(const Incoming& message) override;
    Result<std::string> prepare(const Incoming& message, const Reply& reply) override;
    Result<PushOutcome> push(const Incoming& message) override;
    Result<Receipt> receipt(const Incoming& message) override;
    Result<void> leave() override;
    TransferTotals totals() const override;

private:
    enum class RunState { Running, Over, Unknown };

    const Surroundings& surroundings() const { return options_->http.surroundings; }
    double now_seconds() const;
    /// Until when a call may be repeated.
    CallLimits limits(const Incoming* message = nullptr) const;
    /// v0 says 500 when a run has ended: asks for the run itself.
    RunState state_of_run(std::uint64_t run_id);

    // flower_http.cpp
    Result<bool> try_join();
    Result<std::optional<std::uint64_t>> activate(int tries);
    Result<bool> still_online(std::uint64_t node_id);
    Result<void> remember_node(std::uint64_t node_id);
    std::optional<std::uint64_t> remembered_node() const;
    Result<std::uint64_t> node_id() const;
    Result<void> collect_leftovers();
    Result<void> finish(const Incoming& message, std::string_view how);

    // flower_fetch.cpp
    Result<void> fetch_objects(const MessageFolder::Kept& kept, const MessageFolder& folder, const ObjectStore& store);
    Result<void> fetch_object(const Incoming& message, const ObjectStore& store, const ObjectTree& node);
    Result<void> confirm(const Incoming& message);
    /// Whether the weights are there, from an earlier attempt or the cache; then their objects are not needed.
    Result<bool> has_weights(const MessageFolder& folder, const std::string& record_id);
    Result<void> cache_weights(const MessageFolder& folder, const std::string& record_id);

    // flower_push.cpp
    struct ReplySource;
    struct Progress {
        bool everything_sent = false;  ///< the server was sent all it asked for, once
        bool stored_some = false;      ///< by this offer
    };
    Result<std::optional<PushOutcome>> offer(const Incoming& message, const fleet::PushMessagesRequest& request,
                                             const ReplySource& source, Progress& progress);

    std::unique_ptr<TransportOptions> options_;
    std::unique_ptr<NodeKey> key_;
    FleetClient client_;
    std::unique_ptr<Heartbeat> heartbeat_;
    HttpTotals ended_heartbeats_;
    std::optional<std::uint64_t> node_id_;
    bool looked_for_leftovers_ = false;
    std::deque<Incoming> waiting_;  ///< kept on disk, not returned by poll() yet
};

}  // namespace cardionode::fed
