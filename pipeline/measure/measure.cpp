#include "pipeline/measure/measure.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "pipeline/measure/calcium_parts.h"
#include "pipeline/measure/measurement_list.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

Value between(const Findings& findings, std::string_view a, std::string_view b, const MeasureRules& rules) {
    auto why = missing_points(findings, {a, b});
    if (!why.empty()) return {std::nullopt, std::nullopt, std::move(why)};
    return {distance_mm(*findings.landmark(a)->position, *findings.landmark(b)->position),
            combined({axis_sd_of(findings, a, rules), axis_sd_of(findings, b, rules)}),
            {}};
}

/// Signed distance above the annular plane.
Value above_plane(const Findings& findings, std::string_view point, const MeasureRules& rules) {
    auto why = missing_points(findings, {point});
    if (!why.empty()) return {std::nullopt, std::nullopt, std::move(why)};
    const auto hinges = hinges_of(findings, rules);
    if (!hinges) return {std::nullopt, std::nullopt, no_plane(findings)};
    const Plane& plane = *findings.annular_plane;
    const PatientPoint& p = *findings.landmark(point)->position;
    return {dot(subtract(p.lps_mm, plane.point.lps_mm), plane.normal),
            combined({axis_sd_of(findings, point, rules), hinges->height_sd(p)}),
            {}};
}

/// Without sign: 0 for an axial plane, whichever way the patient lies in the scanner.
double tilt_of(const Vec3& normal) { return std::acos(std::clamp(std::abs(normal[2]), 0.0, 1.0)) * 180 / M_PI; }

Value tilt(const Findings& findings, const MeasureRules& rules) {
    const auto hinges = hinges_of(findings, rules);
    if (!hinges) return {std::nullopt, std::nullopt, no_plane(findings)};
    std::vector<double> tilts;
    for (const Hinges& m : moved(*hinges, rules.samples, rules.seed)) {
        tilts.push_back(tilt_of(m.plane(findings.annular_plane->normal).normal));
    }
    return {tilt_of(findings.annular_plane->normal), spread(tilts, tilts.size()), {}};
}

struct Heights {
    std::optional<double> left, right;
};

Heights add_points(MeasurementList& list, const Findings& findings, const MeasureRules& rules) {
    const std::string plane =
        fmt::format("{}, {}, {}", names::kHingeRight, names::kHingeLeft, names::kHingeNoncoronary);
    const auto with_plane = [&](std::string_view point) { return fmt::format("{}, {}", point, plane); };
    list.add("annulus_tilt_deg", "Angle between annular and axial plane",
             own("ANNULUS_TILT", "Angle between annular plane and axial plane"), kDegree, tilt(findings, rules), plane);
    const Value left = above_plane(findings, names::kOstiumLeft, rules);
    const Value right = above_plane(findings, names::kOstiumRight, rules);
    list.add("left_ostium_height_mm", "Height of the left main ostium", dcm("131166", "Left Main Ostium Height"), kMm,
             left, with_plane(names::kOstiumLeft));
    list.add("right_ostium_height_mm", "Height of the right coronary ostium",
             dcm("131169", "Right Coronary Ostium Height"), kMm, right, with_plane(names::kOstiumRight));
    Value depth = above_plane(findings, names::kSeptumLower, rules);
    if (depth.number) depth.number = -*depth.number;
    list.add("septum_depth_mm", "Membranous septum: lower end below the annular plane (indicative)",
             own("SEPTUM_DEPTH", "Depth of membranous septum below the annular plane"), kMm, std::move(depth),
             with_plane(names::kSeptumLower));
    const auto distance = [&](const char* name, const char* title, Code code, std::string_view a, std::string_view b) {
        list.add(name, title, std::move(code), kMm, between(findings, a, b, rules), fmt::format("{}, {}", a, b));
    };
    distance("septum_length_mm", "Membranous septum: length (indicative)",
             own("SEPTUM_LENGTH", "Length of the membranous septum"), names::kSeptumUpper, names::kSeptumLower);
    distance("hinge_left_right_mm", "Distance of left and right hinge point",
             own("HINGE_LEFT_RIGHT", "Distance of left and right coronary cusp nadir"), names::kHingeLeft,
             names::kHingeRight);
    distance("hinge_left_noncoronary_mm", "Distance of left and non-coronary hinge point",
             own("HINGE_LEFT_NON", "Distance of left and non-coronary cusp nadir"), names::kHingeLeft,
             names::kHingeNoncoronary);
    distance("hinge_right_noncoronary_mm", "Distance of right and non-coronary hinge point",
             own("HINGE_RIGHT_NON", "Distance of right and non-coronary cusp nadir"), names::kHingeRight,
             names::kHingeNoncoronary);
    return {left.number, right.number};
}

