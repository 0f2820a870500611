#include "fedclient/round/local_data.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "fedclient/round/round.h"
#include "models/bundle.h"
#include "models/train/holdout.h"
#include "models/train/recipe.h"
#include "pipeline/prepare/people_labels.h"
#include "pipeline/prepare/prepare_study.h"
#include "pipeline/read/patient_hash.h"
#include "scp/queue/queue.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// S00AM.json
struct Note {
    std::string key, fingerprint, patient_hash;
    Moment received{};
    std::string of_no_use;  ///< why; empty: the study file is there
    std::vector<LabelOrigin> labels;
};

Json to_json(const Note& n) {
    Json json = {{"study", n.key},
                 {"fingerprint", n.fingerprint},
                 {"patient_hash", n.patient_hash},
                 {"received_ms", n.received.time_since_epoch().count()},
                 {"of_no_use", n.of_no_use},
                 {"labels", Json::array()}};
    for (const LabelOrigin& l : n.labels) {
        json["labels"].push_back({{"head", l.head},
                                  {"kind", l.kind},
                                  {"sop_class_uid", l.sop_class_uid},
                                  {"author", l.author},
                                  {"software", l.software},
                                  {"made_at", l.made_at}});
    }
    return json;
}

std::optional<Note> read_note(const fs::path& file) {
    auto text = read_file(file);
    if (!text) return std::nullopt;
    try {
        const Json json = Json::parse(*text);
        Note n;
        n.key = json.at("study").get<std::string>();
        n.fingerprint = json.at("fingerprint").get<std::string>();
        n.patient_hash = json.at("patient_hash").get<std::string>();
        n.received = Moment(Milliseconds(json.at("received_ms").get<std::int64_t>()));
        n.of_no_use = json.at("of_no_use").get<std::string>();
        for (const Json& l : json.at("labels")) {
            n.labels.push_back({l.at("head").get<std::string>(), l.at("kind").get<std::string>(),
                                l.at("sop_class_uid").get<std::string>(), l.at("author").get<std::string>(),
                                l.at("software").get<std::string>(), l.at("made_at").get<std::string>()});
        }
        return n;
    } catch (const nlohmann::json::exception&) {
        return std::nullopt;  // as if it were not there: the study is made anew
    }
}

class Refresh {
public:
    Refresh(const FederatedNode& settings, const ModelSettings& model, const LocalDataHooks& hooks, const Clock& clock)
        : node_(settings.node),
          settings_(settings.federated),
          model_(model),
          hooks_(hooks),
          clock_(clock),
          folder_(studies_folder(settings.federated, model)) {}

    Result<void> run(LocalDataReport& report) {
        auto recipe_file = local_recipe(settings_, model_);  // makes the folder too
        if (!recipe_file) return std::move(recipe_file).error();
        auto recipe = train::load_recipe(*recipe_file);
        if (!recipe) return std::move(recipe).error();
        recipe_ = *std::move(recipe);
        auto bundle = load_bundle(model_.bundle);
        if (!bundle) return std::move(bundle).error();
        for (const HeadManifest& head : bundle->manifest.heads) {
            const bool wanted = std::any_of(recipe_.heads.begin(), recipe_.heads.end(),
                                            [&](const train::HeadRecipe& h) { return h.name == head.name; });
            if (wanted) heads_.push_back(head);
        }
        auto queue = Queue::open(node_.node.database, clock_, {.mode = QueueOptions::Mode::ReadOnly});
        if (!queue) {
            say("the queue is not asked for studies: " + queue.error().message);
            return keep_bounds(report);
        }
        auto found = candidates(*queue);
        if (!found) return std::move(found).error();
        std::int64_t taken = 0;
        for (const StudyRow& row : *found) {
            if (taken >= settings_.data.max_studies) break;
            if (stopping()) break;
            auto used = make(*queue, row, report);
            if (!used) return std::move(used).error();
            taken += *used ? 1 : 0;
        }
        return keep_bounds(report);
    }

private:
    void say(const std::string& line) const {
        if (hooks_.print) hooks_.print(line);
    }
    bool stopping() const { return hooks_.stop && hooks_.stop(); }
    fs::path study_file(const std::string& key) const { return folder_ / (key + ".safetensors"); }
    fs::path note_file(const std::string& key) const { return folder_ / (key + ".json"); }
    Moment oldest() const { return clock_.now() - std::chrono::hours(24 * settings_.data.max_age_days); }

