#include "scp/queue/queue.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <thread>

#include <fmt/format.h>

#include "scp/queue/schema.h"
#include "scp/queue/session.h"

namespace cardionode {
namespace {

constexpr std::array<std::pair<StudyState, std::string_view>, 6> kStates{{{StudyState::Receiving, "receiving"},
                                                                          {StudyState::Ready, "ready"},
                                                                          {StudyState::Processing, "processing"},
                                                                          {StudyState::Sending, "sending"},
                                                                          {StudyState::Done, "done"},
                                                                          {StudyState::SetAside, "set_aside"}}};

std::uint64_t random_seed() {
    std::random_device device;
    return (static_cast<std::uint64_t>(device()) << 32) | device();
}

Result<Database> open_once(const std::filesystem::path& file, const Clock& clock, const QueueOptions& options) {
    auto database = options.mode == QueueOptions::Mode::ReadOnly ? Database::open_read_only(file)
                                                                 : Database::open(file, /*durable=*/true);
    if (!database) return database;
    auto shaped = options.mode == QueueOptions::Mode::MakeOrMigrate ? migrate(*database, queue_schema(), clock.now())
                                                                    : require_current(*database, queue_schema());
    if (!shaped) return std::move(shaped).error();
    return database;
}

}  // namespace

std::string_view to_string(StudyState state) {
    for (const auto& [value, word] : kStates) {
        if (value == state) return word;
    }
    throw std::logic_error("to_string: not a StudyState");
}

StudyState study_state_from(std::string_view word) {
    for (const auto& [value, text] : kStates) {
        if (text == word) return value;
    }
    throw Failure{bug_error(fmt::format("queue: unknown state \"{}\"", word))};
}

std::string next_try_in(std::int64_t pause_milliseconds) {
    const std::int64_t seconds = (pause_milliseconds + 500) / 1000;
    if (seconds < 120) return fmt::format("in {} s", seconds);
    if (seconds < 7200) return fmt::format("in {} min", (seconds + 30) / 60);
    return fmt::format("in {:.1f} h", static_cast<double>(seconds) / 3600);
}

Milliseconds pause_for(const RetryPolicy& policy, int attempt, double jitter) {
    const int doublings = std::clamp(attempt - 1, 0, 40);
    const double pause = std::min(static_cast<double>(policy.first.count()) * static_cast<double>(1LL << doublings),
                                  static_cast<double>(policy.longest.count()));
    return Milliseconds(static_cast<std::int64_t>(pause * jitter));
}

Queue::Queue(std::unique_ptr<State> state) : state_(std::move(state)) {}
Queue::Queue(Queue&&) noexcept = default;
Queue& Queue::operator=(Queue&&) noexcept = default;
Queue::~Queue() = default;

Result<Queue> Queue::open(const std::filesystem::path& file, const Clock& clock, const QueueOptions& options) {
    const std::string doing = "opening the queue " + file.string();
    if (options.mode != QueueOptions::Mode::MakeOrMigrate) {
        std::error_code error;
        const auto found = std::filesystem::status(file, error).type();
        if (found == std::filesystem::file_type::not_found) {
            return config_error(fmt::format("no database at {}: has cardionode-scp been started?", file.string()));
        }
        if (error) return config_error(fmt::format("{}: {}", doing, error.message()));
    }
    // The change to WAL needs the file for itself and does not wait for its turn: two services that start together on
    // a new file would see "locked" once.
    constexpr int kTries = 100;
    for (int i = 1;; ++i) {
        auto database = open_once(file, clock, options);
        if (database) {
            const std::uint64_t seed = options.jitter_seed ? options.jitter_seed : random_seed();
            return Queue(std::make_unique<State>(*std::move(database), clock, seed));
        }
        if (database.error().kind != ErrorKind::Retry || i == kTries) return std::move(database).error().in(doing);
        std::this_thread::sleep_for(Milliseconds(20));
    }
}

Queue::State::Prepared& Queue::State::prepared_for(std::string_view sql) {
    auto found = prepared_.find(sql);
    if (found == prepared_.end()) {
        auto statement = database.prepare(sql);
        if (!statement) throw Failure{std::move(statement).error()};
        found = prepared_.emplace(sql, Prepared{*std::move(statement)}).first;
    }
    if (found->second.in_use) throw std::logic_error("queue: a statement is used while it is in use");
    return found->second;
}

void Queue::State::event(std::int64_t study, std::string_view name, std::string_view detail) {
    run("INSERT INTO events (study_id, at, event, detail) VALUES (?, ?, ?, ?)", study, now(), name, detail);
    run("DELETE FROM events WHERE study_id = ?1 AND id <= "
        "(SELECT id FROM events WHERE study_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        study, kEventsKept);
}

std::int64_t Queue::State::study_row(const std::string& key) {
    const std::int64_t row = number(0, "SELECT id FROM studies WHERE key = ?", key);
    if (row == 0) throw Failure{reject_error("there is no such study in the queue")};
    return row;
}

void Queue::State::set_state(std::int64_t study, StudyState state) {
    run("UPDATE studies SET state = ?, state_since = ? WHERE id = ?", to_string(state), now(), study);
}

void Queue::State::set_study_aside(std::int64_t study, const std::string& reason) {
    set_state(study, StudyState::SetAside);
    run("UPDATE studies SET last_error = ?1, outcome = ?1 WHERE id = ?2", reason, study);
    event(study, "set_aside", reason);
}

std::string Queue::State::make_token() {
    // From the system, not from the seeded source: two processes must never make the same one.
    return fmt::format("{:016x}{:016x}", random_seed(), random_seed());
}

std::int64_t Queue::State::pause_after(const RetryPolicy& policy, int attempt) {
    return pause_for(policy, attempt, std::uniform_real_distribution<double>(0.8, 1.2)(jitter)).count();
}

}  // namespace cardionode
