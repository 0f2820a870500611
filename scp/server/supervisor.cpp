#include "scp/server/supervisor.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/base/log.h"
#include "conf/base/time.h"
#include "scp/metrics/responder.h"
#include "scp/queue/queue.h"
#include "scp/server/helper_processes.h"
#include "scp/server/listener.h"
#include "scp/server/process_control.h"
#include "scp/server/processes.h"
#include "scp/server/reload.h"

namespace cardionode {
namespace {

constexpr const char* kProgram = "cardionode-scp";
constexpr std::chrono::milliseconds kTick{250};
constexpr std::chrono::seconds kDrainTime{20};  // open associations may finish; the unit's TimeoutStopSec is longer
constexpr std::chrono::seconds kEndTime{3};     // then they are asked to abort, then killed
constexpr std::chrono::seconds kGrace{5};       // a child keeps its own times; this much later the parent ends it
constexpr std::chrono::seconds kSlowDisk{60};   // an association may be silent because the disk is
constexpr std::chrono::seconds kLeaveTime{5};   // for the last word

}  // namespace

Supervisor::Supervisor(Supervisor&&) noexcept = default;
// The shared table is left to the end of the process: children may still be writing into it.
Supervisor::~Supervisor() = default;

Result<Supervisor> Supervisor::create(const NodeSettings& settings, std::filesystem::path file) {
    Supervisor s;
    s.settings_ = settings;
    s.file_ = std::move(file);
    auto rules = PeerRules::create(settings.scp, settings.destinations);
    if (!rules) return std::move(rules).error();
    s.rules_ = std::move(rules).value();
    if (settings.scp.tls.port != 0) {
        auto tls = TlsContext::for_server(settings.scp.tls);
        if (!tls) return std::move(tls).error();
        s.tls_ = std::move(tls).value();
    }
    auto spool = prepare_spool(settings.node.spool, settings.scp.spool_sentinel);
    if (!spool) return std::move(spool).error();
    s.spool_ = std::move(spool).value();
    auto lock = take_lock(s.spool_.root / "receiver.lock");
    if (!lock) {
        if (lock.error().kind == ErrorKind::Retry)
            return config_error(fmt::format("node.spool: another receiver works in {}", s.spool_.root.string()));
        return std::move(lock).error();
    }
    s.lock_ = std::move(lock).value();
    if (auto made = make_folder(settings.node.database.parent_path()); !made)
        return std::move(made).error().in("node.database");
    {
        auto queue = Queue::open(settings.node.database);  // closed again: a queue never crosses a fork
        if (!queue && queue.error().kind == ErrorKind::Config) return std::move(queue).error().in("node.database");
    }
    if (!settings.scp.tls.only) {
        auto listener = listen_on(settings.scp.bind_address, settings.scp.port);
        if (!listener) return std::move(listener).error().in("scp.port");
        s.listener_ = std::move(listener).value();
    }
    if (s.tls_) {
        auto listener = listen_on(settings.scp.bind_address, settings.scp.tls.port);
        if (!listener) return std::move(listener).error().in("scp.tls.port");
        s.tls_listener_ = std::move(listener).value();
    }
    auto audit = AuditTrail::open(settings, kProgram);
    if (!audit) return std::move(audit).error();
    s.audit_ = std::move(audit).value();
    if (settings.metrics.receiver_port != 0) {
        auto metrics = Responder::listen(settings.metrics.bind_address, settings.metrics.receiver_port);
        if (!metrics) return std::move(metrics).error();
        s.metrics_listener_ = std::move(metrics).value();
    }

    sigset_t watched;
    sigemptyset(&watched);
    for (const int number : {SIGTERM, SIGINT, SIGCHLD, SIGHUP}) sigaddset(&watched, number);
    sigset_t blocked = watched;
    sigaddset(&blocked, SIGUSR1);  // one that comes to a child before become_child() waits, and does not kill it
    if (::sigprocmask(SIG_BLOCK, &blocked, nullptr) != 0) return bug_error("sigprocmask failed");
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_DFL);  // one that is ignored (nohup) would not come here
    s.signals_ = FileDescriptor(::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK));
    s.wake_indexer_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!s.signals_.valid() || !s.wake_indexer_.valid()) return retry_error("no file descriptors left");
    void* memory = ::mmap(nullptr, sizeof(SharedState), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return retry_error("no memory for the table of connections");
    s.shared_ = new (memory) SharedState;
    s.manager_ = ServiceManager::from_environment();
    return s;
}

