// The parent process: listens, forks a process for each connection that has sent something, before a byte of it is
// read, keeps the times and the limits, and keeps the processes beside them alive (indexer, reporter, audit sender,
// metrics). It parses nothing that comes from the network.
//
// Single-threaded. Silent peers cost a socket each (waiting_room.h), those that stall later a sleeping process, up to
// kMaxSilentConnections together, and delay nobody.
// SIGHUP: reads the settings again (reload.h); connections that are open go on with what they began with.
// SIGTERM: stops listening, lets open associations finish for kDrainTime, then ends them, then lets the indexer finish.
#pragma once

#include <array>
#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/files.h"
#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "conf/base/service_manager.h"
#include "scp/audit/trail.h"
#include "scp/dicom/tls.h"
#include "scp/server/peer_rules.h"
#include "scp/server/shared_state.h"
#include "scp/server/side_process.h"
#include "scp/server/waiting_room.h"
#include "scp/store/spool.h"

namespace cardionode {

class Supervisor {
public:
    /// Listens and takes the spool. Config: port in use or forbidden, spool unusable or in use, queue unusable, TLS
    /// files that cannot be used.
    /// @param file  where the settings came from, and come from again at SIGHUP
    static Result<Supervisor> create(const NodeSettings& settings, std::filesystem::path file);
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
        std::chrono::seconds association_timeout{};  ///< as it was when it began: a reload does not end it
        std::chrono::seconds silence{};
        std::optional<SteadyTime> leaving_since;
        bool killed = false;
    };

    Supervisor() = default;
    bool in_child() const { return child_exit_.has_value(); }
    void accept_connections(const FileDescriptor& listener, bool tls);
    void admit(FileDescriptor socket, std::string peer_address, bool tls);
    void serve_waiting();
    void dismiss(const WaitingRoom::Guest& guest, std::string_view reason);
    void start_child(WaitingRoom::Guest guest);
    void close_own_files();
    std::array<SideProcess*, 4> side_processes() { return {&indexer_, &reporter_, &audit_sender_, &metrics_}; }
    void start_side_processes();
    void reap();
    void enforce_deadlines();
    void look_at_free_space();
    void drain();
    void handle_signals();
    void reload();
    void look_at_certificate();
    std::string where_it_listens() const;

    NodeSettings settings_;
    std::filesystem::path file_;
    std::optional<PeerRules> rules_;
    std::optional<TlsContext> tls_;  ///< none: plain connections alone
    Spool spool_;
    FileDescriptor lock_;
    FileDescriptor listener_;  ///< plain
    FileDescriptor tls_listener_;
    FileDescriptor signals_;
    FileDescriptor wake_indexer_;
    FileDescriptor metrics_listener_;
    SharedState* shared_ = nullptr;
    AuditTrail audit_;
    ServiceManager manager_;
    WaitingRoom waiting_;
    std::vector<WaitingRoom::Guest> serving_;  ///< out of it, and on the way to a process
    std::map<int, Child> children_;            ///< by process id
    SideProcess indexer_, reporter_, audit_sender_, metrics_;
    std::optional<SteadyTime> draining_since_;
    bool ending_children_ = false;
    SteadyTime space_looked_at_{};
    SteadyTime crowd_logged_at_{};
    std::optional<SteadyTime> certificate_looked_at_;
    std::optional<int> child_exit_;
};

}  // namespace cardionode
