#include "scp/server/processes.h"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <exception>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "conf/base/log.h"
#include "scp/server/association.h"
#include "scp/store/indexer.h"

namespace cardionode {
namespace {

std::atomic<bool> asked_to_end{false};

/// A wake-up that is lost (the counter is full) is no harm: the indexer looks by itself as well.
void wake_up(int event_fd) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_fd, &one, sizeof one);
}

/// Until woken, or the time is over. SIGUSR1 is let through only here.
void wait_for_work(int event_fd, std::chrono::milliseconds longest) {
    sigset_t none;
    sigemptyset(&none);
    const timespec time{longest.count() / 1000, longest.count() % 1000 * 1'000'000};
    pollfd item{event_fd, POLLIN, 0};
    if (::ppoll(&item, 1, &time, &none) <= 0) return;
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t read = ::read(event_fd, &count, sizeof count);
}

class IndexerLoop {
public:
    IndexerLoop(Indexer& indexer, int wake) : indexer_(&indexer), wake_(wake) {}

    int run() {
        if (!recover()) return exit_code_;
        while (true) {
            auto indexed = indexer_->step();
            if (!indexed) {
                if (!pause_after(indexed.error())) return exit_code_;
                continue;
            }
            pause_ = kFirstPause;
            if (*indexed > 0) {
                // The first instance after a pause is indexed at once. While more keep coming, they are taken in
                // groups: each group's syncs stand in the way of those that the answers wait for.
                if (*indexed < IndexerOptions().batch_records && !asked_to_end) wait_for_work(-1, kGather);
                continue;
            }
            if (asked_to_end) return 0;  // what came last is indexed
            if (!close_quiet()) return exit_code_;
            wait_for_work(wake_, kLook);
        }
    }

private:
    static constexpr std::chrono::milliseconds kLook{200};
    static constexpr std::chrono::milliseconds kGather{50};
    static constexpr std::chrono::milliseconds kFirstPause{100};
    static constexpr std::chrono::milliseconds kLongestPause{10'000};

    bool recover() {
        while (true) {
            auto counts = indexer_->recover();
            if (counts) {
                log_info("recovered", {{"segments", counts->segments},
                                       {"instances", counts->records},
                                       {"torn_tails", counts->torn_tails},
                                       {"temporary_files", counts->temporary_files},
                                       {"files_adopted", counts->files_adopted},
                                       {"files_removed", counts->files_removed},
                                       {"damaged", counts->damaged}});
                return true;
            }
            if (!pause_after(counts.error())) return false;
        }
    }

    bool close_quiet() {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_close_ < std::chrono::milliseconds(500)) return true;
        last_close_ = now;
        auto ready = indexer_->close_quiet();
        if (!ready) return pause_after(ready.error());
        for (const std::string& study : *ready) log_info("study_ready", {{"study", study}});
        return true;
    }

    /// Retry: waits and says true. Anything else ends the indexer, which the supervisor starts again later.
    bool pause_after(const Error& error) {
        log_error("indexing_failed", {{"kind", to_string(error.kind)}, {"reason", error.message}});
        if (error.kind != ErrorKind::Retry) {
            exit_code_ = error.kind == ErrorKind::Config ? 2 : 1;
            return false;
        }
        if (asked_to_end) {
            exit_code_ = 1;
            return false;
        }
        wait_for_work(-1, pause_);
        pause_ = std::min(pause_ * 2, kLongestPause);
        return true;
    }

    Indexer* indexer_;
    int wake_;
    int exit_code_ = 1;
    std::chrono::milliseconds pause_ = kFirstPause;
    std::chrono::steady_clock::time_point last_close_{};
};

}  // namespace

bool become_child(int parent_process, int signal_when_parent_dies) {
    struct sigaction action {};
    action.sa_handler = [](int) { asked_to_end = true; };
    sigaction(SIGUSR1, &action, nullptr);
    action.sa_handler = SIG_IGN;
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGXFSZ}) sigaction(number, &action, nullptr);
    action.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &action, nullptr);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_SETMASK, &blocked, nullptr);
    asked_to_end = false;
    ::prctl(PR_SET_PDEATHSIG, signal_when_parent_dies);
    return ::getppid() == parent_process;
}

int run_connection(FileDescriptor socket, const std::string& peer_address, const NodeSettings& settings,
                   const PeerRules& rules, const Spool& spool, SharedState& shared, Slot& slot, int wake_indexer) {
    try {
        const auto stop = [] { return asked_to_end.load(); };
        auto connection = Connection::create(std::move(socket), static_cast<std::size_t>(settings.scp.max_pdu_bytes),
                                             stop, [&slot] { slot.progressed(); });
        if (!connection) {
            log_info("connection_without_association",
                     {{"address", peer_address}, {"reason", connection.error().message}});
            return 0;
        }
        AssociationContext context;
        context.settings = &settings.scp;
        context.rules = &rules;
        context.spool = spool;
        context.shared = &shared;
        context.slot = &slot;
        context.peer_address = peer_address;
        context.stop = stop;
        context.instance_stored = [wake_indexer] { wake_up(wake_indexer); };
        Association(std::move(connection).value(), std::move(context)).run();
        return 0;
    } catch (const std::exception& error) {
        log_error("association_failed", {{"address", peer_address}, {"reason", error.what()}});
        return 1;
    }
}

int run_indexer(const NodeSettings& settings, const Spool& spool, int wake) {
    try {
        // Receiving goes first: what is durable in a segment can wait. Where the unit forbids it, nothing is lost.
        (void)::setpriority(PRIO_PROCESS, 0, 10);
        auto queue = Queue::open(settings.node.database);
        if (!queue) {
            log_error("indexer_cannot_start", {{"reason", queue.error().message}});
            return queue.error().kind == ErrorKind::Config ? 2 : 1;
        }
        IndexerOptions options;
        options.series_quiet = std::chrono::seconds(settings.scp.series_quiet_seconds);
        options.study_quiet = std::chrono::seconds(settings.scp.study_quiet_seconds);
        auto indexer = Indexer::open(spool, options, *queue);
        if (!indexer) {
            log_error("indexer_cannot_start", {{"reason", indexer.error().message}});
            return 1;
        }
        return IndexerLoop(*indexer, wake).run();
    } catch (const std::exception& error) {
        log_error("indexer_failed", {{"reason", error.what()}});
        return 1;
    }
}

}  // namespace cardionode