int Supervisor::run() {
    // Every step of the indexer, of a delivery and of an answer to Prometheus may be cut off; the reporter says a last
    // word to its peer.
    indexer_ = SideProcess("indexer", SIGKILL,
                           [this] { return run_indexer(settings_, spool_, audit_, *shared_, wake_indexer_.get()); });
    reporter_ = SideProcess("reporter", SIGUSR1, [this] { return run_reporter(settings_, audit_, *shared_); });
    if (audit_.on())
        audit_sender_ = SideProcess("audit_sender", SIGKILL, [this] { return run_audit_sender(settings_); });
    if (metrics_listener_.valid())
        metrics_ = SideProcess("metrics", SIGKILL,
                               [this] { return run_metrics(settings_, *shared_, std::move(metrics_listener_)); });
    start_side_processes();
    if (in_child()) return *child_exit_;
    look_at_free_space();
    log_info("receiver_started", {{"ae_title", settings_.scp.ae_title},
                                  {"address", settings_.scp.bind_address},
                                  {"port", settings_.scp.tls.only ? 0 : settings_.scp.port},
                                  {"tls_port", settings_.scp.tls.port}});
    audit_.record(application_started(kProgram, settings_.scp.ae_title));
    manager_.ready(where_it_listens());
    while (true) {
        // poll(2) passes over a descriptor of -1.
        std::vector<pollfd> items{
            {signals_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}, {tls_listener_.get(), POLLIN, 0}};
        waiting_.watch(items);
        ::poll(items.data(), items.size(), static_cast<int>(kTick.count()));
        manager_.alive();
        shared_->supervisor_seen_ms =
            std::chrono::duration_cast<std::chrono::milliseconds>(SteadyTime::clock::now().time_since_epoch()).count();
        handle_signals();
        reap();
        shared_->indexer_runs = indexer_.running();
        look_at_free_space();
        look_at_certificate();
        enforce_deadlines();
        if (draining_since_) {
            drain();
            if (children_.empty() && !indexer_.running() && !reporter_.running()) break;
            continue;
        }
        start_side_processes();
        if (!in_child()) accept_connections(listener_, false);
        if (!in_child()) accept_connections(tls_listener_, true);
        if (!in_child()) serve_waiting();
        if (in_child()) return *child_exit_;
    }
    log_info("receiver_stopped");
    audit_.record(application_stopped(kProgram, settings_.scp.ae_title));
    audit_sender_.end(kEndTime);
    metrics_.end(kEndTime);
    return 0;
}

void Supervisor::handle_signals() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD || draining_since_) continue;
        if (info.ssi_signo == SIGHUP) {
            reload();
            continue;
        }
        draining_since_ = std::chrono::steady_clock::now();
        listener_.reset();
        tls_listener_.reset();
        shared_->draining = true;
        log_info("receiver_stopping", {{"connections", children_.size()}});
        manager_.stopping("open associations finish");
    }
}

std::string Supervisor::where_it_listens() const {
    const ScpSettings& scp = settings_.scp;
    std::string ports = scp.tls.only ? "" : fmt::format(" port {}", scp.port);
    if (scp.tls.port != 0) ports += fmt::format("{} TLS port {}", ports.empty() ? "" : " and", scp.tls.port);
    return fmt::format("listening on {}{}", scp.bind_address, ports);
}

void Supervisor::reload() {
    auto next = reload_settings(file_, settings_);
    if (!next) {
        log_error("reload_failed", {{"kept", "the settings of before"}, {"reason", next.error().message}});
        audit_.record(settings_reloaded(kProgram, settings_.scp.ae_title, next.error().message));
        manager_.ready(where_it_listens() + "; the new settings are wrong, see the log");
        return;
    }
    settings_ = std::move(next->settings);
    rules_ = std::move(next->rules);
    tls_ = std::move(next->tls);
    certificate_looked_at_.reset();
    if (auto level = log_level_from(settings_.node.log_level)) set_log_level(*level);
    // It indexes what came so far, ends, and is started again with the new settings.
    if (next->indexer_changed) indexer_.signal(SIGUSR1);
    reporter_.signal(SIGUSR1);  // likewise; what it did not report yet stays in the queue
    log_info("reloaded", {{"open_connections", children_.size()}});
    audit_.record(settings_reloaded(kProgram, settings_.scp.ae_title, ""));
    if (!next->waiting.empty())
        log_warning("reload_needs_restart", {{"keys", fmt::format("{}", fmt::join(next->waiting, " "))}});
    manager_.ready(where_it_listens());
}

/// Says so from thirty days before our certificate or a revocation list ends, once a day.
void Supervisor::look_at_certificate() {
    constexpr std::chrono::hours kDay{24}, kSoon{30 * 24};
    const auto now = std::chrono::steady_clock::now();
    if (!tls_ || (certificate_looked_at_ && now - *certificate_looked_at_ < kDay)) return;
    certificate_looked_at_ = now;
    const auto left = tls_->valid_until() - system_clock().now();
    if (left > kSoon) return;
    const auto hours = std::chrono::duration_cast<std::chrono::hours>(left).count();
    log_event(hours < 0 ? LogLevel::Error : LogLevel::Warning, "certificate_ends",
              {{"what", "scp.tls: certificate or revocation list"}, {"hours_left", hours}});
}