void add_calcium(MeasurementList& list, const Findings& findings, const CalciumContext& context,
                 const MeasureRules& rules) {
    const SegmentGroup* group = group_of(findings, names::kValveCalcium);
    const auto hinges = hinges_of(findings, rules);
    std::string rests_on(names::kValveCalcium);
    if (group) {
        rests_on += fmt::format(" (voxels of {:.0f} HU or more{})", context.threshold_hu,
                                context.rule.empty() ? "" : "; rule: " + context.rule);
    }
    const auto add = [&](const char* name, const char* title, Code code, Value value, const std::string& on) {
        list.add(name, title, std::move(code), kMm3, std::move(value), on);
    };
    Value whole{std::nullopt, std::nullopt, context.not_measured_why};
    Value cusps[3] = {whole, whole, whole}, outflow = whole;
    if (group) {
        const CalciumVoxels calcium = calcium_voxels(group->labels);
        const double all = static_cast<double>(calcium.centres.size()) * calcium.voxel_mm3;
        const double shell = 0.5 * static_cast<double>(calcium.on_surface) * calcium.voxel_mm3;
        whole = {all, shell, {}};
        if (!hinges) {
            for (Value* v : {&cusps[0], &cusps[1], &cusps[2], &outflow}) *v = {{}, {}, no_plane(findings)};
        } else {
            const CalciumParts parts = calcium_parts(calcium, *findings.annular_plane, hinges->at);
            std::array<std::vector<double>, 4> samples;
            for (const Hinges& m : moved(*hinges, rules.samples, rules.seed)) {
                const CalciumParts other = calcium_parts(calcium, m.plane(findings.annular_plane->normal), m.at);
                for (std::size_t c = 0; c < 3; ++c) samples[c].push_back(other.cusp_mm3[c]);
                samples[3].push_back(other.outflow_mm3);
            }
            const auto value = [&](double mm3, const std::vector<double>& of) {
                const auto sd = spread(of, of.size());
                const double own_shell = all > 0 ? shell * mm3 / all : 0;
                return Value{mm3, sd ? std::optional(combined({*sd, own_shell})) : std::nullopt, {}};
            };
            for (std::size_t c = 0; c < 3; ++c) cusps[c] = value(parts.cusp_mm3[c], samples[c]);
            outflow = value(parts.outflow_mm3, samples[3]);
        }
    }
    add("valve_calcium_mm3", "Calcium volume of the aortic valve", dcm("131146", "Aortic Calcification Volume"), whole,
        rests_on);
    const std::string sorted = rests_on + (group ? ", sectors between the hinge points" : "");
    add("valve_calcium_right_mm3", "Calcium volume, right coronary cusp",
        own("CALCIUM_RIGHT", "Calcification volume of right coronary cusp"), cusps[0], sorted);
    add("valve_calcium_left_mm3", "Calcium volume, left coronary cusp",
        own("CALCIUM_LEFT", "Calcification volume of left coronary cusp"), cusps[1], sorted);
    add("valve_calcium_noncoronary_mm3", "Calcium volume, non-coronary cusp",
        own("CALCIUM_NON", "Calcification volume of non-coronary cusp"), cusps[2], sorted);
    add("valve_calcium_outflow_mm3", "Calcium volume below the annular plane",
        own("CALCIUM_LVOT", "Calcification volume below annular plane"), outflow, sorted);
}

/// Half a voxel on the surface of one label.
double shell_ml(const LabelMap& labels, int label) {
    const auto& size = labels.grid.size();
    const std::array<std::int64_t, 3> stride = {1, size[0], size[0] * size[1]};
    std::int64_t surface = 0, o = 0;
    for (std::int64_t k = 0; k < size[2]; ++k) {
        for (std::int64_t j = 0; j < size[1]; ++j) {
            for (std::int64_t i = 0; i < size[0]; ++i, ++o) {
                if (labels.voxels[o] != label) continue;
                const std::array<std::int64_t, 3> at = {i, j, k};
                bool border = false;
                for (std::size_t a = 0; a < 3 && !border; ++a) {
                    border = at[a] == 0 || at[a] + 1 == size[a] || labels.voxels[o - stride[a]] != label ||
                             labels.voxels[o + stride[a]] != label;
                }
                if (border) ++surface;
            }
        }
    }
    return 0.5 * static_cast<double>(surface) * labels.grid.voxel_volume_mm3() / 1000;
}

