#include "fedclient/round/night.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "fedclient/round/consent.h"
#include "fedclient/round/round.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;
using std::chrono::minutes;
constexpr auto kNowLasts = std::chrono::hours(12);  // of `now`, which has no window

/// The lock of a state folder. Not held: another client has it.
class Lock {
public:
    static Result<Lock> take(const fs::path& state) {
        Lock lock;
        const fs::path file = state / "lock";
        lock.file_ = FileDescriptor(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
        if (!lock.file_.valid()) return file_error("opening", file, errno);
        lock.held_ = ::flock(lock.file_.get(), LOCK_EX | LOCK_NB) == 0;
        return lock;
    }
    bool held() const { return held_; }

private:
    FileDescriptor file_;
    bool held_ = false;
};

class Night {
public:
    Night(const FederatedSettings& settings, const NightParts& parts, const NightOptions& options, const Clock& clock)
        : settings_(settings), parts_(parts), options_(options), clock_(clock) {}

    Result<void> run() {
        if (!settings_.enabled) {
            say("federated.enabled is false: nothing to do");
            return {};
        }
        if (auto made = make_folder(settings_.state); !made) return made;
        auto lock = Lock::take(settings_.state);
        if (!lock) return std::move(lock).error();
        if (!lock->held()) return retry_error("another client works on " + settings_.state.string());
        if (!options_.dry_run) {
            auto may = consent();
            if (!may) return std::move(may).error();
            if (!*may) return {};
        }
        const Moment now = clock_.now();
        const std::optional<Moment> end = options_.now ? now + kNowLasts : end_of_window(settings_.window, now);
        if (!end) {
            say(fmt::format("outside the window ({} to {}): nothing to do; --now works at once", settings_.window.from,
                            settings_.window.until));
            return {};
        }
        end_ = *end;
        if (auto kept = fixed_split(); !kept) return kept;
        auto free = free_bytes(settings_.state);
        if (!free) return std::move(free).error();
        if (*free < static_cast<std::uint64_t>(settings_.least_free_mib) << 20U)
            return retry_error(fmt::format("less than federated.least_free_mib ({}) is free in {}",
                                           settings_.least_free_mib, settings_.state.string()));
        auto store = RoundStore::open(store_file(settings_), RoundStore::Mode::Write, clock_);
        if (!store) return std::move(store).error();
        if (parts_.refresh_data) {
            auto line = parts_.refresh_data([&] { return stopping() || clock_.now() >= end_; });
            if (!line && line.error().kind != ErrorKind::Retry) return std::move(line).error();
            say(line ? *line : "the study files stay as they were: " + line.error().message);
        }
        if (stopping()) return retry_error("stopped");
        auto transport = parts_.open_transport();
        if (!transport) return std::move(transport).error();
        if (auto joined = (*transport)->join(); !joined) return std::move(joined).error().in("joining");
        log_info("fed_joined", {});
        Result<void> worked = work(*store, **transport);
        // A reply that is not taken yet is thrown away by the server when its node leaves: an honest good-bye only.
        if (auto left = (*transport)->leave(); !left) log_warning("fed_leave_failed", {{"why", left.error().message}});
        const TransferTotals totals = (*transport)->totals();
        log_info("fed_left", {{"bytes_sent", totals.bytes_sent},
                              {"bytes_received", totals.bytes_received},
                              {"calls", totals.calls},
                              {"reconnects", totals.reconnects}});
        if (!worked) return worked;
        if (auto tidied = tidy(*store); !tidied) return tidied;
        return promote();
    }
    bool alarm() const { return alarm_; }

private:
    void say(const std::string& line) const {
        if (parts_.print) parts_.print(line);
    }
    bool stopping() const { return parts_.stop && parts_.stop(); }

    /// false: somebody said no.
    Result<bool> consent() {
        auto state = consent_state(settings_);
        if (!state) return std::move(state).error();
        switch (*state) {
            case ConsentState::Given: return true;
            case ConsentState::Refused: say("consent was refused: nothing is pulled or pushed"); return false;
            case ConsentState::NeverAsked:
                return config_error(
                    "nobody has agreed to what would leave: read it and answer with `cardionode fed "
                    "consent`");
            case ConsentState::Outdated:
                return config_error(
                    "the settings changed what would leave since somebody agreed: read it again and "
                    "answer with `cardionode fed consent`");
        }
        return false;
    }

