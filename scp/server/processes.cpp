#include "scp/server/processes.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <optional>

#include <unistd.h>

#include "conf/base/log.h"
#include "scp/server/association.h"
#include "scp/server/indexing_watch.h"
#include "scp/server/process_control.h"
#include "scp/store/indexer.h"
#include "scp/store/spares.h"

namespace cardionode {
namespace {

/// A wake-up that is lost (the counter is full) is no harm: the indexer looks by itself as well.
void wake_up(int event_fd) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_fd, &one, sizeof one);
}

/// When to index: as soon as no instance came for kPause, so that a lone one is known at once, and a burst is left to
/// the associations, whose answers would wait behind the indexer's syncs. A burst that does not end is indexed beside
/// it after kLongestWait or kMostWaiting.
class IndexerLoop {
public:
    IndexerLoop(Indexer& indexer, const Spool& spool, const ScpSettings& settings, SharedState& shared, int wake)
        : indexer_(&indexer),
          spool_(&spool),
          spare_bytes_(bytes(settings.journal_spare_mib)),
          shared_(&shared),
          wake_(wake) {
        retention_.keep = std::chrono::hours(24) * settings.keep_finished_days;
        retention_.wanted_free = bytes(settings.keep_free_mib);
        retention_.keep_at_least = kKeepAtLeast;
        retention_.free_bytes = [this] { return free_bytes(spool_->root); };
    }

    static std::uint64_t bytes(int mib) { return static_cast<std::uint64_t>(mib) << 20; }