/// Numbers that together meet a published cut-off. What follows from that is for the reader to say.
void add_notes(Measured& measured, const Heights& heights, const std::optional<double>& sinus_mean) {
    if (heights.left && sinus_mean && *heights.left < 12 && *sinus_mean < 30) {
        measured.notes.push_back(
            fmt::format("left ostium {:.1f} mm above the annular plane and mean sinus diameter {:.1f} mm: both are "
                        "below the values published for a raised risk of coronary obstruction (12 mm with 30 mm, "
                        "Ribeiro 2013). Research use",
                        *heights.left, *sinus_mean));
    }
}

}  // namespace

void MeasurementList::add(std::string name, std::string title, Code concept_name, Code unit, Value value,
                          std::string rests_on) {
    Measurement m;
    m.name = std::move(name);
    m.title = std::move(title);
    m.concept_name = std::move(concept_name);
    m.unit = std::move(unit);
    if (value.number && !std::isfinite(*value.number)) value = {{}, {}, "the computation gave no number"};
    m.value = value.number;
    if (m.value && value.sd && std::isfinite(*value.sd)) m.uncertainty = value.sd;
    m.reason = m.value ? std::string() : std::move(value.reason);
    m.rests_on = std::move(rests_on);
    measurements_.push_back(std::move(m));
}

std::string missing_points(const Findings& findings, std::initializer_list<std::string_view> needed) {
    std::string why;
    for (const std::string_view name : needed) {
        const Landmark* l = findings.landmark(name);
        if (l && l->position) continue;
        if (!why.empty()) why += "; ";
        why += l ? fmt::format("{} not found: {}", l->title.empty() ? l->name : l->title, l->reason)
                 : fmt::format("the model does not mark {}", name);
    }
    return why;
}

std::string no_plane(const Findings& findings) {
    const auto why = missing_points(findings, {names::kHingeLeft, names::kHingeRight, names::kHingeNoncoronary});
    return why.empty() ? "no annular plane" : why;
}

const SegmentGroup* group_of(const Findings& findings, std::string_view name) {
    for (const SegmentGroup& g : findings.groups) {
        if (g.name == name) return &g;
    }
    return nullptr;
}

double axis_sd_of(const Findings& findings, std::string_view name, const MeasureRules& rules) {
    const Landmark* landmark = findings.landmark(name);
    return axis_sd(landmark && landmark->expected_error_mm ? *landmark->expected_error_mm : rules.point_error_mm);
}

std::optional<Hinges> hinges_of(const Findings& findings, const MeasureRules& rules) {
    if (!findings.annular_plane) return std::nullopt;
    Hinges hinges;
    for (std::size_t h = 0; h < 3; ++h) {
        const Landmark* l = findings.landmark(names::kHinges[h]);
        if (!l || !l->position) return std::nullopt;
        hinges.at[h] = *l->position;
        hinges.axis_sd_mm[h] = axis_sd_of(findings, names::kHinges[h], rules);
    }
    return hinges;
}

Measured measure(const Findings& findings, const Volume& ct, const CalciumContext& calcium, const MeasureRules& rules) {
    Measured measured;
    MeasurementList list;
    const auto sinus_mean = add_root(list, findings, ct, rules, measured);
    const Heights heights = add_points(list, findings, rules);
    add_calcium(list, findings, calcium, rules);
    if (const SegmentGroup* heart = group_of(findings, names::kHeartHead)) {
        for (const Segment& s : heart->segments) {
            list.add(s.name + "_volume_ml", s.title + ": volume", {"118565006", "SCT", "Volume"}, kMl,
                     s.volume_ml ? Value{s.volume_ml, shell_ml(heart->labels, s.label), {}}
                                 : Value{{}, {}, "not found in this series"},
                     s.name);
        }
    }
    add_notes(measured, heights, sinus_mean);
    measured.measurements = std::move(list).take();
    return measured;
}

}  // namespace cardionode
