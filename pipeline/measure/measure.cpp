#include "pipeline/measure/measure.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "pipeline/measure/annulus_contour.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

const Code kMm{"mm", "UCUM", "millimeter"};
const Code kMm2{"mm2", "UCUM", "square millimeter"};
const Code kMm3{"mm3", "UCUM", "cubic millimeter"};
const Code kMl{"ml", "UCUM", "milliliter"};
const Code kDegree{"deg", "UCUM", "degree"};
const Code kRatio{"1", "UCUM", "no units"};

Code dcm(const char* value, const char* meaning) { return {value, "DCM", meaning}; }
Code own(const char* value, const char* meaning) { return {value, std::string(kPrivateScheme), meaning}; }

struct Value {
    std::optional<double> number;
    std::string reason;
};

const SegmentGroup* group_of(const Findings& findings, std::string_view name) {
    for (const SegmentGroup& g : findings.groups) {
        if (g.name == name) return &g;
    }
    return nullptr;
}

/// Why the named points cannot be used together; empty: all are found.
std::string missing(const Findings& findings, std::initializer_list<std::string_view> needed) {
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
    const auto why = missing(findings, {names::kHingeLeft, names::kHingeRight, names::kHingeNoncoronary});
    return why.empty() ? "no annular plane" : why;
}

Value between(const Findings& findings, std::string_view a, std::string_view b) {
    auto why = missing(findings, {a, b});
    if (!why.empty()) return {std::nullopt, std::move(why)};
    return {distance_mm(*findings.landmark(a)->position, *findings.landmark(b)->position), {}};
}

/// Signed distance above the annular plane.
Value above_plane(const Findings& findings, std::string_view point) {
    auto why = missing(findings, {point});
    if (!why.empty()) return {std::nullopt, std::move(why)};
    if (!findings.annular_plane) return {std::nullopt, no_plane(findings)};
    const Plane& plane = *findings.annular_plane;
    return {dot(subtract(findings.landmark(point)->position->lps_mm, plane.point.lps_mm), plane.normal), {}};
}

Value tilt(const Findings& findings) {
    if (!findings.annular_plane) return {std::nullopt, no_plane(findings)};
    // Without sign: 0 for an axial plane, whichever way the patient lies in the scanner.
    const double along = std::clamp(std::abs(findings.annular_plane->normal[2]), 0.0, 1.0);
    return {std::acos(along) * 180 / M_PI, {}};
}

Result<AnnulusContour> contour_of(const Findings& findings) {
    if (!findings.annular_plane) return reject_error(no_plane(findings));
    const SegmentGroup* heart = group_of(findings, names::kHeartHead);
    if (!heart) return reject_error("the heart was not segmented");
    std::vector<int> lumen;
    for (const Segment& s : heart->segments) {
        if (s.name == names::kAorta || s.name == names::kLeftVentricle) lumen.push_back(s.label);
    }
    if (lumen.empty()) return reject_error("the model marks neither aorta nor left ventricle");
    return annulus_contour(heart->labels, lumen, *findings.annular_plane);
}

class List {
public:
    void add(std::string name, std::string title, Code concept_name, Code unit, Value value, std::string rests_on) {
        Measurement m;
        m.name = std::move(name);
        m.title = std::move(title);
        m.concept_name = std::move(concept_name);
        m.unit = std::move(unit);
        if (value.number && !std::isfinite(*value.number)) value = {std::nullopt, "the computation gave no number"};
        m.value = value.number;
        m.reason = m.value ? std::string() : std::move(value.reason);
        m.rests_on = std::move(rests_on);
        measurements.push_back(std::move(m));
    }
    std::vector<Measurement> measurements;
};

