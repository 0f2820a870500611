#include "fedclient/round/promotion.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "conf/base/files.h"
#include "fedclient/round/store_json.h"
#include "models/bundle.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

fs::path versions_of(const fs::path& folder) { return folder / "versions"; }

Result<FileDescriptor> lock(const fs::path& folder) {
    FileDescriptor file(::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
    if (!file.valid()) return file_error("opening", folder / "lock", errno);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0)
        return retry_error("another command changes the models in " + folder.string() + " at this moment");
    return file;
}

Result<void> sync_tree(const fs::path& folder) {
    std::error_code error;
    for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
        const FileDescriptor fd(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd.valid() || ::fsync(fd.get()) != 0) return file_error("syncing", entry.path(), errno);
    }
    if (error) return file_error("reading", folder, error.value());
    return sync_folder(folder);
}

/// `current` names the version, from this moment on and after a power cut.
Result<void> link_current(const fs::path& folder, const std::string& version) {
    const fs::path next = folder / ".current.next";
    std::error_code error;
    fs::remove(next, error);
    fs::create_symlink(fs::path("versions") / version, next, error);
    if (error) return file_error("linking", next, error.value());
    fs::rename(next, folder / "current", error);
    if (error) return file_error("renaming to", folder / "current", error.value());
    return sync_folder(folder);
}

