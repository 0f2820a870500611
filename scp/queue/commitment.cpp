// Storage commitment by a destination: which outputs it was asked to keep, and what it answered.
#include <map>
#include <set>

#include <fmt/format.h>

#include "scp/queue/session.h"

namespace cardionode {
namespace {

using State = Queue::State;

// Failure Reason (0008,1197), PS3.3 C.14.1.1.
constexpr int kNoSuchInstance = 0x0112, kClassInstanceConflict = 0x0119, kClassNotSupported = 0x0122;

struct Row {
    std::int64_t id = 0;
    std::int64_t study = 0;
    int attempt = 0;  ///< requests so far
    std::int64_t made_at = 0;
    std::string name;  ///< "SEG to pacs1"
    std::string sop_class_uid;
    std::string sop_instance_uid;
    std::string transaction_uid;
};

// Rows of the outbox that wait to be committed.
#define UNCOMMITTED_ROWS                                                                             \
    "SELECT b.id, b.study_id, b.commit_attempt, b.made_at, o.kind, b.destination, o.sop_class_uid, " \
    "o.sop_instance_uid, b.transaction_uid FROM outbox b JOIN outputs o ON o.id = b.output_id "      \
    "JOIN studies s ON s.id = b.study_id "                                                           \
    "WHERE b.commitment IN ('wanted', 'asked') AND b.revision = s.revision "

std::vector<Row> read_rows(Query query) {
    std::vector<Row> rows;
    while (query.next()) {
        rows.push_back({query.integer(0), query.integer(1), query.small(2), query.integer(3),
                        fmt::format("{} to {}", query.text(4), query.text(5)), query.text(6), query.text(7),
                        query.text(8)});
    }
    return rows;
}

struct Asked {
    std::int64_t study = 0;
    std::string destination;
    RetryPolicy policy;
};

std::optional<Asked> asked(State& state, const std::string& transaction_uid, const std::string* ae_title) {
    Query row = state.query(
        "SELECT study_id, destination, retry_first_ms, retry_longest_ms, give_up_ms FROM commitments_asked "
        "WHERE transaction_uid = ?1 AND (?2 OR ae_title = ?3)",
        transaction_uid, ae_title == nullptr, ae_title ? *ae_title : std::string());
    if (!row.next()) return std::nullopt;
    RetryPolicy policy;
    policy.first = Milliseconds(row.integer(2));
    policy.longest = Milliseconds(row.integer(3));
    policy.max_attempts = 0;
    policy.give_up_after = Milliseconds(row.integer(4));
    return Asked{row.integer(0), row.text(1), policy};
}

void set_aside(State& state, const Row& row, const std::string& reason) {
    state.run("UPDATE outbox SET state = 'set_aside', commitment = 'none', last_error = ? WHERE id = ?", reason,
              row.id);
    state.event(row.study, "output_set_aside", fmt::format("{}: {}", row.name, reason));
}

bool given_up(State& state, const Row& row, const RetryPolicy& policy) {
    return policy.give_up_after && state.now() - row.made_at >= policy.give_up_after->count();
}

std::string given_up_words(const std::string& why, int attempts) {
    return fmt::format("{} (given up after {} {})", why, attempts, attempts == 1 ? "request" : "requests");
}

/// Asked again after a pause, or set aside when that was tried for long enough. @return the pause; none: set aside
std::optional<std::int64_t> ask_later(State& state, const Row& row, const std::string& why, const RetryPolicy& policy) {
    if (given_up(state, row, policy)) {
        set_aside(state, row, given_up_words(why, row.attempt));
        return std::nullopt;
    }
    const std::int64_t pause = state.pause_after(policy, row.attempt);
    state.run("UPDATE outbox SET commitment = 'wanted', commit_due = ?, last_error = ? WHERE id = ?",
              state.now() + pause, why, row.id);
    return pause;
}

/// The destination says that it has it not: it is sent again, under the same UIDs.
void send_again(State& state, const Row& row, const std::string& why, const RetryPolicy& policy) {
    if (given_up(state, row, policy)) return set_aside(state, row, given_up_words(why, row.attempt));
    const std::int64_t pause = state.pause_after(policy, row.attempt);
    state.run(
        "UPDATE outbox SET state = 'waiting', commitment = 'none', attempt = 0, silent = 0, not_before = ?, "
        "last_error = ? WHERE id = ?",
        state.now() + pause, why, row.id);
    state.event(row.study, "output_sent_again", fmt::format("{}: {}; {}", row.name, why, next_try_in(pause)));
}

/// One event for all, not one for each of many outputs.
void note_pause(State& state, std::int64_t study, const std::string& destination, const std::string& why,
                std::optional<std::int64_t> pause) {
    if (!pause) return;
    state.event(study, "not_committed",
                fmt::format("by {}: {}; asked again {}", destination, why, next_try_in(*pause)));
}

/// Requests whose answer did not come in time.
void note_silence(State& state, const std::string& destination, const RetryPolicy& policy) {
    const std::vector<Row> silent =
        read_rows(state.query(UNCOMMITTED_ROWS "AND b.destination = ? AND b.commitment = 'asked' AND b.commit_due <= ?",
                              destination, state.now()));
    const std::string why = "no answer to the request for storage commitment";
    std::map<std::int64_t, std::optional<std::int64_t>> pauses;
    for (const Row& row : silent) pauses[row.study] = ask_later(state, row, why, policy);
    for (const auto& [study, pause] : pauses) {
        note_pause(state, study, destination, why, pause);
        settle_study(state, study);
    }
}

std::string failure_words(int reason) {
    switch (reason) {
        case 0x0110: return "processing failure (0x0110)";
        case kNoSuchInstance: return "no such instance (0x0112)";
        case kClassInstanceConflict: return "class-instance conflict (0x0119)";
        case kClassNotSupported: return "SOP class not supported (0x0122)";
        case 0x0131: return "duplicate transaction (0x0131)";
        case 0x0213: return "resource limitation (0x0213)";
        default: return fmt::format("reason 0x{:04X}", reason);
    }
}

void note_committed(State& state, const Asked& request, const std::set<std::string>& kept) {
    int count = 0;
    for (const Row& row : read_rows(state.query(UNCOMMITTED_ROWS "AND b.study_id = ? AND b.destination = ?",
                                                request.study, request.destination))) {
        if (!kept.contains(row.sop_instance_uid)) continue;
        state.run("UPDATE outbox SET commitment = 'committed', committed_at = ?, last_error = '' WHERE id = ?",
                  state.now(), row.id);
        ++count;
    }
    if (count == 0) return;
    state.event(request.study, "outputs_committed",
                fmt::format("{} {} by {}", count, count == 1 ? "output" : "outputs", request.destination));
}

}  // namespace

Result<std::optional<CommitmentAsk>> Queue::ask_commitment(const std::string& destination, const std::string& ae_title,
                                                           const std::string& transaction_uid, Milliseconds wait,
                                                           const RetryPolicy& policy) {
    State& state = *state_;
    // Most looks find nothing: they do without the writer's lock.
    auto due = state.look("looking for outputs to commit", [&] {
        return state.number(0,
                            "SELECT count(*) FROM outbox WHERE commitment IN ('wanted', 'asked') AND destination = ? "
                            "AND commit_due <= ?",
                            destination, state.now()) > 0;
    });
    if (!due) return std::move(due).error();
    if (!*due) return std::optional<CommitmentAsk>();
    return state.change("noting a request for storage commitment", [&]() -> std::optional<CommitmentAsk> {
        note_silence(state, destination, policy);
        const std::int64_t study = state.number(
            0,
            "SELECT b.study_id FROM outbox b JOIN studies s ON s.id = b.study_id WHERE b.commitment = 'wanted' AND "
            "b.destination = ?1 AND b.commit_due <= ?2 AND b.revision = s.revision AND NOT EXISTS (SELECT 1 FROM "
            "outbox w WHERE w.study_id = b.study_id AND w.destination = ?1 AND w.revision = b.revision AND w.state IN "
            "('waiting', 'sending')) ORDER BY b.commit_due, b.id LIMIT 1",
            destination, state.now());
        if (study == 0) return std::nullopt;
        const std::vector<Row> rows = read_rows(
            state.query(UNCOMMITTED_ROWS
                        "AND b.study_id = ? AND b.destination = ? AND b.commitment = 'wanted' AND b.commit_due <= "
                        "?",
                        study, destination, state.now()));
        CommitmentAsk ask;
        ask.transaction_uid = transaction_uid;
        ask.destination = destination;
        {
            Query key = state.query("SELECT key FROM studies WHERE id = ?", study);
            key.next();
            ask.study_key = key.text(0);
        }
        for (const Row& row : rows) {
            ask.outputs.push_back({row.sop_class_uid, row.sop_instance_uid});
            ask.attempt = std::max(ask.attempt, row.attempt + 1);
            state.run(
                "UPDATE outbox SET commitment = 'asked', commit_attempt = commit_attempt + 1, commit_due = ?, "
                "transaction_uid = ? WHERE id = ?",
                state.now() + wait.count(), transaction_uid, row.id);
        }
        state.run(
            "INSERT INTO commitments_asked (transaction_uid, destination, ae_title, study_id, asked_at, "
            "retry_first_ms, retry_longest_ms, give_up_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            transaction_uid, destination, ae_title, study, state.now(), static_cast<std::int64_t>(policy.first.count()),
            static_cast<std::int64_t>(policy.longest.count()),
            policy.give_up_after ? static_cast<std::int64_t>(policy.give_up_after->count()) : INT64_MAX);
        return ask;
    });
}

Result<void> Queue::commitment_not_asked(const CommitmentAsk& ask, const Error& error) {
    State& state = *state_;
    return state.change("noting a failed request for storage commitment", [&] {
        const auto request = asked(state, ask.transaction_uid, nullptr);
        if (!request) return;
        std::optional<std::int64_t> pause;
        for (const Row& row : read_rows(state.query(
                 UNCOMMITTED_ROWS "AND b.commitment = 'asked' AND b.transaction_uid = ?", ask.transaction_uid))) {
            if (error.kind == ErrorKind::Retry) pause = ask_later(state, row, error.message, request->policy);
            else set_aside(state, row, error.message);
        }
        note_pause(state, request->study, request->destination, error.message, pause);
        settle_study(state, request->study);
    });
}

Result<void> Queue::commitment_not_offered(const CommitmentAsk& ask, const std::string& why) {
    State& state = *state_;
    return state.change("noting that storage commitment is not offered", [&] {
        const auto request = asked(state, ask.transaction_uid, nullptr);
        if (!request) return;
        const auto rows = state.run(
            "UPDATE outbox SET commitment = 'not_offered', last_error = '' WHERE commitment = 'asked' AND "
            "transaction_uid = ?",
            ask.transaction_uid);
        if (rows > 0)
            state.event(request->study, "commitment_not_offered", fmt::format("by {}: {}", request->destination, why));
        settle_study(state, request->study);
    });
}

Result<AnswerOutcome> Queue::commitment_answered(const std::string& ae_title, const CommitmentAnswer& answer) {
    State& state = *state_;
    return state.change("noting an answer about storage commitment", [&] {
        const auto request = asked(state, answer.transaction_uid, &ae_title);
        if (!request) return AnswerOutcome::Unknown;
        std::set<std::string> kept;
        for (const InstanceReference& reference : answer.committed) kept.insert(reference.sop_instance_uid);
        std::map<std::string, int> failed;
        for (const InstanceReference& reference : answer.failed) {
            failed[reference.sop_instance_uid] = reference.reason;
            kept.erase(reference.sop_instance_uid);  // named in both: no promise
        }
        note_committed(state, *request, kept);
        std::optional<std::int64_t> pause;
        std::string later;
        for (const Row& row : read_rows(state.query(
                 UNCOMMITTED_ROWS "AND b.commitment = 'asked' AND b.transaction_uid = ?", answer.transaction_uid))) {
            const auto found = failed.find(row.sop_instance_uid);
            const std::string why =
                "not committed: " + (found == failed.end() ? "the answer leaves it out" : failure_words(found->second));
            const int reason = found == failed.end() ? 0 : found->second;
            if (reason == kNoSuchInstance) {
                send_again(state, row, why, request->policy);
            } else if (reason == kClassInstanceConflict || reason == kClassNotSupported) {
                set_aside(state, row, why);
            } else {
                pause = ask_later(state, row, why, request->policy);
                later = why;
            }
        }
        note_pause(state, request->study, request->destination, later, pause);
        state.run("UPDATE commitments_asked SET answered_at = ? WHERE transaction_uid = ?", state.now(),
                  answer.transaction_uid);
        settle_study(state, request->study);
        return AnswerOutcome::Taken;
    });
}

Result<void> Queue::commitment_not_wanted(const std::string& destination) {
    State& state = *state_;
    return state.change("forgetting what " + destination + " was to commit", [&] {
        const std::vector<Row> rows = read_rows(state.query(UNCOMMITTED_ROWS "AND b.destination = ?", destination));
        std::set<std::int64_t> studies;
        for (const Row& row : rows) {
            state.run("UPDATE outbox SET commitment = 'none', last_error = '' WHERE id = ?", row.id);
            studies.insert(row.study);
        }
        for (const std::int64_t study : studies) settle_study(state, study);
    });
}

}  // namespace cardionode
