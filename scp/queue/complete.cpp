// Series and studies become complete, and studies ready for the pipeline.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "scp/queue/session.h"

namespace cardionode {
namespace {

using State = Queue::State;

/// All series are closed: hands the study to the pipeline. @return false: it has nothing to hand over, set aside
bool make_ready(State& state, std::int64_t study, std::string_view why, bool only_one_patient) {
    int instances = 0;
    int conflicts = 0;
    int revision = 0;
    {
        Query row = state.query("SELECT instances, conflicts, revision FROM studies WHERE id = ?", study);
        row.next();
        instances = row.small(0);
        conflicts = row.small(1);
        revision = row.small(2);
    }
    if (instances == 0) {
        state.set_study_aside(study, fmt::format("none of its {} instances can be used: each has a UID that an earlier "
                                                 "instance has with other content or in another study",
                                                 conflicts));
        return false;
    }
    // Of this revision alone: a person who let an earlier one go on is not asked about the same images again.
    const std::int64_t others =
        only_one_patient ? state.number(0,
                                        "SELECT count(*) FROM instances WHERE study_id = ? AND revision = ? AND "
                                        "other_patient = 1",
                                        study, revision)
                         : 0;
    if (others > 0) {
        make_job(state, study, "set_aside");
        state.set_study_aside(
            study, fmt::format("{} {} another Patient ID than the study's first instance: patients were merged, "
                               "corrected or mixed up. Compare with the PACS; `cardionode retry` goes on with the "
                               "first Patient ID alone",
                               others, others == 1 ? "instance has" : "instances have"));
        return false;
    }
    make_job(state, study, "ready");
    state.set_state(study, StudyState::Ready);
    state.event(
        study, "ready",
        fmt::format("revision {}: {} {} {}", revision, instances, instances == 1 ? "instance" : "instances", why));
    return true;
}

std::vector<std::pair<std::int64_t, std::string>> rows_and_texts(Query& query) {
    std::vector<std::pair<std::int64_t, std::string>> out;
    while (query.next()) out.emplace_back(query.integer(0), query.text(1));
    return out;
}

}  // namespace

void make_job(Queue::State& state, std::int64_t study, std::string_view job_state) {
    state.run(
        "INSERT INTO jobs (study_id, revision, state, ready_at, not_before) VALUES (?1, (SELECT revision FROM studies "
        "WHERE id = ?1), ?2, ?3, ?3)",
        study, job_state, state.now());
}

Result<void> Queue::still_arriving(std::span<const std::string> study_keys) {
    State& state = *state_;
    return state.change("noting that studies still arrive", [&] {
        for (const std::string& key : study_keys) {
            state.run("UPDATE studies SET quiet_since = ? WHERE key = ? AND state = 'receiving'", state.now(), key);
            state.run(
                "UPDATE series SET quiet_since = ? WHERE closed_at IS NULL AND study_id = "
                "(SELECT id FROM studies WHERE key = ? AND state = 'receiving')",
                state.now(), key);
        }
    });
}

Result<std::vector<std::string>> Queue::close_quiet(const ArrivalRules& rules, std::optional<Moment> until) {
    State& state = *state_;
    return state.change("completing studies", [&] {
        const std::int64_t now = state.now();
        const std::int64_t end = until ? std::min(to_number(*until), now) : now;
        // A clock that was set back must not keep a study open until the old time comes again.
        state.run("UPDATE studies SET quiet_since = ?1 WHERE state = 'receiving' AND quiet_since > ?1", now);
        state.run("UPDATE studies SET revision_since = ?1 WHERE state = 'receiving' AND revision_since > ?1", now);
        state.run(
            "UPDATE series SET quiet_since = ?1 WHERE closed_at IS NULL AND quiet_since > ?1 AND study_id IN "
            "(SELECT id FROM studies WHERE state = 'receiving')",
            now);
        // Of studies that have waited for too long, or else of series that are quiet.
        const std::int64_t begun_by = rules.longest_study.count() > 0 ? now - rules.longest_study.count() : -1;
        std::vector<std::pair<std::int64_t, std::string>> closed;
        {
            Query query = state.query(
                "SELECT e.id, e.modality FROM studies s JOIN series e ON e.study_id = s.id "
                "WHERE s.state = 'receiving' AND e.closed_at IS NULL AND (e.quiet_since <= ? OR s.revision_since <= ?)",
                end - rules.series_quiet.count(), begun_by);
            closed = rows_and_texts(query);
        }
        for (const auto& [series, modality] : closed) {
            state.run("UPDATE series SET closed_at = ? WHERE id = ?", now, series);
            const auto study = state.number(0, "SELECT study_id FROM series WHERE id = ?", series);
            const auto count = state.number(0, "SELECT count(*) FROM instances WHERE series_id = ?", series);
            state.event(study, "series_complete",
                        fmt::format("{} series with {} {}", modality.empty() ? "a" : modality, count,
                                    count == 1 ? "instance" : "instances"));
        }
        std::vector<std::pair<std::int64_t, std::string>> quiet;
        std::set<std::int64_t> too_long;
        {
            Query query = state.query(
                "SELECT s.id, s.key, s.quiet_since > ?1 FROM studies s WHERE s.state = 'receiving' AND (s.quiet_since "
                "<= ?1 OR s.revision_since <= ?2) AND NOT EXISTS "
                "(SELECT 1 FROM series e WHERE e.study_id = s.id AND e.closed_at IS NULL) ORDER BY s.id",
                end - rules.study_quiet.count(), begun_by);
            while (query.next()) {
                quiet.emplace_back(query.integer(0), query.text(1));
                if (query.integer(2) != 0) too_long.insert(query.integer(0));
            }
        }
        std::vector<std::string> ready;
        for (auto& [study, key] : quiet) {
            const std::string_view why =
                too_long.contains(study) ? "after scp.longest_study_minutes; more may still come" : "complete";
            if (make_ready(state, study, why, rules.other_patient == OtherPatient::SetAside))
                ready.push_back(std::move(key));
        }
        return ready;
    });
}

Result<void> Queue::force_complete(const std::string& study_key) {
    State& state = *state_;
    return state.change("completing study " + study_key, [&] {
        const std::int64_t study = state.study_row(study_key);
        if (state.number(0, "SELECT state = 'receiving' FROM studies WHERE id = ?", study) == 0) {
            throw Failure{reject_error("it is not receiving any more")};
        }
        state.run("UPDATE series SET closed_at = ? WHERE study_id = ? AND closed_at IS NULL", state.now(), study);
        make_ready(state, study, "completed on request", /*only_one_patient=*/false);  // a person decided
    });
}

}  // namespace cardionode
