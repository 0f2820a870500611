// The parent process: listens, forks a process for each connection before a byte of it is read, keeps the times and
// the limits, and keeps the indexer alive. It parses nothing that comes from the network.
//
// Single-threaded. Silent peers cost a sleeping process each, up to kMaxSilentConnections, and delay nobody.
// SIGTERM: stops listening, lets open associations finish for kDrainTime, then ends them, then lets the indexer finish.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/files.h"
#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "conf/base/service_manager.h"
#include "scp/audit/trail.h"
#include "scp/server/peer_rules.h"
#include "scp/server/shared_state.h"
#include "scp/server/side_process.h"
#include "scp/store/spool.h"

namespace cardionode {

class Supervisor {
public:
    /// Listens and takes the spool. Config: port in use or forbidden, spool unusable or in use, queue unusable.
    static Result<Supervisor> create(const NodeSettings& settings);
    Supervisor(Supervisor&&) noexcept;
    ~Supervisor();

    /// Until SIGTERM or SIGINT. @return exit code. A forked child returns from here as well, with its own.
    int run();

private:
    using SteadyTime = std::chrono::steady_clock::time_point;
    struct Child {
        Slot* slot = nullptr;
        std::string peer_address;
        SteadyTime started{};
        std::optional<SteadyTime> leaving_since;
        bool killed = false;
    };

    Supervisor() = default;
    bool in_child() const { return child_exit_.has_value(); }
    void accept_connections();
    void start_child(FileDescriptor socket, std::string peer_address);
    void start_indexer();
    void start_side_processes();
    void close_parents_files();
    void reap();
    void enforce_deadlines();
    void look_at_free_space();
    void drain();
    void handle_signals();

    NodeSettings settings_;
    std::optional<PeerRules> rules_;
    Spool spool_;
    FileDescriptor lock_;
    FileDescriptor listener_;
    FileDescriptor signals_;
    FileDescriptor wake_indexer_;
    FileDescriptor metrics_listener_;
    SharedState* shared_ = nullptr;
    AuditTrail audit_;
    std::vector<SideProcess> side_processes_;
    ServiceManager manager_;
    std::map<int, Child> children_;  ///< by process id
    int indexer_ = -1;
    SteadyTime indexer_started_{};
    SteadyTime indexer_next_{};
    std::chrono::milliseconds indexer_pause_{0};
    std::optional<SteadyTime> draining_since_;
    bool ending_children_ = false;
    SteadyTime space_looked_at_{};
    SteadyTime crowd_logged_at_{};
    std::optional<int> child_exit_;
};

}  // namespace cardionode
