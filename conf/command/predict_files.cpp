#include "conf/command/predict_files.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <stdlib.h>
#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <optional>

#include <nlohmann/json.hpp>

#include "conf/base/files.h"

namespace cardionode {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

/// Was this folder left by an earlier run? Anything that such a run does not write keeps it from being removed.
bool holds_only_results(const fs::path& folder) {
    std::error_code error;
    if (!fs::is_regular_file(folder / kRunFile, error)) return false;
    const auto text = read_file(folder / kRunFile);
    if (!text) return false;
    const auto run = nlohmann::json::parse(*text, nullptr, false);
    if (!run.is_object() || !run.contains("files") || !run["files"].is_array()) return false;
    for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
        if (at->is_directory(error)) continue;
        const std::string name = fs::relative(at->path(), folder, error).string();
        if (name != kRunFile && std::find(run["files"].begin(), run["files"].end(), name) == run["files"].end())
            return false;
    }
    return !error;
}

Result<void> may_take_place(const fs::path& target, bool overwrite) {
    std::error_code error;
    const auto status = fs::symlink_status(target, error);
    if (!fs::exists(status)) return {};
    if (!fs::is_directory(status)) return config_error(target.string() + " is there already and is no folder");
    const bool empty = fs::is_empty(target, error);
    if (error) return file_error("reading", target, error.value());
    if (empty) return {};
    if (!overwrite) {
        return config_error(target.string() +
                            " is not empty; name another folder, or give --overwrite to replace the "
                            "results in it");
    }
    if (!holds_only_results(target)) {
        return config_error(target.string() +
                            " holds other files than results of an earlier run; --overwrite does not "
                            "remove them, name another folder");
    }
    return {};
}

/// Enough digits for any use, few enough to read.
double rounded(double value) { return std::round(value * 1000) / 1000; }
Json number(const std::optional<double>& value) { return value ? Json(rounded(*value)) : Json(nullptr); }
Json place(const std::optional<PatientPoint>& point, double x_and_y) {
    if (!point) return nullptr;
    const Vec3& p = point->lps_mm;
    return {rounded(x_and_y * p[0]), rounded(x_and_y * p[1]), rounded(p[2])};
}
Json model_json(const Findings& findings) {
    const ModelIdentity& m = findings.model;
    return {{"name", m.name}, {"version", m.version}, {"sha256", m.sha256}};
}
std::string text_of(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

ResultFolder::ResultFolder(fs::path hidden, fs::path target) : hidden_(std::move(hidden)), target_(std::move(target)) {}

ResultFolder::ResultFolder(ResultFolder&& other) noexcept
    : hidden_(std::move(other.hidden_)), target_(std::move(other.target_)), published_(other.published_) {
    other.published_ = true;  // nothing left to remove
}

ResultFolder::~ResultFolder() {
    if (published_) return;
    std::error_code nothing_more_can_be_done;
    fs::remove_all(hidden_, nothing_more_can_be_done);
}

Result<ResultFolder> ResultFolder::create(const fs::path& wanted, bool overwrite) {
    std::error_code error;
    fs::path target = fs::absolute(wanted, error).lexically_normal();
    if (!target.has_filename()) target = target.parent_path();  // "out/"
    if (!target.has_filename()) return config_error("the output cannot be the root folder");
    if (Result<void> may = may_take_place(target, overwrite); !may) return std::move(may).error();
    std::string pattern = (target.parent_path() / ("." + target.filename().string() + ".XXXXXX")).string();
    if (::mkdtemp(pattern.data()) == nullptr) return file_error("making a folder in", target.parent_path(), errno);
    return ResultFolder(pattern, target);
}

Result<void> ResultFolder::publish() {
    // mkdtemp gives 0700; the folder gets what the user gives to folders.
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::chmod(hidden_.c_str(), 0777 & ~mask) != 0) return file_error("setting the mode of", hidden_, errno);
    if (Result<void> synced = sync_folder(hidden_); !synced) return synced;
    if (::rename(hidden_.c_str(), target_.c_str()) == 0) {  // absent or empty
        published_ = true;
    } else if (errno == ENOTEMPTY || errno == EEXIST) {
        // Both change places in one step; the hidden folder then holds the old results, which the destructor removes.
        if (::renameat2(AT_FDCWD, hidden_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0) {
            return file_error("replacing", target_, errno);
        }
    } else {
        return file_error("making", target_, errno);
    }
    return sync_folder(target_.parent_path());
}

std::string landmarks_json(const Findings& findings) {
    Json json = {{"coordinates", "mm; lps_mm: DICOM patient axes (x left, y back, z head); ras_mm: NIfTI's"},
                 {"model", model_json(findings)},
                 {"landmarks", Json::array()}};
    for (const Landmark& l : findings.landmarks) {
        Json one = {{"name", l.name},
                    {"title", l.title},
                    {"found", l.position.has_value()},
                    {"lps_mm", place(l.position, 1)},
                    {"ras_mm", place(l.position, -1)},
                    {"confidence", rounded(l.confidence)},
                    {"component_voxels", l.component_voxels},
                    {"component_mm3", rounded(l.component_mm3)},
                    {"look", l.look},
                    {"expected_error_mm", number(l.expected_error_mm)},
                    {"spread_mm", number(l.spread_mm)},
                    {"reason", l.reason}};
        json["landmarks"].push_back(std::move(one));
    }
    return text_of(json);
}

std::string measurements_json(const Findings& findings) {
    Json json = {{"model", model_json(findings)}, {"measurements", Json::array()}, {"warnings", findings.warnings}};
    for (const Measurement& m : findings.measurements) {
        json["measurements"].push_back({{"name", m.name},
                                        {"title", m.title},
                                        {"value", number(m.value)},
                                        {"unit", m.unit.value},
                                        {"uncertainty", number(m.uncertainty)},
                                        {"rests_on", m.rests_on},
                                        {"reason", m.reason}});
    }
    return text_of(json);
}

std::string measurements_csv(const Findings& findings) {
    const auto cell = [](const std::string& text) {
        if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
        std::string quoted = "\"";
        for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
        return quoted + "\"";
    };
    std::string csv = "name,title,value,unit,uncertainty,rests_on,reason\r\n";
    for (const Measurement& m : findings.measurements) {
        const auto shown = [](const std::optional<double>& v) { return v ? number(v).dump() : std::string(); };
        csv += cell(m.name) + "," + cell(m.title) + "," + shown(m.value) + "," + cell(m.unit.value) + "," +
               shown(m.uncertainty) + "," + cell(m.rests_on) + "," + cell(m.reason) + "\r\n";
    }
    return csv;
}

}  // namespace cardionode
