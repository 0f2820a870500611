// The operator's half of the queue: what there is, what happened, try again.
#include <fmt/format.h>

#include "scp/queue/session.h"

namespace cardionode {
namespace {

using State = Queue::State;

// The columns of a StudyRow, in its order. The last error is that of the work on the study or, when it has none, the
// newest of an output that is not sent.
#define STUDY_COLUMNS                                                                                                 \
    "SELECT s.key, s.state, s.revision, (SELECT count(*) FROM series e WHERE e.study_id = s.id), s.instances, "       \
    "s.conflicts, s.bytes, s.first_received, s.last_received, s.calling_ae_title, coalesce(j.attempt, 0), "           \
    "CASE s.state WHEN 'ready' THEN CASE WHEN j.attempt > 0 THEN j.not_before END WHEN 'sending' THEN (SELECT "       \
    "min(CASE b.state WHEN 'waiting' THEN b.not_before ELSE b.commit_due END) FROM outbox b WHERE b.study_id = s.id " \
    "AND b.revision = s.revision AND ((b.state = 'waiting' AND b.attempt > 0) OR (b.commitment = 'wanted' AND "       \
    "b.commit_attempt > 0))) END, "                                                                                   \
    "CASE WHEN s.last_error <> '' THEN s.last_error ELSE coalesce((SELECT o.kind || ' to ' || b.destination || ': ' " \
    "|| b.last_error FROM outbox b JOIN outputs o ON o.id = b.output_id WHERE b.study_id = s.id AND b.revision = "    \
    "s.revision AND (b.state <> 'sent' OR b.commitment IN ('wanted', 'asked')) AND b.last_error <> '' ORDER BY "      \
    "b.not_before DESC, b.id LIMIT 1), '') END, "                                                                     \
    "s.outcome, "                                                                                                     \
    "(SELECT count(*) FROM outbox b WHERE b.study_id = s.id AND b.revision = s.revision), "                           \
    "(SELECT count(*) FROM outbox b WHERE b.study_id = s.id AND b.revision = s.revision AND b.state = 'sent'), "      \
    "(SELECT count(*) FROM outbox b WHERE b.study_id = s.id AND b.revision = s.revision AND b.state = 'set_aside') "  \
    ", s.study_instance_uid, (SELECT count(*) FROM outbox b WHERE b.study_id = s.id AND b.revision = s.revision AND " \
    "b.commitment IN ('wanted', 'asked')), s.late, s.other_patient FROM studies s LEFT JOIN jobs j ON j.study_id = "  \
    "s.id AND j.revision = s.revision "

StudyRow read_study(const Query& row) {
    StudyRow study;
    study.study_key = row.text(0);
    study.state = study_state_from(row.text(1));
    study.revision = row.small(2);
    study.series = row.small(3);
    study.instances = row.small(4);
    study.conflicts = row.small(5);
    study.bytes = row.integer(6);
    study.first_received = row.moment(7);
    study.last_received = row.moment(8);
    study.calling_ae_title = row.text(9);
    study.attempts = row.small(10);
    study.next_try = row.optional_moment(11);
    study.last_error = row.text(12);
    study.outcome = row.text(13);
    study.outputs_total = row.small(14);
    study.outputs_sent = row.small(15);
    study.outputs_set_aside = row.small(16);
    study.study_instance_uid = row.text(17);
    study.outputs_uncommitted = row.small(18);
    study.late = row.small(19);
    study.other_patient = row.small(20);
    return study;
}

std::vector<DestinationStatus> destinations_of(State& state) {
    Query row = state.query(
        "SELECT b.destination, total(b.state IN ('waiting', 'sending')), total(b.state = 'sent'), "
        "total(b.state = 'set_aside'), min(CASE WHEN b.state = 'waiting' THEN b.not_before END), max(b.sent_at), "
        "coalesce((SELECT e.last_error FROM outbox e WHERE e.destination = b.destination AND (e.state IN ('waiting', "
        "'sending', 'set_aside') OR e.commitment IN ('wanted', 'asked')) AND e.last_error <> '' ORDER BY e.not_before "
        "DESC LIMIT 1), ''), total(b.commitment IN ('wanted', 'asked')) "
        "FROM outbox b GROUP BY b.destination ORDER BY b.destination");
    std::vector<DestinationStatus> out;
    while (row.next()) {
        out.push_back({row.text(0), row.small(1), row.small(2), row.small(3), row.optional_moment(4),
                       row.optional_moment(5), row.text(6), row.small(7)});
    }
    return out;
}

}  // namespace

Result<QueueStatus> Queue::status() {
    State& state = *state_;
    return state.look("reading the status of the queue", [&] {
        QueueStatus status;
        for (const StudyState s : {StudyState::Receiving, StudyState::Ready, StudyState::Processing,
                                   StudyState::Sending, StudyState::Done, StudyState::SetAside}) {
            status.studies_by_state.emplace_back(
                s, static_cast<int>(state.number(0, "SELECT count(*) FROM studies WHERE state = ?", to_string(s))));
        }
        {
            Query row = state.query(
                "SELECT coalesce(sum(instances), 0), coalesce(sum(bytes), 0), coalesce(sum(conflicts), 0), "
                "min(CASE WHEN state NOT IN ('done', 'set_aside') THEN first_received END) FROM studies");
            row.next();
            status.instances = row.integer(0);
            status.bytes = row.integer(1);
            status.conflicts = row.integer(2);
            status.oldest_unfinished = row.optional_moment(3);
        }
        status.destinations = destinations_of(state);
        for (const DestinationStatus& destination : status.destinations) {
            status.outputs_waiting += destination.waiting;
            status.outputs_sent += destination.sent;
            status.outputs_set_aside += destination.set_aside;
        }
        status.schema_version = static_cast<int>(state.number(0, "SELECT max(version) FROM schema_version"));
        return status;
    });
}

Result<std::vector<StudyRow>> Queue::studies(int newest) {
    State& state = *state_;
    return state.look("listing studies", [&] {
        Query row = state.query(STUDY_COLUMNS "ORDER BY s.last_received DESC, s.id DESC LIMIT ?", newest);
        std::vector<StudyRow> out;
        while (row.next()) out.push_back(read_study(row));
        return out;
    });
}

Result<std::optional<StudyRow>> Queue::study(const std::string& study_key) {
    State& state = *state_;
    return state.look("reading study " + study_key, [&]() -> std::optional<StudyRow> {
        Query row = state.query(STUDY_COLUMNS "WHERE s.key = ?", study_key);
        if (!row.next()) return std::nullopt;
        return read_study(row);
    });
}

Result<std::vector<InstanceRow>> Queue::instances_of(const std::string& study_key) {
    State& state = *state_;
    return state.look("listing the instances of study " + study_key, [&] {
        Query row = state.query(
            "SELECT e.series_instance_uid, i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.modality, "
            "i.sha256, i.file, i.bytes, i.conflict, i.other_patient FROM instances i JOIN series e ON e.id = "
            "i.series_id WHERE i.study_id = ? ORDER BY i.series_id, i.id",
            state.study_row(study_key));
        std::vector<InstanceRow> out;
        while (row.next()) {
            out.push_back({row.text(0), row.text(1), row.text(2), row.text(3), row.text(4), row.text(5), row.text(6),
                           row.integer(7), row.integer(8) != 0, row.integer(9) != 0});
        }
        return out;
    });
}

Result<std::vector<OutputRow>> Queue::outputs_of(const std::string& study_key) {
    State& state = *state_;
    return state.look("listing the outputs of study " + study_key, [&] {
        Query row = state.query(
            "SELECT o.revision, o.kind, o.sop_class_uid, o.sop_instance_uid, o.file, coalesce(b.destination, ''), "
            "coalesce(b.state, 'kept'), coalesce(b.attempt, 0), "
            "CASE WHEN b.state = 'waiting' AND b.attempt > 0 THEN b.not_before END, b.sent_at, "
            "coalesce(b.last_error, ''), coalesce(b.note, ''), coalesce(b.commitment, 'none') "
            "FROM outputs o LEFT JOIN outbox b ON b.output_id = o.id WHERE o.study_id = ? ORDER BY o.id, b.id",
            state.study_row(study_key));
        std::vector<OutputRow> out;
        while (row.next()) {
            out.push_back({row.small(0),
                           {row.text(1), row.text(2), row.text(3), row.text(4)},
                           row.text(5),
                           row.text(6),
                           row.small(7),
                           row.optional_moment(8),
                           row.optional_moment(9),
                           row.text(10),
                           row.text(11),
                           row.text(12)});
        }
        return out;
    });
}

Result<std::string> Queue::result_json_of(const std::string& study_key) {
    State& state = *state_;
    return state.look("reading the result of study " + study_key, [&]() -> std::string {
        Query row = state.query(
            "SELECT result_json FROM jobs WHERE study_id = ? AND result_json <> '' ORDER BY revision DESC LIMIT 1",
            state.study_row(study_key));
        return row.next() ? row.text(0) : "";
    });
}

Result<std::vector<EventRow>> Queue::events_of(const std::string& study_key, int newest) {
    State& state = *state_;
    return state.look("reading the events of study " + study_key, [&] {
        Query row = state.query(
            "SELECT at, event, detail FROM (SELECT id, at, event, detail FROM events WHERE study_id = ? "
            "ORDER BY id DESC LIMIT ?) ORDER BY id",
            state.study_row(study_key), newest);
        std::vector<EventRow> out;
        while (row.next()) out.push_back({row.moment(0), study_key, row.text(1), row.text(2)});
        return out;
    });
}

Result<void> Queue::retry(const std::string& study_key) {
    State& state = *state_;
    return state.change("trying study " + study_key + " again", [&] {
        const std::int64_t study = state.study_row(study_key);
        StudyState found{};
        std::string job_state;
        int revision = 0, late = 0;
        {
            Query row = state.query(
                "SELECT s.state, coalesce(j.state, ''), s.revision, s.late FROM studies s LEFT JOIN jobs j ON "
                "j.study_id = s.id AND "
                "j.revision = s.revision WHERE s.id = ?",
                study);
            row.next();
            found = study_state_from(row.text(0));
            job_state = row.text(1);
            revision = row.small(2);
            late = row.small(3);
        }
        const std::int64_t now = state.now();
        const auto refuse = [](std::string_view why) { throw Failure{reject_error(std::string(why))}; };
        if (found == StudyState::Receiving) refuse("it is still being received; it becomes ready by itself");
        if (found == StudyState::Processing) refuse("a worker is busy with it now");
        if (found == StudyState::Done && late > 0) {
            begin_revision(state, study, revision, late);
            make_job(state, study, "ready");
            state.set_state(study, StudyState::Ready);
            state.event(study, "retry", "on request, with the late images");
            return;
        }
        if (found == StudyState::Done) refuse("it is done, there is nothing to try again");
        if (job_state.empty()) refuse("none of its instances can be used");
        if (job_state == "done") {
            const auto requeued = state.run(
                "UPDATE outbox SET state = 'waiting', attempt = 0, silent = 0, made_at = ?1, not_before = ?1, "
                "commitment = 'none', commit_attempt = 0, commit_due = 0 WHERE study_id = ?2 AND state IN ('waiting', "
                "'set_aside') AND "
                "revision = (SELECT revision FROM studies WHERE id = ?2)",
                now, study);
            state.run("UPDATE outbox SET commit_due = ?1 WHERE study_id = ?2 AND commitment = 'wanted'", now, study);
            state.set_state(study, StudyState::Sending);
            state.event(
                study, "retry",
                fmt::format("{} {} sent again on request", requeued, requeued == 1 ? "output is" : "outputs are"));
            return;
        }
        state.run(
            "UPDATE jobs SET state = 'ready', attempt = 0, ready_at = ?1, not_before = ?1, finished_at = NULL, "
            "error_kind = '' WHERE study_id = ?2 AND revision = (SELECT revision FROM studies WHERE id = ?2)",
            now, study);
        state.run("UPDATE studies SET last_error = '', outcome = '' WHERE id = ?", study);
        state.set_state(study, StudyState::Ready);
        state.event(study, "retry", "on request");
    });
}

}  // namespace cardionode