    /// Finished studies that the rules allow, newest first.
    Result<std::vector<StudyRow>> candidates(Queue& queue) {
        auto keys = queue.finished_studies(Milliseconds(0), std::numeric_limits<int>::max());
        if (!keys) return std::move(keys).error();
        std::vector<StudyRow> rows;
        const auto& senders = settings_.data.calling_ae_titles;
        for (const std::string& key : *keys) {
            auto row = queue.study(key);
            if (!row) return std::move(row).error();
            if (!*row || (*row)->first_received < oldest()) continue;
            if (!senders.empty() &&
                std::find(senders.begin(), senders.end(), (*row)->calling_ae_title) == senders.end())
                continue;
            rows.push_back(**row);
        }
        std::sort(rows.begin(), rows.end(), [](const StudyRow& a, const StudyRow& b) {
            return std::pair(a.first_received, a.study_key) > std::pair(b.first_received, b.study_key);
        });
        return rows;
    }

    std::string fingerprint(const std::vector<InstanceRow>& instances) const {
        std::vector<std::string> contents;
        for (const InstanceRow& i : instances) {
            if (!i.conflict) contents.push_back(i.sha256);
        }
        std::sort(contents.begin(), contents.end());
        Sha256 hash;
        for (const std::string& c : contents) hash.update(c).update("\n");
        hash.update(train::input_words(recipe_.input));
        for (const HeadManifest& head : heads_) {
            hash.update("\n" + head.name + head.kind);
            for (const ClassManifest& c : head.classes)
                hash.update(fmt::format(" {} {} {} {}", c.value, c.name, c.code.scheme, c.code.value));
        }
        hash.update(fmt::format("\n{} {} {} {}", recipe_.ball_radius_mm, recipe_.septum_ball_radius_mm,
                                settings_.data.half, settings_.data.only_labelled));
        return hash.hex_digest();
    }

    /// @return whether the study is of use
    Result<bool> make(Queue& queue, const StudyRow& row, LocalDataReport& report) {
        auto instances = queue.instances_of(row.study_key);
        if (!instances) return std::move(instances).error();
        const std::string wanted = fingerprint(*instances);
        std::error_code no_matter;
        const auto present = read_note(note_file(row.study_key));
        if (present && present->fingerprint == wanted &&
            (!present->of_no_use.empty() || fs::exists(study_file(row.study_key), no_matter)))
            return present->of_no_use.empty();
        bool waited = false;
        while (hooks_.clinic_busy && settings_.compute.pause_for_clinic && hooks_.clinic_busy() && !stopping()) {
            if (!waited) say("a study waits for the pipeline: preparing pauses");
            waited = true;
            hooks_.pause(Milliseconds(static_cast<std::int64_t>(settings_.compute.clinic_poll_seconds * 1000)));
        }
        if (stopping()) return present && present->of_no_use.empty();
        auto free = free_bytes(folder_);
        if (!free) return std::move(free).error();
        if (*free < static_cast<std::uint64_t>(settings_.least_free_mib) << 20U)
            return retry_error("less than federated.least_free_mib is free: no further study is prepared");

        auto outputs = queue.outputs_of(row.study_key);
        if (!outputs) return std::move(outputs).error();
        std::set<std::string> own;
        for (const OutputRow& o : *outputs) own.insert(o.output.sop_instance_uid);
        std::vector<StudyFile> files;
        for (const InstanceRow& i : *instances) {
            if (!i.conflict && !own.contains(i.sop_instance_uid))
                files.push_back({node_.node.spool / i.file, i.sop_class_uid, i.modality});
        }
        Note note;
        note.key = row.study_key, note.fingerprint = wanted, note.received = row.first_received;
        auto made = prepare(files, own, note);
        if (!made) {
            if (made.error().kind == ErrorKind::Config) return std::move(made).error();
            if (made.error().kind == ErrorKind::Retry) {  // for the moment: tried again in the next night
                say(row.study_key + ": " + made.error().message);
                return false;
            }
            note.of_no_use = made.error().message;
            fs::remove(study_file(row.study_key), no_matter);
        }
        say(row.study_key + ": " + (note.of_no_use.empty() ? labels_in_words(note) : note.of_no_use));
        ++report.made;
        if (auto noted = write_file_durably(note_file(row.study_key), to_json(note).dump(2) + "\n"); !noted)
            return std::move(noted).error();
        return note.of_no_use.empty();
    }

    static std::string labels_in_words(const Note& note) {
        std::string text;
        for (const LabelOrigin& l : note.labels)
            text += fmt::format("{}{} ({} of a {})", text.empty() ? "labels " : ", ", l.head, l.kind, l.author);
        return text.empty() ? "no label" : text;
    }