/// In a child: what is the parent's alone. The metrics' socket is that of one child as well.
void Supervisor::close_own_files() {
    listener_.reset();
    tls_listener_.reset();
    signals_.reset();
    lock_.reset();
    (void)waiting_.take_all();  // or a connection would stay open that another process has closed
    serving_.clear();
}

void Supervisor::start_side_processes() {
    const int parent = ::getpid();
    for (SideProcess* process : side_processes()) {
        if (process == &reporter_ && !settings_.scp.storage_commitment) continue;
        if (!process->start_if_due()) continue;
        close_own_files();
        if (process != &metrics_) metrics_listener_.reset();
        tls_.reset();  // it has no use for the key
        child_exit_ = become_child(parent, process->signal_when_parent_dies()) ? process->run() : 1;
        return;
    }
    shared_->counters.indexer_starts = indexer_.starts();
    shared_->indexer_runs = indexer_.running();
}

void Supervisor::reap() {
    int status = 0;
    for (int pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
        const bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        const std::string how = WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                                                    : fmt::format("exit {}", WEXITSTATUS(status));
        if (std::ranges::any_of(side_processes(), [&](SideProcess* p) { return p->ended(pid, clean, how); })) continue;
        const auto found = children_.find(pid);
        if (found == children_.end()) continue;
        if (!clean) ++shared_->counters.association_processes_failed;
        if (!clean) log_error("association_process_ended", {{"address", found->second.peer_address}, {"how", how}});
        found->second.slot->state = SlotState::Free;
        children_.erase(found);
    }
}

/// A child keeps its own times. One that hangs all the same, or was made to, is ended here.
void Supervisor::enforce_deadlines() {
    const auto now = std::chrono::steady_clock::now();
    for (auto& [pid, child] : children_) {
        const SlotState state = child.slot->state.load();
        const auto progress = SteadyTime(std::chrono::milliseconds(child.slot->progress_ms.load()));
        SteadyTime end = now + kGrace;
        if (state == SlotState::Connected) {
            end = child.started + child.association_timeout + kGrace;
        } else if (state == SlotState::Associated) {
            end = std::min(progress, now) + child.silence + kSlowDisk;
        } else {
            if (!child.leaving_since) child.leaving_since = now;
            end = *child.leaving_since + kLeaveTime + kGrace;
        }
        if (now < end || child.killed) continue;
        log_error("association_process_hangs", {{"address", child.peer_address}});
        child.killed = true;
        ::kill(pid, SIGKILL);
    }
}

void Supervisor::look_at_free_space() {
    const auto now = std::chrono::steady_clock::now();
    if (now - space_looked_at_ < std::chrono::seconds(1)) return;
    space_looked_at_ = now;
    const bool gone = !spool_in_place(spool_);
    if (gone != shared_->spool_gone.exchange(gone)) {
        if (gone)
            log_error("spool_gone",
                      {{"reason", "it is not the folder of the start any more, or its sentinel is absent"}});
        else log_info("spool_is_back");
    }
    if (gone) return;  // the space of another disk says nothing
    auto free = free_bytes(spool_.root);
    const bool low = !free || *free < static_cast<std::uint64_t>(settings_.scp.min_free_mib) << 20;
    if (low == shared_->low_space.exchange(low)) return;
    if (low)
        log_error("spool_low_on_space",
                  {{"free_mib", free ? *free >> 20 : 0}, {"min_free_mib", settings_.scp.min_free_mib}});
    else log_info("spool_has_space_again", {{"free_mib", *free >> 20}});
}

void Supervisor::drain() {
    const auto over = std::chrono::steady_clock::now() - *draining_since_;
    if (over > kDrainTime && !ending_children_) {
        ending_children_ = true;
        for (const auto& [pid, child] : children_) ::kill(pid, SIGUSR1);
    }
    if (over > kDrainTime + kEndTime)
        for (const auto& [pid, child] : children_) ::kill(pid, SIGKILL);
    // Connections without an association have nothing to finish.
    for (const auto& guest : waiting_.take_all()) dismiss(guest, "stopped");
    for (const auto& [pid, child] : children_)
        if (child.slot->state.load() == SlotState::Connected) ::kill(pid, SIGUSR1);
    reporter_.signal(over > kDrainTime + kEndTime ? SIGKILL : SIGUSR1);
    if (children_.empty()) indexer_.signal(over > kDrainTime + 2 * kEndTime ? SIGKILL : SIGUSR1);
}

}  // namespace cardionode
