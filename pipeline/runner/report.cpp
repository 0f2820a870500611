#include "pipeline/runner/report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace cardionode {
namespace {

using Json = nlohmann::ordered_json;

/// Enough digits for any use, few enough to read.
double rounded(double value, double digits = 1000) { return std::round(value * digits) / digits; }

Json landmark_json(const Landmark& l) {
    Json json = {{"name", l.name}, {"title", l.title}, {"found", l.position.has_value()}};
    if (l.position) {
        const auto& p = l.position->lps_mm;
        json["lps_mm"] = {rounded(p[0]), rounded(p[1]), rounded(p[2])};
    } else {
        json["lps_mm"] = nullptr;
    }
    json["confidence"] = rounded(l.confidence);
    json["reason"] = l.reason;
    return json;
}

Json measurement_json(const Measurement& m) {
    Json json = {{"name", m.name}, {"title", m.title}};
    if (m.value) json["value"] = rounded(*m.value);
    else json["value"] = nullptr;
    if (m.uncertainty) json["uncertainty"] = rounded(*m.uncertainty);
    else json["uncertainty"] = nullptr;
    json["unit"] = m.unit.value;
    json["rests_on"] = m.rests_on;
    json["reason"] = m.reason;
    return json;
}

}  // namespace

std::string summary_of(const Analysis& analysis) {
    const Findings& f = analysis.findings;
    const auto found =
        std::count_if(f.landmarks.begin(), f.landmarks.end(), [](const Landmark& l) { return l.position.has_value(); });
    std::string line = fmt::format("{} of {} landmarks", found, f.landmarks.size());
    for (const Measurement& m : f.measurements) {
        if (m.name == "annulus_area_mm2" && m.value) line += fmt::format(", annulus {:.0f} mm2", *m.value);
    }
    line += fmt::format(", {} outputs", analysis.outputs.files.size());
    for (const std::string& warning : f.warnings) line += "; " + warning;
    return line;
}

std::string to_json(const Analysis& analysis, const std::filesystem::path& work_folder) {
    const Findings& f = analysis.findings;
    Json json;
    json["landmarks"] = Json::array();
    for (const Landmark& l : f.landmarks) json["landmarks"].push_back(landmark_json(l));
    json["measurements"] = Json::array();
    for (const Measurement& m : f.measurements) json["measurements"].push_back(measurement_json(m));
    json["warnings"] = f.warnings;
    json["series"] = analysis.why_chosen;
    json["not_chosen"] = analysis.not_chosen;
    json["model"] = f.model.name + " " + f.model.version;
    json["device"] = f.model.device;
    json["outputs"] = Json::array();
    for (const OutputFile& o : analysis.outputs.files) {
        json["outputs"].push_back({{"kind", o.kind}, {"file", (work_folder / o.file).string()}});
    }
    json["notes"] = analysis.outputs.notes;
    json["overview"] = analysis.outputs.overview.empty() ? "" : (work_folder / analysis.outputs.overview).string();
    json["seconds"] = Json::object();
    for (const StageTime& t : analysis.stages) json["seconds"][t.stage] = rounded(t.seconds);
    // Text from DICOM headers may hold bytes that are not UTF-8: they are replaced, never an exception.
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace cardionode
