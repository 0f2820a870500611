// The sender's half of the queue: outputs on their way to the destinations.
#include <fmt/format.h>

#include "scp/queue/session.h"

namespace cardionode {
namespace {

using State = Queue::State;

/// An output that silenced its sender this often is set aside: the object itself seems to do it.
constexpr int kMostSilences = 10;

struct SendRef {
    std::int64_t row = 0;
    std::int64_t study = 0;
    int attempt = 0;
    std::int64_t made_at = 0;
    bool outdated = false;  ///< the study has a newer revision
    std::string name;       ///< "SEG to pacs1"
};

std::optional<SendRef> held(State& state, const ClaimedOutput& claim) {
    Query row = state.query(
        "SELECT b.id, b.study_id, b.attempt, b.made_at, b.revision < s.revision, o.kind, b.destination FROM outbox b "
        "JOIN studies s ON s.id = b.study_id JOIN outputs o ON o.id = b.output_id "
        "WHERE b.id = ? AND b.lease_token = ? AND b.state = 'sending'",
        claim.outbox_id, claim.lease_token);
    if (!row.next()) return std::nullopt;
    return SendRef{row.integer(0), row.integer(1),      row.small(2),
                   row.integer(3), row.integer(4) != 0, fmt::format("{} to {}", row.text(5), row.text(6))};
}

void end_lease(State& state, std::int64_t row, std::string_view new_state) {
    state.run("UPDATE outbox SET state = ?, lease_token = NULL, lease_until = NULL WHERE id = ?", new_state, row);
}

/// Ends a try for good: the row waits no more. An outdated output is withdrawn, for there is no use in sending it.
void set_output_aside(State& state, const SendRef& send, const std::string& reason) {
    end_lease(state, send.row, send.outdated ? "withdrawn" : "set_aside");
    state.run("UPDATE outbox SET last_error = ? WHERE id = ?", reason, send.row);
    state.event(send.study, send.outdated ? "output_withdrawn" : "output_set_aside",
                fmt::format("{}: {}", send.name, reason));
    settle_study(state, send.study);
}

struct DueOutput {
    ClaimedOutput claim;
    SendRef ref;
    bool went_silent = false;
    int silences = 0;
    std::string former_worker;
};

std::optional<DueOutput> next_due(State& state, const std::string& destination) {
    Query row = state.query(
        "SELECT b.id, b.study_id, b.attempt, b.made_at, s.key, b.revision, b.destination, o.kind, o.sop_class_uid, "
        "o.sop_instance_uid, o.file, b.state = 'sending', b.silent, b.worker, b.revision < s.revision FROM outbox b "
        "JOIN outputs o ON o.id = b.output_id JOIN studies s ON s.id = b.study_id "
        "WHERE b.state IN ('waiting', 'sending') AND "  // word for word as in the index outbox_waiting
        "((b.state = 'waiting' AND b.not_before <= ?1) OR (b.state = 'sending' AND b.lease_until <= ?1)) "
        "AND (?2 = '' OR b.destination = ?2) "
        "AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.study_id = b.study_id AND e.destination = b.destination AND "
        "e.revision < b.revision AND e.state = 'sending' AND e.lease_until > ?1) "
        "ORDER BY CASE b.state WHEN 'waiting' THEN b.not_before ELSE b.lease_until END, b.id LIMIT 1",
        state.now(), destination);
    if (!row.next()) return std::nullopt;
    DueOutput due;
    due.ref = {row.integer(0), row.integer(1),       row.small(2),
               row.integer(3), row.integer(14) != 0, fmt::format("{} to {}", row.text(7), row.text(6))};
    due.claim.outbox_id = due.ref.row;
    due.claim.study_key = row.text(4);
    due.claim.revision = row.small(5);
    due.claim.attempt = due.ref.attempt + 1;
    due.claim.destination = row.text(6);
    due.claim.output = {row.text(7), row.text(8), row.text(9), row.text(10)};
    due.went_silent = row.integer(11) != 0;
    due.silences = row.small(12);
    due.former_worker = row.text(13);
    return due;
}

}  // namespace

void settle_study(Queue::State& state, std::int64_t study) {
    int open = 0;
    int aside = 0;
    int committed = 0;
    {
        Query row = state.query(
            "SELECT total(b.state IN ('waiting', 'sending') OR b.commitment IN ('wanted', 'asked')), "
            "total(b.state = 'set_aside'), total(b.commitment = 'committed') FROM outbox b "
            "JOIN studies s ON s.id = b.study_id "
            "WHERE s.id = ? AND s.state = 'sending' AND b.revision = s.revision HAVING count(*) > 0",
            study);
        if (!row.next()) return;
        open = row.small(0);
        aside = row.small(1);
        committed = row.small(2);
    }
    if (open > 0) return;
    if (aside > 0) {
        state.set_state(study, StudyState::SetAside);
        state.event(study, "set_aside",
                    fmt::format("{} {} could not be delivered", aside, aside == 1 ? "output" : "outputs"));
    } else {
        state.set_state(study, StudyState::Done);
        state.event(study, "done", committed > 0 ? "every output is sent and kept" : "every output is sent");
    }
}

Result<std::optional<ClaimedOutput>> Queue::claim_output(const std::string& worker, Milliseconds lease,
                                                         const std::string& destination) {
    State& state = *state_;
    return state.change("claiming an output", [&]() -> std::optional<ClaimedOutput> {
        while (auto due = next_due(state, destination)) {
            if (due->went_silent) {
                const int silences = due->silences + 1;
                state.run("UPDATE outbox SET silent = ? WHERE id = ?", silences, due->ref.row);
                state.event(due->ref.study, "lease_lost",
                            fmt::format("{}: {} went silent during try {}", due->ref.name, due->former_worker,
                                        due->ref.attempt));
                if (due->ref.outdated || silences >= kMostSilences) {
                    set_output_aside(state, due->ref,
                                     fmt::format("the sender went silent {} {} while sending it", silences,
                                                 silences == 1 ? "time" : "times"));
                    continue;
                }
            }
            due->claim.lease_token = state.make_token();
            state.run(
                "UPDATE outbox SET state = 'sending', attempt = attempt + 1, worker = ?, lease_token = ?, "
                "lease_until = ? WHERE id = ?",
                worker, due->claim.lease_token, state.now() + lease.count(), due->ref.row);
            return std::move(due->claim);
        }
        return std::nullopt;
    });
}

Result<bool> Queue::renew_output(const ClaimedOutput& claim, Milliseconds lease) {
    State& state = *state_;
    return state.change("renewing the claim of an output of study " + claim.study_key, [&] {
        return state.run("UPDATE outbox SET lease_until = ? WHERE id = ? AND lease_token = ? AND state = 'sending'",
                         state.now() + lease.count(), claim.outbox_id, claim.lease_token) == 1;
    });
}

Result<bool> Queue::output_sent(const ClaimedOutput& claim, const std::string& note, bool commit) {
    State& state = *state_;
    return state.change("noting that an output of study " + claim.study_key + " is sent", [&] {
        const auto send = held(state, claim);
        if (!send) return false;
        end_lease(state, send->row, "sent");
        // commit_attempt goes on from the former sending: a destination that says "not here" again and again is asked
        // at growing pauses.
        state.run(
            "UPDATE outbox SET sent_at = ?1, note = ?2, last_error = '', commitment = ?3, committed_at = NULL, "
            "commit_due = ?1 WHERE id = ?4",
            state.now(), note, commit && !send->outdated ? "wanted" : "none", send->row);
        state.event(send->study, "output_sent", note.empty() ? send->name : fmt::format("{}: {}", send->name, note));
        settle_study(state, send->study);
        return true;
    });
}

Result<bool> Queue::output_failed(const ClaimedOutput& claim, const Error& error, const RetryPolicy& policy) {
    State& state = *state_;
    return state.change("noting that an output of study " + claim.study_key + " could not be sent", [&] {
        const auto send = held(state, claim);
        if (!send) return false;
        const bool tries_left = policy.max_attempts <= 0 || send->attempt < policy.max_attempts;
        const bool time_left = !policy.give_up_after || state.now() - send->made_at < policy.give_up_after->count();
        if (error.kind != ErrorKind::Retry || send->outdated) {
            set_output_aside(state, *send, error.message);
        } else if (!tries_left || !time_left) {
            set_output_aside(state, *send,
                             fmt::format("{} (given up after {} {})", error.message, send->attempt,
                                         send->attempt == 1 ? "try" : "tries"));
        } else {
            const std::int64_t pause = state.pause_after(policy, send->attempt);
            end_lease(state, send->row, "waiting");
            state.run("UPDATE outbox SET not_before = ?, silent = 0, last_error = ? WHERE id = ?", state.now() + pause,
                      error.message, send->row);
            state.event(send->study, "try_failed",
                        fmt::format("{}: {}; next try {}", send->name, error.message, next_try_in(pause)));
        }
        return true;
    });
}

Result<bool> Queue::release_output(const ClaimedOutput& claim) {
    State& state = *state_;
    return state.change("giving an output of study " + claim.study_key + " back", [&] {
        const auto send = held(state, claim);
        if (!send) return false;
        end_lease(state, send->row, send->outdated ? "withdrawn" : "waiting");
        state.run("UPDATE outbox SET attempt = attempt - 1, not_before = ? WHERE id = ?", state.now(), send->row);
        state.event(send->study, "output_released", send->name);
        return true;
    });
}

}  // namespace cardionode