void add_annulus(List& list, const Findings& findings) {
    const auto contour = contour_of(findings);
    const std::string rests_on = fmt::format("{}, {}, {}, {}, {}", names::kHingeRight, names::kHingeLeft,
                                             names::kHingeNoncoronary, names::kAorta, names::kLeftVentricle);
    const auto value = [&](auto&& of) {
        return contour ? Value{of(*contour), {}} : Value{std::nullopt, contour.error().message};
    };
    using C = AnnulusContour;
    list.add("annulus_area_mm2", "Annulus area", own("ANNULUS_AREA", "Aortic annulus area"), kMm2,
             value([](const C& c) { return c.area_mm2; }), rests_on);
    list.add("annulus_perimeter_mm", "Annulus perimeter", dcm("131145", "Annulus Perimeter"), kMm,
             value([](const C& c) { return c.perimeter_mm; }), rests_on);
    list.add("annulus_area_diameter_mm", "Annulus diameter from area",
             own("ANNULUS_D_AREA", "Aortic annulus diameter derived from area"), kMm,
             value([](const C& c) { return 2 * std::sqrt(c.area_mm2 / M_PI); }), rests_on);
    list.add("annulus_perimeter_diameter_mm", "Annulus diameter from perimeter",
             own("ANNULUS_D_PERI", "Aortic annulus diameter derived from perimeter"), kMm,
             value([](const C& c) { return c.perimeter_mm / M_PI; }), rests_on);
    list.add("annulus_min_diameter_mm", "Annulus minimum diameter", dcm("131144", "Annulus Minimum Diameter"), kMm,
             value([](const C& c) { return c.min_diameter_mm; }), rests_on);
    list.add("annulus_max_diameter_mm", "Annulus maximum diameter", dcm("131143", "Annulus Maximum Diameter"), kMm,
             value([](const C& c) { return c.max_diameter_mm; }), rests_on);
    list.add("annulus_eccentricity", "Annulus eccentricity (1 - min/max diameter)",
             own("ANNULUS_ECC", "Aortic annulus eccentricity index"), kRatio,
             value([](const C& c) { return 1 - c.min_diameter_mm / c.max_diameter_mm; }), rests_on);
}

void add_points(List& list, const Findings& findings) {
    const std::string plane =
        fmt::format("{}, {}, {}", names::kHingeRight, names::kHingeLeft, names::kHingeNoncoronary);
    const auto with_plane = [&](std::string_view point) { return fmt::format("{}, {}", point, plane); };
    list.add("annulus_tilt_deg", "Angle between annular and axial plane",
             own("ANNULUS_TILT", "Angle between annular plane and axial plane"), kDegree, tilt(findings), plane);
    list.add("left_ostium_height_mm", "Height of the left main ostium", dcm("131166", "Left Main Ostium Height"), kMm,
             above_plane(findings, names::kOstiumLeft), with_plane(names::kOstiumLeft));
    list.add("right_ostium_height_mm", "Height of the right coronary ostium",
             dcm("131169", "Right Coronary Ostium Height"), kMm, above_plane(findings, names::kOstiumRight),
             with_plane(names::kOstiumRight));
    Value depth = above_plane(findings, names::kSeptumLower);
    if (depth.number) depth.number = -*depth.number;
    list.add("septum_depth_mm", "Membranous septum: lower end below the annular plane (indicative)",
             own("SEPTUM_DEPTH", "Depth of membranous septum below the annular plane"), kMm, std::move(depth),
             with_plane(names::kSeptumLower));
    const auto distance = [&](const char* name, const char* title, Code code, std::string_view a, std::string_view b) {
        list.add(name, title, std::move(code), kMm, between(findings, a, b), fmt::format("{}, {}", a, b));
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
}

void add_calcium(List& list, const Findings& findings, const CalciumContext& calcium) {
    Value value{std::nullopt, calcium.not_measured_why};
    std::string rests_on(names::kValveCalcium);
    if (const SegmentGroup* group = group_of(findings, names::kValveCalcium)) {
        double ml = 0;
        for (const Segment& s : group->segments) ml += s.volume_ml.value_or(0);
        value = {ml * 1000, {}};
        rests_on += fmt::format(" (voxels of {:.0f} HU or more)", calcium.threshold_hu);
    }
    list.add("valve_calcium_mm3", "Calcium volume of the aortic valve", dcm("131146", "Aortic Calcification Volume"),
             kMm3, std::move(value), std::move(rests_on));
}

}  // namespace

std::vector<Measurement> measure(const Findings& findings, const CalciumContext& calcium) {
    List list;
    add_annulus(list, findings);
    add_points(list, findings);
    add_calcium(list, findings, calcium);
    if (const SegmentGroup* heart = group_of(findings, names::kHeartHead)) {
        for (const Segment& s : heart->segments) {
            list.add(s.name + "_volume_ml", s.title + ": volume", {"118565006", "SCT", "Volume"}, kMl,
                     s.volume_ml ? Value{s.volume_ml, {}} : Value{std::nullopt, "not found in this series"}, s.name);
        }
    }
    return std::move(list.measurements);
}

}  // namespace cardionode
