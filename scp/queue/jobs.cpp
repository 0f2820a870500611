// The pipeline's half of the queue: claims, heartbeats, results.
#include <set>

#include <fmt/format.h>

#include "scp/queue/session.h"

namespace cardionode {
namespace {

using State = Queue::State;

struct JobRef {
    std::int64_t job = 0;
    std::int64_t study = 0;
    int attempt = 0;
    std::int64_t ready_at = 0;
};

/// The job behind a claim while its token fits. None: the lease was lost.
std::optional<JobRef> held(State& state, const ClaimedStudy& claim) {
    Query row = state.query(
        "SELECT id, study_id, attempt, ready_at FROM jobs WHERE id = ? AND lease_token = ? AND state = 'processing'",
        claim.job_id, claim.lease_token);
    if (!row.next()) return std::nullopt;
    return JobRef{row.integer(0), row.integer(1), row.small(2), row.integer(3)};
}

void end_lease(State& state, std::int64_t job, std::string_view new_state) {
    state.run("UPDATE jobs SET state = ?, lease_token = NULL, lease_until = NULL WHERE id = ?", new_state, job);
}

void set_job_aside(State& state, const JobRef& job, ErrorKind kind, const std::string& reason) {
    end_lease(state, job.job, "set_aside");
    state.run("UPDATE jobs SET finished_at = ?, error_kind = ? WHERE id = ?", state.now(), to_string(kind), job.job);
    state.set_study_aside(job.study, reason);
}

struct DueJob {
    JobRef ref;
    std::string key;
    std::string study_instance_uid;
    int revision = 0;
    int conflicts = 0;
    int other_patient = 0;
    bool went_silent = false;
    std::string former_worker;
};

std::optional<DueJob> next_due(State& state) {
    Query row = state.query(
        "SELECT j.id, j.study_id, j.attempt, j.ready_at, s.key, s.study_instance_uid, j.revision, s.conflicts, "
        "j.state = 'processing', j.worker, (SELECT count(*) FROM instances i WHERE i.study_id = s.id AND i.conflict = "
        "1 "
        "AND i.other_patient = 1) FROM jobs j JOIN studies s ON s.id = j.study_id "
        "WHERE j.state IN ('ready', 'processing') AND "  // word for word as in the index jobs_waiting
        "((j.state = 'ready' AND j.not_before <= ?1) OR (j.state = 'processing' AND j.lease_until <= ?1)) "
        "ORDER BY CASE j.state WHEN 'ready' THEN j.not_before ELSE j.lease_until END, j.id LIMIT 1",
        state.now());
    if (!row.next()) return std::nullopt;
    return DueJob{.ref = {row.integer(0), row.integer(1), row.small(2), row.integer(3)},
                  .key = row.text(4),
                  .study_instance_uid = row.text(5),
                  .revision = row.small(6),
                  .conflicts = row.small(7),
                  .other_patient = row.small(10),
                  .went_silent = row.integer(8) != 0,
                  .former_worker = row.text(9)};
}

std::vector<InstanceRow> usable_instances(State& state, std::int64_t study) {
    Query row = state.query(
        "SELECT e.series_instance_uid, i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.modality, "
        "i.sha256, i.file, i.bytes FROM instances i JOIN series e ON e.id = i.series_id "
        "WHERE i.study_id = ? AND i.conflict = 0 ORDER BY i.series_id, i.id",
        study);
    std::vector<InstanceRow> out;
    while (row.next()) {
        out.push_back({row.text(0), row.text(1), row.text(2), row.text(3), row.text(4), row.text(5), row.text(6),
                       row.integer(7), false});
    }
    return out;
}

std::vector<OutputFile> outputs_to_replace(State& state, std::int64_t study, int revision) {
    Query row = state.query(
        "SELECT o.kind, o.sop_class_uid, o.sop_instance_uid, o.file FROM outputs o WHERE o.study_id = ?1 AND "
        "o.revision = (SELECT max(revision) FROM outbox WHERE study_id = ?1 AND revision < ?2 AND sent_at IS NOT NULL) "
        "AND EXISTS (SELECT 1 FROM outbox b WHERE b.output_id = o.id AND b.sent_at IS NOT NULL) ORDER BY o.id",
        study, revision);
    std::vector<OutputFile> out;
    while (row.next()) out.push_back({row.text(0), row.text(1), row.text(2), row.text(3)});
    return out;
}

/// The row of an output; the row of a former run of the same revision is used again.
std::int64_t find_or_make_output(State& state, const JobRef& job, int revision, const OutputFile& output) {
    {
        Query row = state.query("SELECT id, study_id, revision FROM outputs WHERE sop_instance_uid = ?",
                                output.sop_instance_uid);
        if (row.next()) {
            if (row.integer(1) != job.study || row.small(2) != revision) {
                throw Failure{bug_error("an output has the SOP Instance UID of another study's or revision's output")};
            }
            return row.integer(0);
        }
    }
    state.run(
        "INSERT INTO outputs (study_id, revision, kind, sop_class_uid, sop_instance_uid, file, made_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        job.study, revision, output.kind, output.sop_class_uid, output.sop_instance_uid, output.file, state.now());
    return state.database.last_insert_id();
}

void put_into_outbox(State& state, const JobRef& job, int revision, std::int64_t output, const std::string& to) {
    state.run(
        "INSERT INTO outbox (output_id, study_id, revision, destination, state, made_at, not_before) "
        "VALUES (?1, ?2, ?3, ?4, 'waiting', ?5, ?5) ON CONFLICT (output_id, destination) DO UPDATE SET "
        "state = 'waiting', attempt = 0, silent = 0, made_at = ?5, not_before = ?5, commitment = 'none', "
        "commit_attempt = 0, commit_due = 0 WHERE state IN ('set_aside', 'withdrawn')",
        output, job.study, revision, to, state.now());
}

}  // namespace

Result<std::optional<ClaimedStudy>> Queue::claim_study(const std::string& worker, Milliseconds lease,
                                                       int max_attempts) {
    State& state = *state_;
    return state.change("claiming a study", [&]() -> std::optional<ClaimedStudy> {
        while (auto due = next_due(state)) {
            if (due->went_silent && max_attempts > 0 && due->ref.attempt >= max_attempts) {
                set_job_aside(state, due->ref, ErrorKind::Bug,
                              fmt::format("the worker went silent in the middle of the last of {} tries: it crashed, "
                                          "was killed or hung; its log tells more",
                                          due->ref.attempt));
                continue;
            }
            if (due->went_silent) {
                state.event(due->ref.study, "lease_lost",
                            fmt::format("{} went silent during try {}", due->former_worker, due->ref.attempt));
            }
            ClaimedStudy claim;
            claim.job_id = due->ref.job;
            claim.study_key = due->key;
            claim.revision = due->revision;
            claim.attempt = due->ref.attempt + 1;
            claim.study_instance_uid = due->study_instance_uid;
            claim.conflicts = due->conflicts;
            claim.other_patient = due->other_patient;
            claim.lease_token = state.make_token();
            claim.instances = usable_instances(state, due->ref.study);
            claim.replaces = outputs_to_replace(state, due->ref.study, due->revision);
            state.run(
                "UPDATE jobs SET state = 'processing', attempt = attempt + 1, claims = claims + 1, worker = ?, "
                "lease_token = ?, lease_until = ? WHERE id = ?",
                worker, claim.lease_token, state.now() + lease.count(), claim.job_id);
            state.run("UPDATE studies SET late = 0 WHERE id = ? AND late > 0", due->ref.study);  // it has them now
            state.set_state(due->ref.study, StudyState::Processing);
            state.event(due->ref.study, "processing",
                        fmt::format("revision {}, try {}, by {}", claim.revision, claim.attempt, worker));
            return claim;
        }
        return std::nullopt;
    });
}

Result<bool> Queue::renew_study(const ClaimedStudy& claim, Milliseconds lease) {
    State& state = *state_;
    return state.change("renewing the claim of study " + claim.study_key, [&] {
        return state.run("UPDATE jobs SET lease_until = ? WHERE id = ? AND lease_token = ? AND state = 'processing'",
                         state.now() + lease.count(), claim.job_id, claim.lease_token) == 1;
    });
}

Result<bool> Queue::finish_study(const ClaimedStudy& claim, const JobOutcome& outcome,
                                 std::span<const OutputFile> outputs, std::span<const std::string> destinations) {
    State& state = *state_;
    return state.change("storing the result of study " + claim.study_key, [&] {
        const auto job = held(state, claim);
        if (!job) return false;
        std::set<std::string> uids;
        for (const OutputFile& output : outputs) {
            if (output.sop_instance_uid.empty() || !uids.insert(output.sop_instance_uid).second) {
                throw Failure{bug_error("two outputs share a SOP Instance UID, or one has none")};
            }
            const std::int64_t row = find_or_make_output(state, *job, claim.revision, output);
            for (const std::string& destination : destinations) {
                if (destination.empty()) throw Failure{bug_error("a destination without a name")};
                put_into_outbox(state, *job, claim.revision, row, destination);
            }
        }
        end_lease(state, job->job, "done");
        state.run("UPDATE jobs SET finished_at = ?, error_kind = '', result_json = ? WHERE id = ?", state.now(),
                  outcome.result_json, job->job);
        const bool nowhere = !outputs.empty() && destinations.empty();
        const std::string summary =
            nowhere ? outcome.summary + "; no destination is set, the outputs stay in the work folder"
                    : outcome.summary;
        state.run("UPDATE studies SET last_error = '', outcome = ? WHERE id = ?", summary, job->study);
        // A run that was repeated after all its outputs had been sent has nothing left to send.
        const bool to_send = state.number(0,
                                          "SELECT count(*) FROM outbox WHERE study_id = ? AND revision = ? AND (state "
                                          "IN ('waiting', 'sending') OR commitment IN ('wanted', 'asked'))",
                                          job->study, claim.revision) > 0;
        state.set_state(job->study, to_send ? StudyState::Sending : StudyState::Done);
        state.event(job->study, to_send ? "sending" : "done", summary);
        return true;
    });
}

Result<bool> Queue::fail_study(const ClaimedStudy& claim, const Error& error, const RetryPolicy& policy) {
    State& state = *state_;
    return state.change("noting the failure of study " + claim.study_key, [&] {
        const auto job = held(state, claim);
        if (!job) return false;
        const bool tries_left = policy.max_attempts <= 0 || job->attempt < policy.max_attempts;
        const bool time_left = !policy.give_up_after || state.now() - job->ready_at < policy.give_up_after->count();
        if (error.kind != ErrorKind::Retry) {
            set_job_aside(state, *job, error.kind, error.message);
        } else if (!tries_left || !time_left) {
            set_job_aside(state, *job, error.kind,
                          fmt::format("{} (given up after {} {})", error.message, job->attempt,
                                      job->attempt == 1 ? "try" : "tries"));
        } else {
            const std::int64_t pause = state.pause_after(policy, job->attempt);
            end_lease(state, job->job, "ready");
            state.run("UPDATE jobs SET not_before = ?, error_kind = ? WHERE id = ?", state.now() + pause,
                      to_string(error.kind), job->job);
            state.run("UPDATE studies SET last_error = ? WHERE id = ?", error.message, job->study);
            state.set_state(job->study, StudyState::Ready);
            state.event(job->study, "try_failed", fmt::format("{}; next try {}", error.message, next_try_in(pause)));
        }
        return true;
    });
}

Result<bool> Queue::release_study(const ClaimedStudy& claim) {
    State& state = *state_;
    return state.change("giving study " + claim.study_key + " back", [&] {
        const auto job = held(state, claim);
        if (!job) return false;
        end_lease(state, job->job, "ready");
        state.run("UPDATE jobs SET attempt = attempt - 1, not_before = ? WHERE id = ?", state.now(), job->job);
        state.set_state(job->study, StudyState::Ready);
        state.event(job->study, "ready", "given back by its worker");
        return true;
    });
}

Result<int> Queue::take_over(const std::string& worker) {
    State& state = *state_;
    return state.change("taking over what a former " + worker + " held", [&] {
        const std::int64_t now = state.now();
        const auto jobs = state.run(
            "UPDATE jobs SET lease_until = ?1 WHERE state = 'processing' AND worker = ?2 AND lease_until > ?1", now,
            worker);
        const auto sends =
            state.run("UPDATE outbox SET lease_until = ?1 WHERE state = 'sending' AND worker = ?2 AND lease_until > ?1",
                      now, worker);
        return static_cast<int>(jobs + sends);
    });
}

}  // namespace cardionode
