#include <cmath>
#include <nlohmann/json.hpp>

#include "pipeline/evaluate/summary.h"

namespace cardionode {
namespace {

using nlohmann::json;

json rounded(double value) {
    if (std::isnan(value)) return {};
    if (std::isinf(value)) return "missed";
    return std::round(value * 1e4) / 1e4;
}

json vector_json(const std::optional<Vec3>& v) {
    if (!v) return {};
    return {rounded((*v)[0]), rounded((*v)[1]), rounded((*v)[2])};
}

json distribution_json(const Distribution& d) {
    json j = {{"count", d.count},
              {"missed", d.infinite},
              {"median", rounded(d.median)},
              {"q1", rounded(d.q1)},
              {"q3", rounded(d.q3)},
              {"p95", rounded(d.p95)},
              {"max", rounded(d.max)},
              {"mean_of_found", rounded(d.mean)}};
    if (d.median_interval) {
        j["median_95"] = {rounded(d.median_interval->low), rounded(d.median_interval->high)};
    }
    return j;
}

json point_json(const PointSummary& p) {
    return {{"name", p.name},
            {"present", p.present},
            {"found", p.found},
            {"absent", p.absent},
            {"false_finds", p.false_finds},
            {"error_mm", distribution_json(p.error_mm)},
            {"within_2mm", rounded(p.within_2mm)},
            {"within_3mm", rounded(p.within_3mm)},
            {"within_5mm", rounded(p.within_5mm)},
            {"bias_lps_mm", vector_json(p.bias_lps_mm)},
            {"bias_up_out_round_mm", vector_json(p.bias_root_mm)},
            {"spread_about_bias_mm", p.spread_root_mm ? rounded(*p.spread_root_mm) : json()},
            {"why_missed", p.why_missed}};
}

json structure_json(const StructureSummary& s) {
    return {{"name", s.name},
            {"cases", s.cases},
            {"agreed_none", s.agreed_none},
            {"only_found", s.only_found},
            {"only_true", s.only_true},
            {"pooled_dice", s.pooled_dice ? rounded(*s.pooled_dice) : json()},
            {"dice", distribution_json(s.dice)},
            {"surface_average_mm", distribution_json(s.surface_mm)},
            {"surface_hausdorff95_mm", distribution_json(s.hausdorff95_mm)},
            {"volume_error_ml", distribution_json(s.volume_error_ml)},
            {"volume_error_percent", distribution_json(s.volume_error_percent)}};
}

json number_json(const NumberSummary& n) {
    return {{"name", n.name},
            {"both", n.both},
            {"not_given", n.not_given},
            {"invented", n.invented},
            {"absolute_error", distribution_json(n.absolute_error)},
            {"error", distribution_json(n.error)},
            {"absolute_percent", distribution_json(n.absolute_percent)},
            {"why_not_given", n.why_not_given}};
}

json group_json(const GroupSummary& g) {
    json j = {{"title", g.title},
              {"cases", g.cases},
              {"with_contrast", g.with_contrast},
              {"without_contrast", g.without_contrast},
              {"without_contrast_but_root_given", g.invented_root},
              {"plane_angle_deg", distribution_json(g.plane_angle_deg)},
              {"annulus_centre_error_mm", distribution_json(g.centre_error_mm)},
              {"seconds_a_case", distribution_json(g.seconds)}};
    j["points"] = j["structures"] = j["numbers"] = json::array();
    for (const PointSummary& p : g.points) j["points"].push_back(point_json(p));
    for (const StructureSummary& s : g.structures) j["structures"].push_back(structure_json(s));
    for (const NumberSummary& n : g.numbers) j["numbers"].push_back(number_json(n));
    return j;
}

}  // namespace

json to_json(const Summary& summary) {
    json j = {{"all", group_json(summary.all)}, {"worst_profile", summary.worst_profile}};
    j["profiles"] = json::array();
    for (const GroupSummary& g : summary.profiles) j["profiles"].push_back(group_json(g));
    return j;
}

}  // namespace cardionode
