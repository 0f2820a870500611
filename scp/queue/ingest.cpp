// The receiver's half of the queue: instances come in; late images, conflicts, other patients.
#include <map>

#include <fmt/format.h>

#include "scp/queue/session.h"
#include "scp/queue/study_key.h"

namespace cardionode {
namespace {

using State = Queue::State;

/// What one call brought to one study.
struct Arrived {
    int instances = 0;
    int images = 0;         ///< of these, what the pipeline would read
    int conflicts = 0;      ///< kept beside, not used; of these,
    int left_out = 0;       ///< those that are so for their Patient ID alone
    int other_patient = 0;  ///< used or not
    std::int64_t bytes = 0;
    std::int64_t first_row = 0;  ///< of the instances
    std::string from;            ///< AE title of the newest
};

struct StudyRef {
    std::int64_t row = 0;
    std::string key;
    std::string patient_mark;
};

/// Segmentations, reports, presentation states: what people and programs say about images. One that comes late, such as
/// a radiologist's correction or our own output that a PACS routes back, is kept, and does not begin a new revision.
bool is_annotation(const std::string& sop_class_uid) {
    constexpr std::string_view kStorage = "1.2.840.10008.5.1.4.1.1.";
    if (!sop_class_uid.starts_with(kStorage)) return false;
    const std::string_view kind = std::string_view(sop_class_uid).substr(kStorage.size());
    return kind == "66.4" || kind == "66.5" || kind == "66.7" || kind.starts_with("88.") || kind.starts_with("11.");
}

void require_named(const ReceivedInstance& instance) {
    if (instance.study_instance_uid.empty() || instance.series_instance_uid.empty() ||
        instance.sop_instance_uid.empty() || instance.sha256.empty() || instance.file.empty()) {
        throw Failure{bug_error("an instance without UID, checksum or file name")};
    }
}

/// The outcome of a file that the queue holds already, under exactly this name.
std::optional<Ingested> known_file(State& state, const ReceivedInstance& instance) {
    Query row = state.query(
        "SELECT i.conflict, i.sop_instance_uid, i.sha256, s.key, i.other_patient FROM instances i JOIN studies s ON "
        "s.id = i.study_id WHERE i.file = ?",
        instance.file);
    if (!row.next()) return std::nullopt;
    if (row.text(1) != instance.sop_instance_uid || row.text(2) != instance.sha256) {
        throw Failure{bug_error("the file name " + instance.file + " is taken by another instance")};
    }
    const auto beside = row.integer(4) ? IngestOutcome::OtherPatient : IngestOutcome::Conflict;
    return Ingested{row.integer(0) ? beside : IngestOutcome::Stored, row.text(3), instance.file, true};
}

/// The outcome when the same content is held in another file; `conflict` becomes true when the UID is taken.
std::optional<Ingested> known_content(State& state, const ReceivedInstance& instance, bool& conflict) {
    {
        Query first = state.query(
            "SELECT i.sha256, i.file, s.study_instance_uid, s.key FROM instances i JOIN studies s ON s.id = i.study_id "
            "WHERE i.sop_instance_uid = ? AND i.conflict = 0",
            instance.sop_instance_uid);
        conflict = first.next();
        if (conflict && first.text(0) == instance.sha256 && first.text(2) == instance.study_instance_uid) {
            return Ingested{IngestOutcome::Duplicate, first.text(3), first.text(1), true};
        }
    }
    Query beside = state.query(
        "SELECT i.file, s.key FROM instances i JOIN studies s ON s.id = i.study_id "
        "WHERE i.sop_instance_uid = ? AND i.sha256 = ? AND s.study_instance_uid = ? AND i.conflict = 1",
        instance.sop_instance_uid, instance.sha256, instance.study_instance_uid);
    if (!beside.next()) return std::nullopt;
    return Ingested{IngestOutcome::Duplicate, beside.text(1), beside.text(0), true};
}

StudyRef find_or_make_study(State& state, const ReceivedInstance& instance) {
    {
        Query row = state.query("SELECT id, key, patient_mark FROM studies WHERE study_instance_uid = ?",
                                instance.study_instance_uid);
        if (row.next()) return {row.integer(0), row.text(1), row.text(2)};
    }
    const std::int64_t now = state.now();
    // The key is made from the row number, which is known only after the insert; until then the UID stands in.
    state.run(
        "INSERT INTO studies (key, study_instance_uid, state, first_received, last_received, quiet_since, state_since, "
        "revision_since, calling_ae_title, called_ae_title, peer_address) VALUES (?1, ?1, 'receiving', ?2, ?2, ?2, ?2, "
        "?2, ?3, ?4, ?5)",
        instance.study_instance_uid, now, instance.calling_ae_title, instance.called_ae_title, instance.peer_address);
    StudyRef study{state.database.last_insert_id(), {}, {}};
    study.key = make_study_key(study.row);
    state.run("UPDATE studies SET key = ? WHERE id = ?", study.key, study.row);
    state.event(study.row, "receiving",
                fmt::format("first instance from {}",
                            instance.calling_ae_title.empty() ? "an unnamed sender" : instance.calling_ae_title));
    return study;
}

/// Whether the instance has another Patient ID than the study's; the first one that has any is the study's.
bool of_other_patient(State& state, const StudyRef& study, const ReceivedInstance& instance, bool conflict) {
    if (instance.patient_mark.empty()) return false;
    if (!study.patient_mark.empty()) return study.patient_mark != instance.patient_mark;
    if (!conflict) state.run("UPDATE studies SET patient_mark = ? WHERE id = ?", instance.patient_mark, study.row);
    return false;
}

std::int64_t find_or_make_series(State& state, std::int64_t study, const ReceivedInstance& instance, bool conflict) {
    const std::int64_t found = state.number(0, "SELECT id FROM series WHERE study_id = ? AND series_instance_uid = ?",
                                            study, instance.series_instance_uid);
    const std::int64_t now = state.now();
    if (found == 0) {
        state.run("INSERT INTO series (study_id, series_instance_uid, modality, quiet_since) VALUES (?, ?, ?, ?)",
                  study, instance.series_instance_uid, instance.modality, now);
        return state.database.last_insert_id();
    }
    if (conflict) {
        // Nothing that the pipeline will see came in; but while the series is open, its sender is still busy.
        state.run("UPDATE series SET quiet_since = ? WHERE id = ? AND closed_at IS NULL", now, found);
    } else {
        state.run("UPDATE series SET quiet_since = ?, closed_at = NULL WHERE id = ?", now, found);
    }
    return found;
}

void insert_instance(State& state, const StudyRef& study, const ReceivedInstance& instance, bool conflict,
                     bool other_patient) {
    const std::int64_t series = find_or_make_series(state, study.row, instance, conflict);
    // Deleted and received again, before its old file was removed: it is the same file.
    state.run("DELETE FROM removals WHERE root = 'spool' AND file = ?", instance.file);
    state.run(
        "INSERT INTO instances (study_id, series_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, modality, "
        "sha256, file, bytes, conflict, revision, calling_ae_title, peer_address, received_at, other_patient) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, (SELECT revision FROM studies WHERE id = ?1), ?11, ?12, ?13, "
        "?14)",
        study.row, series, instance.sop_instance_uid, instance.sop_class_uid, instance.transfer_syntax_uid,
        instance.modality, instance.sha256, instance.file, instance.bytes, conflict, instance.calling_ae_title,
        instance.peer_address, to_number(instance.received_at), other_patient);
}

void reopen(State& state, std::int64_t study, int late, LateImages rule) {
    StudyState found{};
    int revision = 0;
    bool was_claimed = false;
    {
        Query row = state.query(
            "SELECT s.state, s.revision, coalesce((SELECT claims FROM jobs j WHERE j.study_id = s.id AND "
            "j.revision = s.revision), 0) FROM studies s WHERE s.id = ?",
            study);
        row.next();
        found = study_state_from(row.text(0));
        revision = row.small(1);
        was_claimed = row.integer(2) > 0;
    }
    if (found == StudyState::Receiving) return;
    if (was_claimed && rule == LateImages::Keep) {
        state.run("UPDATE studies SET late = late + ? WHERE id = ?", late, study);
        state.event(study, "late_image",
                    fmt::format("{} more {}: kept, in no result yet", late, late == 1 ? "instance" : "instances"));
        return;
    }
    if (was_claimed) return begin_revision(state, study, revision, late);
    state.run("DELETE FROM jobs WHERE study_id = ? AND revision = ?", study, revision);
    state.run("UPDATE studies SET last_error = '', outcome = '' WHERE id = ?", study);
    state.set_state(study, StudyState::Receiving);
    state.event(study, "receiving", "more instances before the study was taken up");
}

void update_study(State& state, std::int64_t study, const Arrived& arrived, LateImages late_images) {
    const std::int64_t now = state.now();
    if (arrived.images > 0) {
        reopen(state, study, arrived.images, late_images);
        // What came together with a late image belongs to the revision that this one begins.
        state.run(
            "UPDATE instances SET revision = (SELECT revision FROM studies WHERE id = ?1) WHERE study_id = ?1 "
            "AND id >= ?2",
            study, arrived.first_row);
    }
    state.run(
        "UPDATE studies SET instances = instances + ?2, conflicts = conflicts + ?3, other_patient = other_patient + "
        "?6, bytes = bytes + ?4, last_received = ?5, quiet_since = CASE state WHEN 'receiving' THEN ?5 ELSE "
        "quiet_since END WHERE id = ?1",
        study, arrived.instances, arrived.conflicts, arrived.bytes, now, arrived.other_patient);
    const auto instances = [&](int number) {
        return fmt::format("{} {} from {}", number, number == 1 ? "instance" : "instances",
                           arrived.from.empty() ? "an unnamed sender" : arrived.from);
    };
    if (const int same_uid = arrived.conflicts - arrived.left_out; same_uid > 0) {
        state.event(study, "conflict",
                    fmt::format("{} under a UID that was there with other content: kept beside, not used",
                                instances(same_uid)));
    }
    if (arrived.other_patient > 0) {
        state.event(study, "other_patient",
                    fmt::format("{} with another Patient ID than the study's first instance: {}",
                                instances(arrived.other_patient),
                                arrived.left_out > 0 ? "kept beside, not used" : "see scp.other_patient_id"));
    }
}

}  // namespace

void begin_revision(Queue::State& state, std::int64_t study, int old_revision, int late) {
    state.run(
        "UPDATE jobs SET state = 'outdated', lease_token = NULL, lease_until = NULL, finished_at = ? "
        "WHERE study_id = ? AND revision = ? AND state <> 'done'",
        state.now(), study, old_revision);
    const std::int64_t withdrawn = state.run(
        "UPDATE outbox SET state = 'withdrawn' WHERE study_id = ? AND state IN ('waiting', 'set_aside')", study);
    state.run("UPDATE outbox SET commitment = 'none' WHERE study_id = ? AND commitment IN ('wanted', 'asked')", study);
    state.run(
        "UPDATE studies SET revision = revision + 1, last_error = '', outcome = '', late = 0, revision_since = ? "
        "WHERE id = ?",
        state.now(), study);
    state.set_state(study, StudyState::Receiving);
    state.event(
        study, "late_image",
        fmt::format(
            "{} more {}: revision {} begins{}", late, late == 1 ? "instance" : "instances", old_revision + 1,
            withdrawn ? fmt::format(", {} unsent outputs of revision {} are withdrawn", withdrawn, old_revision) : ""));
}

Result<std::vector<Ingested>> Queue::add_instances(std::span<const ReceivedInstance> instances,
                                                   const ArrivalRules& rules) {
    State& state = *state_;
    return state.change("adding received instances to the queue", [&] {
        std::vector<Ingested> out;
        out.reserve(instances.size());
        std::map<std::int64_t, Arrived> arrived;
        for (const ReceivedInstance& instance : instances) {
            require_named(instance);
            if (auto known = known_file(state, instance)) {
                out.push_back(*std::move(known));
                continue;
            }
            bool conflict = false;
            if (auto known = known_content(state, instance, conflict)) {
                out.push_back(*std::move(known));
                continue;
            }
            const StudyRef study = find_or_make_study(state, instance);
            const bool other = of_other_patient(state, study, instance, conflict);
            const bool left_out = other && !conflict && rules.other_patient != OtherPatient::Accept;
            insert_instance(state, study, instance, conflict || left_out, other);
            Arrived& counts = arrived[study.row];
            if (counts.first_row == 0) counts.first_row = state.database.last_insert_id();
            ++(conflict || left_out ? counts.conflicts : counts.instances);
            if (!conflict && !left_out && !is_annotation(instance.sop_class_uid)) ++counts.images;
            counts.left_out += left_out ? 1 : 0;
            counts.other_patient += other ? 1 : 0;
            counts.bytes += instance.bytes;
            counts.from = instance.calling_ae_title;
            const auto beside = left_out ? IngestOutcome::OtherPatient : IngestOutcome::Conflict;
            out.push_back({conflict || left_out ? beside : IngestOutcome::Stored, study.key, instance.file});
        }
        for (const auto& [study, counts] : arrived) update_study(state, study, counts, rules.late_images);
        return out;
    });
}

Result<std::optional<InstanceRow>> Queue::find_instance(const std::string& sop_instance_uid) {
    State& state = *state_;
    return state.look("looking an instance up", [&]() -> std::optional<InstanceRow> {
        Query row = state.query(
            "SELECT e.series_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.modality, i.sha256, i.file, "
            "i.bytes FROM instances i JOIN series e ON e.id = i.series_id "
            "WHERE i.sop_instance_uid = ? AND i.conflict = 0",
            sop_instance_uid);
        if (!row.next()) return std::nullopt;
        return InstanceRow{row.text(0), sop_instance_uid, row.text(1),    row.text(2), row.text(3),
                           row.text(4), row.text(5),      row.integer(6), false};
    });
}

Result<std::vector<std::string>> Queue::known_files() {
    State& state = *state_;
    return state.look("listing the files of the queue", [&] {
        std::vector<std::string> out;
        Query row = state.query("SELECT file FROM instances ORDER BY file");
        while (row.next()) out.push_back(row.text(0));
        return out;
    });
}

}  // namespace cardionode
