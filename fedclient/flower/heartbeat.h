// Tells the server on a thread and a connection of its own that the node is there, also while the caller trains.
// Private to fedclient/flower. Thread safety: any thread may call. No exception ends the thread.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "fedclient/flower/fleet_client.h"

namespace cardionode::fed {

class Heartbeat {
public:
    /// The node is active already; the first beat comes after one pause.
    Heartbeat(FleetClient client, std::uint64_t node_id, std::string public_pem, const TransportOptions& options);
    ~Heartbeat();  ///< stops
    Heartbeat(const Heartbeat&) = delete;
    Heartbeat& operator=(const Heartbeat&) = delete;

    void stop();
    HttpTotals totals() const;

private:
    void run();
    void beat();

    FleetClient client_;
    const std::uint64_t node_id_;
    const std::string public_pem_;
    const TransportOptions* options_;
    Milliseconds pause_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool stop_ = false;
    HttpTotals totals_;
    bool trouble_ = false;  ///< of the thread alone
    std::thread thread_;
};

}  // namespace cardionode::fed