    Result<void> prepare(const std::vector<StudyFile>& files, const std::set<std::string>& own, Note& note) {
        ReadLimits limits;
        limits.decoder = hooks_.decoder;
        auto ct = read_study(files, node_.series, limits, [&](int, int) { return !stopping(); });
        if (!ct) return std::move(ct).error();
        auto patient = patient_hash(ct->slices.front().file, limits.max_file_bytes);
        if (!patient) return std::move(patient).error();
        note.patient_hash = *patient;
        auto labels = read_people_labels(files, *ct, heads_, own, limits);
        if (!labels) return std::move(labels).error();
        for (const std::string& remark : labels->remarks) say(note.key + ": " + remark);
        if (settings_.data.only_labelled && labels->origins.empty())
            return reject_error("no person's label, and federated.data.only_labelled is true");
        auto study = make_study(ct->volume, recipe_, labels->labels, *patient, "node");
        if (!study) return std::move(study).error();
        if (auto written = train::write_study(study_file(note.key), *std::move(study), settings_.data.half); !written)
            return written;
        note.labels = labels->origins;
        return {};
    }

    /// Of what is there the newest within age, number and bytes; the rest goes.
    Result<void> keep_bounds(LocalDataReport& report) {
        std::vector<Note> notes;
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(folder_, error)) {
            if (entry.path().extension() == ".json") {
                if (auto note = read_note(entry.path())) notes.push_back(*std::move(note));
            } else if (entry.path().extension() == ".safetensors" &&
                       !read_note(note_file(entry.path().stem().string()))) {
                fs::remove(entry.path(), error);  // cut off before its note was written
            }
        }
        if (error) return file_error("reading", folder_, error.value());
        std::sort(notes.begin(), notes.end(), [](const Note& a, const Note& b) {
            return std::pair(a.received, a.key) > std::pair(b.received, b.key);
        });
        std::int64_t number = 0;
        std::uint64_t bytes = 0;
        for (const Note& note : notes) {
            const std::uint64_t size = note.of_no_use.empty() ? fs::file_size(study_file(note.key), error) : 0;
            const bool keep = note.received >= oldest() &&
                              (!note.of_no_use.empty() ||
                               (number < settings_.data.max_studies &&
                                bytes + size <= static_cast<std::uint64_t>(settings_.data.max_mib) << 20U));
            if (keep) {
                number += note.of_no_use.empty() ? 1 : 0;
                bytes += size;
                continue;
            }
            fs::remove(study_file(note.key),
                       error);  // the note last: what is cut off in between is made anew or removed
            fs::remove(note_file(note.key), error);
            ++report.removed;
        }
        return {};
    }

    const NodeSettings& node_;
    const FederatedSettings& settings_;
    const ModelSettings& model_;
    const LocalDataHooks& hooks_;
    const Clock& clock_;
    const fs::path folder_;
    train::Recipe recipe_;
    std::vector<HeadManifest> heads_;
};

}  // namespace

Result<LocalDataReport> local_data(const FederatedSettings& settings, const ModelSettings& model) {
    LocalDataReport report;
    const fs::path folder = studies_folder(settings, model);
    std::error_code error;
    std::set<std::string> patients;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        if (entry.path().extension() != ".json") continue;
        const auto note = read_note(entry.path());
        if (!note) continue;
        if (!note->of_no_use.empty()) {
            ++report.of_no_use;
            continue;
        }
        ++report.studies;
        patients.insert(note->patient_hash);
        report.held_out += train::is_held_out(note->patient_hash, settings.data.holdout, settings.data.split_seed);
        for (const LabelOrigin& l : note->labels) ++report.labelled[l.head];
        std::error_code no_matter;
        const auto size = fs::file_size(folder / (note->key + ".safetensors"), no_matter);
        if (!no_matter) report.bytes += static_cast<std::int64_t>(size);
    }
    report.patients = static_cast<std::int64_t>(patients.size());
    return report;
}

Result<LocalDataReport> refresh_local_data(const FederatedNode& settings, const ModelSettings& model,
                                           const LocalDataHooks& hooks, const Clock& clock) {
    LocalDataReport changes;
    if (auto done = Refresh(settings, model, hooks, clock).run(changes); !done) return std::move(done).error();
    auto report = local_data(settings.federated, model);
    if (report) report->made = changes.made, report->removed = changes.removed;
    return report;
}

std::string in_words(const LocalDataReport& r) {
    std::string labels;
    for (const auto& [head, count] : r.labelled)
        labels += fmt::format("{}{} {}", labels.empty() ? "" : ", ", head, count);
    return fmt::format(
        "{} studies of {} patients ({} held out), labels: {}; {} looked at anew, {} removed, {} of no use, "
        "{} MiB",
        r.studies, r.patients, r.held_out, labels.empty() ? "none" : labels, r.made, r.removed, r.of_no_use,
        r.bytes >> 20U);
}

}  // namespace cardionode::fed