    /// Who is held out is decided once: other settings would move patients between training and validation.
    Result<void> fixed_split() {
        const fs::path file = settings_.state / "split";
        const std::string wanted =
            fmt::format("holdout {} split_seed {}\n", settings_.data.holdout, settings_.data.split_seed);
        std::error_code no_matter;
        if (!fs::exists(file, no_matter)) return write_file_durably(file, wanted);
        auto present = read_file(file);
        if (!present) return std::move(present).error();
        if (*present == wanted) return {};
        return config_error(fmt::format(
            "the split into training and hold-out was fixed with \"{}\"; other values of federated.data.holdout and "
            "split_seed would move patients between them. Put them back",
            present->substr(0, present->find('\n'))));
    }

    RoundHooks hooks() {
        RoundHooks h;
        h.stop = parts_.stop;
        h.clinic_busy = parts_.clinic_busy;
        h.pause = parts_.pause;
        h.print = parts_.print;
        h.end_of_window = end_;
        h.dry_run = options_.dry_run;
        h.moved = [this](const MessageRow& row, const std::string& detail) {
            log_info("round_state", {{"message", row.incoming.message_id.substr(0, 12)},
                                     {"state", to_string(row.state)},
                                     {"detail", detail}});
            if (row.state == RoundState::Validated) staged_.insert(row.order.plan.model_id);
        };
        return h;
    }

    Result<void> work(RoundStore& store, Transport& transport) {
        Round round(settings_, store, transport, parts_.tools, hooks(), clock_);
        std::optional<Error> trouble;  // of one message: the others still get their chance
        const auto work_on = [&](MessageRow& row) {
            auto done = round.work_on(row);
            alarm_ = alarm_ || round.alarm();
            if (done) return true;
            log_event(done.error().kind == ErrorKind::Bug ? LogLevel::Error : LogLevel::Warning, "round_interrupted",
                      {{"message", row.incoming.message_id.substr(0, 12)},
                       {"state", to_string(row.state)},
                       {"kind", to_string(done.error().kind)},
                       {"why", done.error().message}});
            if (!trouble || done.error().kind == ErrorKind::Config) trouble = done.error();
            return false;
        };
        auto open = store.unfinished();
        if (!open) return std::move(open).error();
        std::set<std::string> seen;
        for (MessageRow& row : *open) {
            seen.insert(row.incoming.message_id);
            say(fmt::format("going on with message {} at {}", row.incoming.message_id.substr(0, 12),
                            to_string(row.state)));
            if (!work_on(row) && trouble->kind == ErrorKind::Config) return *trouble;
            if (stopping()) return retry_error("stopped");
        }
        Moment idle_since = clock_.now();
        const auto patience = minutes(settings_.window.wait_for_message_minutes);
        while (clock_.now() < end_) {
            auto message = transport.poll();
            if (!message && message.error().kind == ErrorKind::Reject) {  // said once; the next one may be good
                say("a message is refused: " + message.error().message);
                log_warning("message_refused", {{"why", message.error().message}});
                continue;
            }
            if (!message) return std::move(message).error();
            if (*message && !seen.contains((*message)->message_id)) {
                seen.insert((*message)->message_id);
                auto known = store.message((*message)->message_id);  // a transport may hand an open one out once more
                if (!known) return std::move(known).error();
                MessageRow row;
                if (*known) {
                    row = **known;
                } else {
                    row.incoming = **message;
                    if (auto saved = store.save(row, RoundState::Pulled, (*message)->type); !saved) return saved;
                    hooks().moved(row, (*message)->type);
                }
                if (!work_on(row) && trouble->kind == ErrorKind::Config) return *trouble;
                idle_since = clock_.now();
                if (stopping()) return retry_error("stopped");
                if (options_.dry_run) return trouble ? Result<void>(*trouble) : Result<void>();
                continue;
            }
            if (stopping()) return retry_error("stopped");
            if (clock_.now() - idle_since >= patience) break;
            parts_.pause(Milliseconds(static_cast<std::int64_t>(settings_.transport.poll_seconds * 1000)));
        }
        if (seen.empty()) say("no message came");
        if (trouble) return *trouble;
        return {};
    }

