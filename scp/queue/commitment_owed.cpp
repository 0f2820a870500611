// Storage commitment for scanners: requests that this node has to answer.
#include <fmt/format.h>

#include "scp/queue/session.h"

namespace cardionode {
namespace {

using State = Queue::State;

constexpr int kMostWaiting = 2000;                                // in all; a scanner asks once a study
constexpr int kMostWaitingOfOne = 500;                            // of one AE title
constexpr Milliseconds kRemembered = std::chrono::hours(24 * 7);  // an ended request, to know its transaction again
constexpr int kNoSuchInstance = 0x0112, kClassInstanceConflict = 0x0119;

std::string lines_of(const std::vector<InstanceReference>& references) {
    std::string lines;
    for (const InstanceReference& reference : references)
        lines += reference.sop_class_uid + " " + reference.sop_instance_uid + "\n";
    return lines;
}

std::vector<InstanceReference> references_of(const std::string& lines) {
    std::vector<InstanceReference> references;
    for (std::size_t begin = 0; begin < lines.size();) {
        const std::size_t end = std::min(lines.find('\n', begin), lines.size());
        const std::size_t space = lines.find(' ', begin);
        if (space < end)
            references.push_back({lines.substr(begin, space - begin), lines.substr(space + 1, end - space - 1)});
        begin = end + 1;
    }
    return references;
}

#define OWED_COLUMNS                                                                                                \
    "SELECT id, calling_ae_title, called_ae_title, transaction_uid, reference_lines, duplicate, attempt, asked_at " \
    "FROM commitments_owed "

std::optional<OwedCommitment> read_owed(Query query) {
    if (!query.next()) return std::nullopt;
    OwedCommitment owed;
    owed.id = query.integer(0);
    owed.request = {query.text(1), query.text(2), query.text(3), references_of(query.text(4))};
    owed.duplicate = query.integer(5) != 0;
    owed.attempt = query.small(6);
    owed.asked_at = query.moment(7);
    return owed;
}

/// Gives the row to the caller until the lease is over.
void take(State& state, OwedCommitment& owed, Milliseconds lease) {
    owed.lease_token = state.make_token();
    state.run(
        "UPDATE commitments_owed SET state = 'waiting', ended_at = NULL, lease_token = ?, not_before = ? WHERE id = ?",
        owed.lease_token, state.now() + lease.count(), owed.id);
}

std::int64_t insert(State& state, const CommitmentRequest& request, const std::string& lines, bool duplicate) {
    state.run(
        "INSERT INTO commitments_owed (calling_ae_title, called_ae_title, transaction_uid, duplicate, reference_lines, "
        "state, asked_at, not_before) VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6, ?6)",
        request.calling_ae_title, request.called_ae_title, request.transaction_uid, duplicate, lines, state.now());
    return state.database.last_insert_id();
}

void refuse_when_full(State& state, const std::string& ae_title) {
    const bool full =
        state.number(0, "SELECT count(*) FROM commitments_owed WHERE state = 'waiting'") >= kMostWaiting ||
        state.number(0, "SELECT count(*) FROM commitments_owed WHERE state = 'waiting' AND calling_ae_title = ?",
                     ae_title) >= kMostWaitingOfOne;
    if (full) throw Failure{retry_error("too many requests for storage commitment wait for their answer")};
}

}  // namespace

Result<OwedCommitment> Queue::owe_commitment(const CommitmentRequest& request, Milliseconds lease) {
    State& state = *state_;
    return state.change("storing a request for storage commitment", [&] {
        const std::string lines = lines_of(request.references);
        std::int64_t row = 0;
        bool same = false;
        {
            Query known = state.query(
                "SELECT id, reference_lines = ?3 FROM commitments_owed WHERE calling_ae_title = ?1 AND "
                "transaction_uid = ?2 AND duplicate = 0",
                request.calling_ae_title, request.transaction_uid, lines);
            if (known.next()) {
                row = known.integer(0);
                same = known.integer(1) != 0;
            }
        }
        if (row == 0 || !same) {
            refuse_when_full(state, request.calling_ae_title);
            row = insert(state, request, lines, /*duplicate=*/row != 0);
        }
        auto owed = read_owed(state.query(OWED_COLUMNS "WHERE id = ?", row));
        take(state, *owed, lease);
        return *std::move(owed);
    });
}

Result<std::optional<OwedCommitment>> Queue::claim_owed_commitment(Milliseconds lease) {
    State& state = *state_;
    auto due = state.look("looking for requests for storage commitment", [&] {
        return state.number(0,
                            "SELECT (SELECT count(*) FROM commitments_owed WHERE state = 'waiting' AND not_before <= "
                            "?1) + (SELECT count(*) FROM commitments_owed WHERE ended_at <= ?2)",
                            state.now(), state.now() - kRemembered.count()) > 0;
    });
    if (!due) return std::move(due).error();
    if (!*due) return std::optional<OwedCommitment>();
    return state.change("claiming a request for storage commitment", [&] {
        state.run("DELETE FROM commitments_owed WHERE state <> 'waiting' AND ended_at <= ?",
                  state.now() - kRemembered.count());
        auto owed = read_owed(state.query(
            OWED_COLUMNS "WHERE state = 'waiting' AND not_before <= ? ORDER BY not_before, id LIMIT 1", state.now()));
        if (owed) take(state, *owed, lease);
        return owed;
    });
}

Result<bool> Queue::hold_owed_commitment(const OwedCommitment& owed, Milliseconds lease) {
    State& state = *state_;
    return state.change("holding a request for storage commitment", [&] {
        return state.run(
                   "UPDATE commitments_owed SET not_before = ? WHERE id = ? AND lease_token = ? AND state = "
                   "'waiting'",
                   state.now() + lease.count(), owed.id, owed.lease_token) == 1;
    });
}

Result<bool> Queue::release_owed_commitment(const OwedCommitment& owed) {
    State& state = *state_;
    return state.change("giving a request for storage commitment back", [&] {
        return state.run(
                   "UPDATE commitments_owed SET not_before = ?, lease_token = '' WHERE id = ? AND lease_token = "
                   "? AND state = 'waiting'",
                   state.now(), owed.id, owed.lease_token) == 1;
    });
}

Result<bool> Queue::commitment_reported(const OwedCommitment& owed) {
    State& state = *state_;
    return state.change("noting a report of storage commitment", [&] {
        return state.run(
                   "UPDATE commitments_owed SET state = 'reported', lease_token = '', last_error = '', ended_at "
                   "= ? WHERE id = ? AND lease_token = ? AND state = 'waiting'",
                   state.now(), owed.id, owed.lease_token) == 1;
    });
}

Result<bool> Queue::commitment_not_reported(const OwedCommitment& owed, const Error& error, const RetryPolicy& policy) {
    State& state = *state_;
    return state.change("noting that a report of storage commitment failed", [&] {
        const bool over =
            policy.give_up_after && state.now() - to_number(owed.asked_at) >= policy.give_up_after->count();
        const std::int64_t pause = over ? 0 : state.pause_after(policy, owed.attempt + 1);
        return state.run(
                   "UPDATE commitments_owed SET state = ?1, attempt = attempt + 1, lease_token = '', last_error "
                   "= ?2, not_before = ?3, ended_at = ?4 WHERE id = ?5 AND lease_token = ?6 AND state = "
                   "'waiting'",
                   over ? "given_up" : "waiting", error.message, state.now() + pause,
                   over ? std::optional<std::int64_t>(state.now()) : std::nullopt, owed.id, owed.lease_token) == 1;
    });
}

Result<std::vector<InstanceReference>> Queue::check_stored(std::span<const InstanceReference> references) {
    State& state = *state_;
    return state.look("looking for instances to commit", [&] {
        std::vector<InstanceReference> checked(references.begin(), references.end());
        for (InstanceReference& reference : checked) {
            Query row =
                state.query("SELECT sop_class_uid = ? FROM instances WHERE sop_instance_uid = ? AND conflict = 0",
                            reference.sop_class_uid, reference.sop_instance_uid);
            const bool there = row.next();
            reference.reason = static_cast<std::uint16_t>(!there                ? kNoSuchInstance
                                                          : row.integer(0) == 0 ? kClassInstanceConflict
                                                                                : 0);
        }
        return checked;
    });
}

}  // namespace cardionode
