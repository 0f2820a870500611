// What the parts of Queue share: cached statements, transactions, events. Inside scp/queue; others use queue.h.
//
// Between the SQL wrapper and the public methods failures travel as an exception (Failure), so that a transaction reads
// as the steps it is made of; look() and change() catch it at the edge and return it as the Error it carries.
// Thread safety: one thread at a time.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>

#include "conf/base/sqlite.h"
#include "conf/base/time.h"
#include "scp/queue/queue.h"

namespace cardionode {

struct Failure {
    Error error;
};

constexpr int kEventsKept = 500;  ///< of each study

inline std::int64_t to_number(Moment moment) { return moment.time_since_epoch().count(); }
inline Moment to_moment(std::int64_t number) { return Moment(Milliseconds(number)); }
inline std::optional<Moment> to_moment(std::optional<std::int64_t> number) {
    if (!number) return std::nullopt;
    return to_moment(*number);
}

/// One use of a cached statement; afterwards the statement is free for the next use.
class Query {
public:
    Query(Statement& statement, bool& in_use) : statement_(statement), in_use_(in_use) { in_use_ = true; }
    ~Query() {
        statement_.reset();  // an unfinished SELECT would hold its snapshot, and binding again would be refused
        in_use_ = false;
    }
    Query(const Query&) = delete;
    Query& operator=(const Query&) = delete;

    /// true: a row is there to read.
    bool next() {
        auto row = statement_.step();
        if (!row) throw Failure{std::move(row).error()};
        return *row;
    }
    std::int64_t integer(int column) const { return statement_.integer(column); }
    int small(int column) const { return static_cast<int>(statement_.integer(column)); }
    std::string text(int column) const { return statement_.text(column); }
    Moment moment(int column) const { return to_moment(statement_.integer(column)); }
    std::optional<Moment> optional_moment(int column) const { return to_moment(statement_.optional_integer(column)); }
    bool is_null(int column) const { return statement_.is_null(column); }

private:
    Statement& statement_;
    bool& in_use_;
};

struct Queue::State {
    Database database;
    const Clock* clock;
    std::mt19937_64 jitter;

    State(Database opened, const Clock& time, std::uint64_t jitter_seed)
        : database(std::move(opened)), clock(&time), jitter(jitter_seed) {}

    std::int64_t now() const { return to_number(clock->now()); }

    /// @param sql  a literal: the statement is prepared once and kept under it
    template <class... Values>
    Query query(std::string_view sql, const Values&... values) {
        Prepared& prepared = prepared_for(sql);
        prepared.statement.bind(values...);
        return Query(prepared.statement, prepared.in_use);
    }
    /// Runs a statement that changes something. @return how many rows
    template <class... Values>
    std::int64_t run(std::string_view sql, const Values&... values) {
        query(sql, values...).next();
        return database.changes();
    }
    /// The first column of the first row. @return `otherwise` when there is none
    template <class... Values>
    std::int64_t number(std::int64_t otherwise, std::string_view sql, const Values&... values) {
        Query q = query(sql, values...);
        return q.next() ? q.integer(0) : otherwise;
    }

    /// Runs `steps` in BEGIN IMMEDIATE ... COMMIT; everything or nothing of it happens.
    template <class Steps>
    auto change(std::string_view doing, Steps&& steps) -> Result<std::invoke_result_t<Steps>> {
        using T = std::invoke_result_t<Steps>;
        try {
            auto transaction = Transaction::begin(database);
            if (!transaction) return std::move(transaction).error().in(doing);
            if constexpr (std::is_void_v<T>) {
                steps();
                if (auto done = transaction->commit(); !done) return std::move(done).error().in(doing);
                return {};
            } else {
                T value = steps();
                if (auto done = transaction->commit(); !done) return std::move(done).error().in(doing);
                return value;
            }
        } catch (Failure& failure) {
            return std::move(failure.error).in(doing);
        }
    }
    /// Runs `steps` on one snapshot of the file, without the writer's lock.
    template <class Steps>
    auto look(std::string_view doing, Steps&& steps) -> Result<std::invoke_result_t<Steps>> {
        try {
            if (auto begun = database.execute("BEGIN"); !begun) return std::move(begun).error().in(doing);
            const Snapshot snapshot{database};
            return steps();
        } catch (Failure& failure) {
            return std::move(failure.error).in(doing);
        }
    }

    void event(std::int64_t study, std::string_view name, std::string_view detail);
    /// Row number of the study. Failure: Reject when there is none.
    std::int64_t study_row(const std::string& key);
    void set_state(std::int64_t study, StudyState state);
    /// Sets the study's state, last error and outcome, and writes the event.
    void set_study_aside(std::int64_t study, const std::string& reason);
    /// 32 random hexadecimal digits.
    std::string make_token();
    /// The pause before try `attempt` + 1.
    std::int64_t pause_after(const RetryPolicy& policy, int attempt);

private:
    struct Prepared {
        Statement statement;
        bool in_use = false;
    };
    struct Snapshot {
        Database& database;
        ~Snapshot() {
            // Nothing was written; a COMMIT that fails leaves nothing to tell.
            [[maybe_unused]] const auto ended = database.execute("COMMIT");
        }
    };
    Prepared& prepared_for(std::string_view sql);
    std::unordered_map<std::string_view, Prepared> prepared_;
};

/// The study is analysed again as revision old_revision + 1; see "A late image" in schema.sql.
void begin_revision(Queue::State& state, std::int64_t study, int old_revision, int late);
/// The study's revision waits for a worker from now on.
void make_job(Queue::State& state, std::int64_t study, std::string_view job_state);

/// When nothing of the study's revision is on its way any more, and nothing waits to be committed, the study is done,
/// or set aside if something failed.
void settle_study(Queue::State& state, std::int64_t study);

/// "in 45 s", "in 12 min", "in 2.5 h": when the next try comes, for an event.
std::string next_try_in(std::int64_t pause_milliseconds);

StudyState study_state_from(std::string_view word);

/// first * 2^(attempt-1), at most longest, times `jitter` (0.8 to 1.2).
Milliseconds pause_for(const RetryPolicy& policy, int attempt, double jitter);

}  // namespace cardionode