    /// What nobody needs any more: rounds that are long over, staged models beyond the number that is kept.
    Result<void> tidy(RoundStore& store) {
        std::error_code no_matter;
        auto rows = store.newest(1'000'000);
        if (!rows) return std::move(rows).error();
        const Moment old = clock_.now() - std::chrono::hours(24 * settings_.keep_rounds_days);
        std::set<std::string> needed;
        for (const MessageRow& row : *rows) {
            if (!is_over(row.state) || row.since > old) needed.insert(row.key);
        }
        for (const MessageRow& row : *rows) {
            if (!is_over(row.state)) continue;
            // The pulled weights and the reply. Not before the message's own time is over: a transport by files would
            // take it for a new one.
            const Moment end =
                Moment(Milliseconds(static_cast<std::int64_t>(1000 * (row.incoming.created_at + row.incoming.ttl))));
            if (clock_.now() > end) fs::remove_all(row.incoming.folder, no_matter);
            if (!row.key.empty()) {
                const fs::path folder = settings_.state / "rounds" / row.key;
                if (!needed.contains(row.key)) fs::remove_all(folder, no_matter);
                else if (row.state == RoundState::Taken) fs::remove_all(folder / "work", no_matter);
            }
        }
        for (const ModelSettings& model : settings_.models) {
            auto accepted = store.accepted(model.id);
            if (!accepted) return std::move(accepted).error();
            int kept = 0;
            for (auto m = accepted->rbegin(); m != accepted->rend(); ++m) {
                if (m->weights.empty() || ++kept <= settings_.keep_accepted) continue;
                if (auto forgotten = store.forget_accepted(*m); !forgotten) return forgotten;
                fs::remove_all(m->weights.parent_path(), no_matter);
            }
        }
        return {};
    }

    Result<void> promote() {
        if (!settings_.promotion.automatic || !parts_.promote || options_.dry_run) return {};
        for (const std::string& id : staged_) {
            auto line = parts_.promote(*settings_.model(id));
            if (!line && line.error().kind == ErrorKind::Reject) say(id + ": " + line.error().message);
            else if (!line) return std::move(line).error();
            else say(*line);
        }
        return {};
    }

    const FederatedSettings& settings_;
    const NightParts& parts_;
    const NightOptions& options_;
    const Clock& clock_;
    Moment end_{};
    std::set<std::string> staged_;
    bool alarm_ = false;
};

}  // namespace

std::filesystem::path store_file(const FederatedSettings& settings) { return settings.state / "rounds.db"; }
std::filesystem::path messages_folder(const FederatedSettings& settings) { return settings.state / "messages"; }

std::optional<Moment> end_of_window(const WindowSettings& window, Moment now) {
    const int from = minutes_of_day(window.from), until = minutes_of_day(window.until);
    const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count();
    std::tm local{};
    localtime_r(&seconds, &local);
    const int at = local.tm_hour * 60 + local.tm_min;
    const bool over_midnight = until <= from;
    const bool inside = over_midnight ? at >= from || at < until : at >= from && at < until;
    if (!inside) return std::nullopt;
    local.tm_hour = until / 60, local.tm_min = until % 60, local.tm_sec = 0;
    if (over_midnight && at >= from) ++local.tm_mday;  // mktime carries it into the next month
    local.tm_isdst = -1;
    return Moment(std::chrono::seconds(std::mktime(&local)));
}

NightEnd run_night(const FederatedSettings& settings, const NightParts& parts, const NightOptions& options,
                   const Clock& clock) {
    Result<void> ended;
    bool alarm = false;
    try {
        Night night(settings, parts, options, clock);
        ended = night.run();
        alarm = night.alarm();
    } catch (const std::exception& e) {
        ended = bug_error(e.what());
    }
    if (!ended) {
        const Error& error = ended.error();
        log_event(error.kind == ErrorKind::Retry ? LogLevel::Warning : LogLevel::Error, "night_ended",
                  {{"kind", to_string(error.kind)}, {"why", error.message}});
        if (error.kind == ErrorKind::Config) return NightEnd::Config;
        if (error.kind == ErrorKind::Retry) return alarm ? NightEnd::Alarm : NightEnd::RetryLater;
        return NightEnd::Alarm;
    }
    log_info("night_ended", {{"kind", "done"}});
    return alarm ? NightEnd::Alarm : NightEnd::Done;
}

}  // namespace cardionode::fed