std::string to_line(const PromotionLine& l) {
    Json json = {{"at_ms", l.at.time_since_epoch().count()},
                 {"at", to_iso8601(l.at)},
                 {"action", l.action},
                 {"by", l.by},
                 {"version", l.version},
                 {"record_id", l.record_id},
                 {"weights_sha256", l.weights_sha256},
                 {"round", l.round},
                 {"note", l.note}};
    if (l.validation) json["validation"] = to_json(*l.validation);
    return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// The history is written anew as a whole: a line is there or it is not.
Result<void> add_line(const fs::path& folder, const PromotionLine& line) {
    const fs::path file = folder / "history.jsonl";
    std::error_code no_matter;
    std::string text;
    if (fs::exists(file, no_matter)) {
        auto present = read_file(file);
        if (!present) return std::move(present).error();
        text = *std::move(present);
    }
    return write_file_durably(file, text + to_line(line));
}

Result<std::string> identity_of(const fs::path& bundle) {
    auto loaded = load_bundle(bundle);
    if (!loaded) return std::move(loaded).error();
    return weights_identity(loaded->manifest);
}

/// Versions on disk, oldest first: their names begin with a number.
std::vector<std::string> versions_in(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code no_matter;
    for (const auto& entry : fs::directory_iterator(versions_of(folder), no_matter)) {
        const std::string name = entry.path().filename().string();
        if (entry.is_directory(no_matter) && !name.starts_with('.')) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
}

int next_number(const std::vector<std::string>& versions) {
    return versions.empty() ? 0 : std::atoi(versions.back().c_str()) + 1;
}

/// A copy of a bundle under a name that begins with a dot, until it is renamed into place.
Result<fs::path> copy_bundle(const fs::path& bundle, const fs::path& folder, const std::string& version) {
    const fs::path part = versions_of(folder) / ("." + version);
    std::error_code error;
    fs::remove_all(part, error);
    error.clear();
    if (auto made = make_folder(versions_of(folder)); !made) return std::move(made).error();
    fs::copy(bundle, part, fs::copy_options::recursive, error);
    if (error) return file_error("copying", bundle, error.value());
    return part;
}

Result<void> put_in_place(const fs::path& part, const fs::path& folder, const std::string& version) {
    if (auto synced = sync_tree(part); !synced) return synced;
    std::error_code error;
    fs::rename(part, versions_of(folder) / version, error);
    if (error) return file_error("renaming to", versions_of(folder) / version, error.value());
    return sync_folder(versions_of(folder));
}

/// The bundle that the model began with is version 0, so that there is always a way back.
Result<void> begin_versions(const fs::path& folder, const ModelSettings& model, const Clock& clock) {
    if (!versions_in(folder).empty()) return {};
    const std::string version = "0000-shipped";
    auto part = copy_bundle(model.bundle, folder, version);
    if (!part) return std::move(part).error();
    auto identity = identity_of(*part);
    if (!identity) return std::move(identity).error();
    if (auto placed = put_in_place(*part, folder, version); !placed) return placed;
    if (auto linked = link_current(folder, version); !linked) return linked;
    PromotionLine line;
    line.at = clock.now(), line.action = "promote", line.by = "first use", line.version = version;
    line.weights_sha256 = *identity, line.note = "the bundle of the settings";
    return add_line(folder, line);
}

void drop_old(const fs::path& folder, const std::string& current, int keep) {
    std::vector<std::string> versions = versions_in(folder);
    std::error_code no_matter;
    for (std::size_t i = 0; static_cast<int>(versions.size() - i) > keep; ++i) {
        if (versions[i] != current) fs::remove_all(versions_of(folder) / versions[i], no_matter);
    }
}

}  // namespace

fs::path promotion_folder(const FederatedSettings& settings, const ModelSettings& model) {
    return settings.promotion.folder / model.id;
}

std::string current_version(const FederatedSettings& settings, const ModelSettings& model) {
    std::error_code no_matter;
    return fs::read_symlink(promotion_folder(settings, model) / "current", no_matter).filename().string();
}

std::string below_thresholds(const Validation& v, const PromotionSettings& s) {
    if (v.studies < s.least_holdout_studies)
        return fmt::format("validated on {} held-out studies, expected at least {}", v.studies,
                           s.least_holdout_studies);
    if (v.dice.empty() && v.point_mm.empty()) return "no head was validated: the hold-out has no labels";
    for (const auto& [head, dice] : v.dice) {
        if (!(dice >= s.least_dice))
            return fmt::format("{} has Dice {:.3f}, expected at least {}", head, dice, s.least_dice);
    }
    for (const auto& [head, mm] : v.point_mm) {
        if (!(mm <= s.most_point_mm))
            return fmt::format("the points of {} are {:.1f} mm off, expected at most {}", head, mm, s.most_point_mm);
    }
    return {};
}

Result<PromotionLine> promote(const FederatedSettings& settings, const ModelSettings& model,
                              const std::vector<AcceptedModel>& accepted, const PromotionRequest& request,
                              const PutWeights& put_weights, const Clock& clock) {
    const AcceptedModel* chosen = nullptr;
    for (const AcceptedModel& m : accepted) {
        if (!m.weights.empty() && m.record_id.starts_with(request.record)) chosen = &m;
    }
    if (chosen == nullptr)
        return reject_error(request.record.empty() ? "no global model of " + model.id + " is staged yet"
                                                   : "no staged global model begins with " + request.record);
    const std::string below = below_thresholds(chosen->validation, settings.promotion);
    if (!below.empty() && !request.insist)
        return reject_error(below + ". It stays staged; --insist would put it live all the same");
    const fs::path folder = promotion_folder(settings, model);
    if (auto made = make_folder(folder); !made) return std::move(made).error();
    auto locked = lock(folder);
    if (!locked) return std::move(locked).error();
    if (auto begun = begin_versions(folder, model, clock); !begun) return std::move(begun).error();

    const std::vector<std::string> versions = versions_in(folder);
    const std::string tail = "-" + chosen->record_id.substr(0, 16);
    if (current_version(settings, model).ends_with(tail))
        return reject_error("the global model " + chosen->record_id.substr(0, 12) + " is live already");
    const std::string version = fmt::format("{:04}{}", next_number(versions), tail);
    auto part = copy_bundle(model.bundle, folder, version);
    if (!part) return std::move(part).error();
    const std::map<std::string, std::string> record = {{"federated_model", model.id},
                                                       {"federated_round", std::to_string(chosen->version)},
                                                       {"federated_record", chosen->record_id},
                                                       {"federated_promoted", to_iso8601(clock.now())}};
    if (auto put = put_weights(model, chosen->weights, *part, record); !put)
        return std::move(put).error().in("putting the weights into a bundle");
    auto identity = identity_of(*part);  // loads and checks it as the pipeline will
    if (!identity) return std::move(identity).error().in("the new bundle");

    PromotionLine line;
    line.at = clock.now(), line.action = "promote", line.by = request.by, line.version = version;
    line.record_id = chosen->record_id, line.weights_sha256 = *identity, line.round = chosen->version;
    line.validation = chosen->validation;
    if (!below.empty()) line.note = "in spite of: " + below;
    if (auto placed = put_in_place(*part, folder, version); !placed) return std::move(placed).error();
    if (auto noted = add_line(folder, line); !noted) return std::move(noted).error();
    if (auto linked = link_current(folder, version); !linked) return std::move(linked).error();
    drop_old(folder, version, settings.promotion.keep);
    return line;
}

Result<PromotionLine> roll_back(const FederatedSettings& settings, const ModelSettings& model,
                                const std::string& version, const std::string& by, const Clock& clock) {
    const fs::path folder = promotion_folder(settings, model);
    const std::string current = current_version(settings, model);
    if (current.empty()) return reject_error("no model of " + model.id + " was ever promoted: there is no way back");
    auto locked = lock(folder);
    if (!locked) return std::move(locked).error();
    std::string chosen;
    for (const std::string& name : versions_in(folder)) {
        if (version.empty() ? name < current : name.starts_with(version)) chosen = name;
    }
    if (chosen.empty())
        return reject_error(version.empty() ? "there is no version before " + current + " any more"
                                            : "no version begins with " + version);
    if (chosen == current) return reject_error(chosen + " is live already");
    auto identity = identity_of(versions_of(folder) / chosen);
    if (!identity) return std::move(identity).error().in("version " + chosen);
    auto history = promotions(settings, model);
    if (!history) return std::move(history).error();
    PromotionLine line;
    for (const PromotionLine& l : *history) {
        if (l.version == chosen) line = l;
    }
    line.at = clock.now(), line.action = "rollback", line.by = by, line.version = chosen;
    line.weights_sha256 = *identity, line.note = "from " + current;
    if (auto noted = add_line(folder, line); !noted) return std::move(noted).error();
    if (auto linked = link_current(folder, chosen); !linked) return std::move(linked).error();
    return line;
}

Result<std::vector<PromotionLine>> promotions(const FederatedSettings& settings, const ModelSettings& model) {
    std::vector<PromotionLine> lines;
    const fs::path file = promotion_folder(settings, model) / "history.jsonl";
    std::error_code no_matter;
    if (!fs::exists(file, no_matter)) return lines;
    auto text = read_file(file);
    if (!text) return std::move(text).error();
    std::istringstream in(*text);
    for (std::string one; std::getline(in, one);) {
        try {
            const Json json = Json::parse(one);
            PromotionLine l;
            l.at = Moment(Milliseconds(json.at("at_ms").get<std::int64_t>()));
            l.action = json.at("action").get<std::string>(), l.by = json.at("by").get<std::string>();
            l.version = json.at("version").get<std::string>(), l.record_id = json.at("record_id").get<std::string>();
            l.weights_sha256 = json.at("weights_sha256").get<std::string>(),
            l.round = json.at("round").get<std::int64_t>();
            l.note = json.at("note").get<std::string>();
            if (json.contains("validation")) l.validation = validation_from(json.at("validation"));
            lines.push_back(std::move(l));
        } catch (const nlohmann::json::exception& e) {
            return config_error(file.string() + " is damaged: " + e.what());
        }
    }
    return lines;
}

}  // namespace cardionode::fed
