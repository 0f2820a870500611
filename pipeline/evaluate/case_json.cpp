#include <cmath>
#include <nlohmann/json.hpp>

#include "pipeline/evaluate/case_score.h"
#include "pipeline/evaluate/statistics.h"

namespace cardionode {
namespace {

using nlohmann::json;

/// JSON has no infinity: a missed distance is the word.
json number(double value) { return std::isfinite(value) ? json(value) : json("missed"); }
double number_from(const json& j) { return j.is_string() ? kMissed : j.get<double>(); }

json optional_number(const std::optional<double>& value) { return value ? number(*value) : json(); }
std::optional<double> optional_from(const json& j) {
    return j.is_null() ? std::nullopt : std::optional(number_from(j));
}

json place(const std::optional<PatientPoint>& point) { return point ? json(point->lps_mm) : json(); }
std::optional<PatientPoint> place_from(const json& j) {
    if (j.is_null()) return std::nullopt;
    return PatientPoint{j.get<Vec3>()};
}

json point_json(const PointScore& p) {
    json j = {{"name", p.name},
              {"true_lps_mm", place(p.truth)},
              {"found_lps_mm", place(p.found)},
              {"error_mm", optional_number(p.error_mm())},
              {"confidence", p.confidence}};
    if (p.offset_root) j["offset_root_mm"] = *p.offset_root;
    if (!p.reason.empty()) j["reason"] = p.reason;
    return j;
}

PointScore point_from(const json& j) {
    PointScore p;
    p.name = j.at("name");
    p.truth = place_from(j.at("true_lps_mm"));
    p.found = place_from(j.at("found_lps_mm"));
    p.confidence = j.at("confidence");
    p.reason = j.value("reason", "");
    if (j.contains("offset_root_mm")) p.offset_root = j["offset_root_mm"].get<Vec3>();
    return p;
}

json structure_json(const StructureScore& s) {
    json j = {{"name", s.name},
              {"voxels_both", s.voxels.both},
              {"voxels_found", s.voxels.found},
              {"voxels_true", s.voxels.truth},
              {"voxel_ml", s.voxel_ml},
              {"dice", optional_number(s.voxels.dice())}};
    if (s.surface) {
        j["surface_average_mm"] = number(s.surface->average_mm);
        j["surface_hausdorff95_mm"] = number(s.surface->hausdorff95_mm);
    }
    return j;
}

StructureScore structure_from(const json& j) {
    StructureScore s;
    s.name = j.at("name");
    s.voxels = {j.at("voxels_both"), j.at("voxels_found"), j.at("voxels_true")};
    s.voxel_ml = j.at("voxel_ml");
    if (j.contains("surface_average_mm")) {
        s.surface = SurfaceDistances{number_from(j["surface_average_mm"]), number_from(j.at("surface_hausdorff95_mm"))};
    }
    return s;
}

}  // namespace

json to_json(const CaseScore& score) {
    json j = {{"case", score.name},
              {"profile", score.profile},
              {"contrast", score.contrast},
              {"plane_angle_deg", optional_number(score.plane_angle_deg)},
              {"centre_error_mm", optional_number(score.centre_error_mm)},
              {"warnings", score.warnings},
              {"seconds", score.seconds}};
    j["points"] = json::array();
    for (const PointScore& p : score.points) j["points"].push_back(point_json(p));
    j["structures"] = json::array();
    for (const StructureScore& s : score.structures) j["structures"].push_back(structure_json(s));
    j["numbers"] = json::object();
    for (const auto& [name, n] : score.numbers) {
        j["numbers"][name] = {{"true", optional_number(n.truth)}, {"found", optional_number(n.found)}};
        if (!n.reason.empty()) j["numbers"][name]["reason"] = n.reason;
    }
    return j;
}

Result<CaseScore> case_score_from(const json& j) {
    try {
        CaseScore score;
        score.name = j.at("case");
        score.profile = j.at("profile");
        score.contrast = j.at("contrast");
        score.plane_angle_deg = optional_from(j.at("plane_angle_deg"));
        score.centre_error_mm = optional_from(j.at("centre_error_mm"));
        score.warnings = j.at("warnings").get<std::vector<std::string>>();
        score.seconds = j.at("seconds").get<std::map<std::string, double>>();
        for (const json& p : j.at("points")) score.points.push_back(point_from(p));
        for (const json& s : j.at("structures")) score.structures.push_back(structure_from(s));
        for (const auto& [name, n] : j.at("numbers").items()) {
            score.numbers[name] = {optional_from(n.at("true")), optional_from(n.at("found")), n.value("reason", "")};
        }
        return score;
    } catch (const json::exception& wrong) {
        return config_error(std::string("no case of an evaluation: ") + wrong.what());
    }
}

}  // namespace cardionode
