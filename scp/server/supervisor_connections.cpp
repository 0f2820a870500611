// The part of the supervisor that takes connections: accepted, waiting for their first byte, and then a process each.
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>

#include <unistd.h>

#include "conf/base/log.h"
#include "scp/server/listener.h"
#include "scp/server/process_control.h"
#include "scp/server/processes.h"
#include "scp/server/supervisor.h"

namespace cardionode {

void Supervisor::accept_connections(const FileDescriptor& listener, bool tls) {
    if (!listener.valid()) return;
    constexpr int kAtOnce = 64;  // then deadlines and signals get their turn
    for (int i = 0; i < kAtOnce; ++i) {
        Accepted accepted = accept_from(listener.get());
        if (!accepted.socket.valid()) {
            if (accepted.error_number != 0)
                log_error("cannot_accept", {{"reason", std::strerror(accepted.error_number)}});
            return;
        }
        admit(std::move(accepted.socket), std::move(accepted.peer_address), tls);
    }
}

/// Into the waiting room, unless it is full.
void Supervisor::admit(FileDescriptor socket, std::string peer_address, bool tls) {
    const auto now = std::chrono::steady_clock::now();
    Slot* free_slot = nullptr;
    std::size_t waiting = 0;
    const std::uint64_t address = std::hash<std::string>()(peer_address);
    for (Slot& slot : shared_->slots) {
        const SlotState state = slot.state.load();
        if (state == SlotState::Free && !free_slot) free_slot = &slot;
        waiting += state == SlotState::Connected || state == SlotState::Leaving ? 1 : 0;
    }
    const bool crowd = shared_->from_address(address, SlotState::Connected) >= kMaxSilentFromAddress;
    ++shared_->counters.connections;
    if (!free_slot || waiting >= kMaxSilentConnections || crowd) {
        ++shared_->counters.connections_refused;
        if (now - crowd_logged_at_ > std::chrono::seconds(1)) {
            crowd_logged_at_ = now;
            log_warning("connection_refused", {{"address", peer_address}, {"reason", "too many connections"}});
        }
        return;
    }
    free_slot->address = address;
    free_slot->state = SlotState::Connected;
    free_slot->progressed();
    waiting_.add({std::move(socket), std::move(peer_address), free_slot, tls, now,
                  now + std::chrono::seconds(settings_.scp.association_timeout_seconds)});
}

/// A process for each that has sent something, a few at a time: who comes meanwhile with a whole request need not wait
/// until all that stall have theirs.
void Supervisor::serve_waiting() {
    constexpr std::size_t kForksAtOnce = 4;
    for (const auto& guest : waiting_.take_closed()) dismiss(guest, "closed");
    serving_ = waiting_.take_ready(kForksAtOnce);
    for (WaitingRoom::Guest& guest : serving_) {
        start_child(std::move(guest));
        if (in_child()) return;
    }
    serving_.clear();
    for (const auto& guest : waiting_.take_overdue(std::chrono::steady_clock::now())) dismiss(guest, "silent");
}

/// One that leaves the waiting room without having had a process.
void Supervisor::dismiss(const WaitingRoom::Guest& guest, std::string_view reason) {
    guest.slot->state = SlotState::Free;
    ++shared_->counters.connections_without_association;
    log_info("connection_without_association",
             {{"address", guest.peer_address}, {"reason", reason}, {"step", guest.tls ? "TLS handshake" : "request"}});
}

void Supervisor::start_child(WaitingRoom::Guest guest) {
    if (guest.tls && !tls_) return dismiss(guest, "TLS is off");  // never plain on the TLS port
    const int parent = ::getpid();
    const int pid = ::fork();
    if (pid < 0) {
        guest.slot->state = SlotState::Free;
        log_error("cannot_fork", {{"reason", std::strerror(errno)}});
        return;
    }
    if (pid > 0) {
        children_[pid] = {guest.slot,
                          std::move(guest.peer_address),
                          guest.since,
                          std::chrono::seconds(settings_.scp.association_timeout_seconds),
                          std::chrono::seconds(settings_.scp.dimse_timeout_seconds),
                          std::nullopt,
                          false};
        return;
    }
    close_own_files();
    metrics_listener_.reset();
    if (!become_child(parent, SIGUSR1)) {
        child_exit_ = 1;
        return;
    }
    child_exit_ = run_connection(std::move(guest.socket), guest.peer_address, guest.tls ? &*tls_ : nullptr, guest.since,
                                 settings_, *rules_, spool_, audit_, *shared_, *guest.slot, wake_indexer_.get());
}

}  // namespace cardionode