    int run() {
        const Mark start = look();
        if (!recover()) return exit_code_;
        indexed_ = start;
        while (true) {
            if (shared_->spool_gone && !asked_to_end()) {
                wait_for_work(-1, kLook);
                continue;
            }
            if (const auto pause = time_to_wait(); pause.count() > 0) {
                wait_for_work(-1, pause);
                continue;
            }
            const Mark mark = look();
            const std::uint64_t pass = ++shared_->passes.begun;
            auto indexed = indexer_->step();
            if (indexer_->caught_up()) shared_->passes.whole = pass;
            if (!indexed) {
                if (!pause_after(indexed.error())) return exit_code_;
                continue;
            }
            pause_ = kFirstPause;
            if (*indexed >= IndexerOptions().batch_records) continue;  // the rest of what waits
            indexed_ = mark;
            waiting_since_.reset();
            // Where images never stop coming, studies that are complete must be handed over all the same.
            const bool busy_for_long = Steady::now() - last_close_ >= kLongestWait;
            if (*indexed > 0 && busy_for_long && (!close_quiet() || !remove_finished())) return exit_code_;
            if (*indexed > 0) continue;
            if (asked_to_end()) return 0;  // what came last is indexed
            if (!close_quiet()) return exit_code_;
            if (!remove_finished() || !tend_spares()) return exit_code_;
            sleep();
        }
    }

private:
    using Steady = std::chrono::steady_clock;
    struct Mark {
        std::uint64_t instances = 0, bytes = 0;
    };
    static constexpr std::chrono::milliseconds kLook{200};
    static constexpr std::chrono::milliseconds kPause{30};
    static constexpr std::chrono::milliseconds kLongestWait{5'000};
    static constexpr std::uint64_t kMostWaiting = 1ULL << 30;
    static constexpr std::chrono::seconds kQuiet{10};
    static constexpr std::chrono::minutes kKeepAtLeast{10};  // a person may want to look at what was just done
    static constexpr std::chrono::milliseconds kFirstPause{100};
    static constexpr std::chrono::milliseconds kLongestPause{10'000};

    Mark look() const { return {shared_->traffic.instances, shared_->traffic.bytes}; }

    /// Zero: index now.
    std::chrono::milliseconds time_to_wait() {
        constexpr std::chrono::milliseconds kNow{0};
        const Mark mark = look();
        if (mark.instances == indexed_.instances || asked_to_end() || shared_->low_space) return kNow;
        const auto now = Steady::now();
        if (!waiting_since_) waiting_since_ = now;
        if (now - *waiting_since_ >= kLongestWait || mark.bytes - indexed_.bytes >= kMostWaiting) return kNow;
        const Steady::time_point last{std::chrono::milliseconds(shared_->traffic.last_ms)};
        const auto quiet = std::chrono::duration_cast<std::chrono::milliseconds>(now - last);
        return quiet >= kPause ? kNow : std::min(kPause - quiet + std::chrono::milliseconds(1), kPause);
    }

    bool quiet() const {
        return look().instances == indexed_.instances && !asked_to_end() && shared_->associations() == 0;
    }

    /// Once a minute; each second while associations are refused for want of space.
    bool remove_finished() {
        const auto now = Steady::now();
        if (now - last_removal_ < (shared_->low_space ? std::chrono::seconds(1) : std::chrono::seconds(60)))
            return true;
        last_removal_ = now;
        auto removed = indexer_->remove_finished(retention_);
        return removed ? true : pause_after(removed.error());
    }

    /// Files for the next segments are made while nobody needs the disk, and given up when it is full.
    bool tend_spares() {
        const auto now = Steady::now();
        if (!quiet()) quiet_since_ = now;
        if (shared_->low_space) {
            auto freed = drop_spares(*spool_, std::chrono::seconds(0));
            if (!freed) return pause_after(freed.error());
            if (*freed > 0) log_info("spares_removed", {{"freed_mib", *freed >> 20}});
            return true;
        }
        if (now - quiet_since_ < kQuiet) return true;
        auto made = prepare_spare(*spool_, spare_bytes_, [this] { return quiet() && !shared_->low_space; });
        if (!made) return pause_after(made.error());
        return true;
    }

    void sleep() {
        shared_->traffic.indexer_sleeps = true;
        if (look().instances == indexed_.instances) wait_for_work(wake_, kLook);
        shared_->traffic.indexer_sleeps = false;
    }

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
        if (!ready->empty()) shared_->counters.studies_became_ready(ready->size());
        return true;
    }

    /// Retry: waits and says true. Anything else ends the indexer, which the supervisor starts again later.
    bool pause_after(const Error& error) {
        log_error("indexing_failed", {{"kind", to_string(error.kind)}, {"reason", error.message}});
        if (error.kind != ErrorKind::Retry) {
            exit_code_ = error.kind == ErrorKind::Config ? 2 : 1;
            return false;
        }
        if (asked_to_end()) {
            exit_code_ = 1;
            return false;
        }
        wait_for_work(-1, pause_);
        pause_ = std::min(pause_ * 2, kLongestPause);
        return true;
    }

    Indexer* indexer_;
    const Spool* spool_;
    std::uint64_t spare_bytes_;
    Retention retention_;
    Steady::time_point last_removal_ = Steady::now();
    SharedState* shared_;
    int wake_;
    Mark indexed_;
    std::optional<Steady::time_point> waiting_since_;
    Steady::time_point quiet_since_ = Steady::now();
    int exit_code_ = 1;
    std::chrono::milliseconds pause_ = kFirstPause;
    std::chrono::steady_clock::time_point last_close_{};
};

ArrivalRules rules_of(const ScpSettings& settings) {
    ArrivalRules rules;
    rules.series_quiet = std::chrono::seconds(settings.series_quiet_seconds);
    rules.study_quiet = std::chrono::seconds(settings.study_quiet_seconds);
    rules.longest_study = std::chrono::minutes(settings.longest_study_minutes);
    rules.late_images = settings.late_images == "keep" ? LateImages::Keep : LateImages::NewRevision;
    rules.other_patient = settings.other_patient_id == "accept"       ? OtherPatient::Accept
                          : settings.other_patient_id == "keep_first" ? OtherPatient::KeepFirst
                                                                      : OtherPatient::SetAside;
    return rules;
}

/// The handshake, before a byte of DICOM is read. false: there is nothing to go on with, and the log has why.
bool secured(Connection& connection, const TlsContext& tls, SteadyTime until, const AssociationContext& context) {
    constexpr std::chrono::milliseconds kLeaveTime{1'000};
    const auto handshake = connection.secure(tls, until);
    if (handshake && *handshake == Handshake::Done) return true;
    context.slot->state = SlotState::Leaving;
    if (handshake && *handshake == Handshake::Refused) {
        const TlsFailure& failure = connection.tls()->failure();
        log_warning("tls_refused", {{"address", context.peer_address},
                                    {"reason", failure.reason},
                                    {"detail", failure.detail},
                                    {"certificate_sha256", failure.certificate}});
        context.shared->counters.rejected("tls");
        context.audit.record(tls_refused({"", context.peer_address}, context.settings->ae_title, failure.reason));
        connection.close_after_answer(kLeaveTime);  // so that the alert arrives before the end
        return false;
    }
    std::string reason = "stopped";
    if (!handshake) reason = handshake.error().message;
    else if (*handshake == Handshake::Closed) reason = "closed";
    else if (*handshake == Handshake::TimedOut) reason = "silent";
    ++context.shared->counters.connections_without_association;
    log_info("connection_without_association",
             {{"address", context.peer_address}, {"reason", reason}, {"step", "TLS handshake"}});
    return false;
}

}  // namespace

int run_connection(FileDescriptor socket, const std::string& peer_address, const TlsContext* tls,
                   std::chrono::steady_clock::time_point accepted, const NodeSettings& settings, const PeerRules& rules,
                   const Spool& spool, const AuditTrail& audit, SharedState& shared, Slot& slot, int wake_indexer) {
    try {
        const SteadyTime request_until = accepted + std::chrono::seconds(settings.scp.association_timeout_seconds);
        const auto stop = [] { return asked_to_end(); };
        auto connection = Connection::create(std::move(socket), static_cast<std::size_t>(settings.scp.max_pdu_bytes),
                                             stop, [&slot] { slot.progressed(); });
        if (!connection) {
            log_info("connection_without_association",
                     {{"address", peer_address}, {"reason", connection.error().message}});
            return 0;
        }
        AssociationContext context;
        context.settings = &settings.scp;
        context.node = &settings;
        context.rules = &rules;
        context.spool = spool;
        context.shared = &shared;
        context.slot = &slot;
        context.peer_address = peer_address;
        context.request_until = request_until;
        context.audit = audit;
        context.stop = stop;
        context.instance_stored = [wake_indexer, &shared](std::uint64_t bytes) {
            shared.traffic.stored(bytes);
            if (shared.traffic.indexer_sleeps.exchange(false)) wake_up(wake_indexer);
        };
        if (tls && !secured(*connection, *tls, request_until, context)) return 0;
        Association(std::move(connection).value(), std::move(context)).run();
        return 0;
    } catch (const std::exception& error) {
        log_error("association_failed", {{"address", peer_address}, {"reason", error.what()}});
        return 1;
    }
}

int run_indexer(const NodeSettings& settings, const Spool& spool, const AuditTrail& audit, SharedState& shared,
                int wake) {
    try {
        be_patient();
        auto queue = Queue::open(settings.node.database);
        if (!queue) {
            log_error("indexer_cannot_start", {{"reason", queue.error().message}});
            return queue.error().kind == ErrorKind::Config ? 2 : 1;
        }
        IndexingWatch watch(audit, shared.counters, settings);
        IndexerOptions options;
        options.observer = watch.observer();
        options.rules = rules_of(settings.scp);
        options.spare_bytes = IndexerLoop::bytes(settings.scp.journal_spare_mib);
        auto indexer = Indexer::open(spool, options, *queue);
        if (!indexer) {
            log_error("indexer_cannot_start", {{"reason", indexer.error().message}});
            return 1;
        }
        return IndexerLoop(*indexer, spool, settings.scp, shared, wake).run();
    } catch (const std::exception& error) {
        log_error("indexer_failed", {{"reason", error.what()}});
        return 1;
    }
}

}  // namespace cardionode
