#include "pipeline/measure/root_sections.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

constexpr double kStepMm = 1, kTopMm = 50;
constexpr double kStraightMm = 12;                        ///< up to here the sections are parallel to the annular plane
constexpr double kSmallestMm2 = 100, kLargestMm2 = 1500;  ///< of an annulus; reference cohort 492 +- 95 mm2
constexpr double kLowestSinusMm = 3, kHighestSinusMm = 25;
constexpr double kLowestJunctionMm = 8, kHighestJunctionMm = 36;  ///< commissures of 203 cases: 13..32 mm

double wrapped(double angle) { return angle - 2 * M_PI * std::floor((angle + M_PI) / (2 * M_PI)); }

Result<LumenContour> ring(const LumenTracer& tracer, const Plane& plane, const char* what) {
    auto contour = tracer.trace(plane, kRingStyle);
    if (contour && (contour->area_mm2 < kSmallestMm2 || contour->area_mm2 > kLargestMm2)) {
        return reject_error(fmt::format("implausible: the blood in the {} has {:.0f} mm2", what, contour->area_mm2));
    }
    return contour;
}

struct Walk {
    std::vector<Section> sections;  ///< the first is the annulus
    std::string ended_why;          ///< empty: reached the top
};

Walk walk_up(const LumenTracer& tracer, const Plane& plane, const LumenContour& annulus) {
    Walk walk;
    walk.sections.push_back({0, 0, annulus});
    std::vector<Vec3> centres = {annulus.centroid().lps_mm};
    Vec3 direction = plane.normal;
    double along = 0;
    while (along < kTopMm) {
        if (along >= kStraightMm) {
            const Vec3 chord = subtract(centres.back(), centres[centres.size() - 9]);
            direction = normalised(add(scale(direction, 0.8), scale(normalised(chord), 0.2)));
        }
        const Plane here{{add(centres.back(), scale(direction, kStepMm))}, direction};
        auto contour = tracer.trace(here, kSinusStyle);
        if (!contour) {
            walk.ended_why = contour.error().message;
            break;
        }
        // The section lies in `here`; its centroid may lie aside, which does not lengthen the way by more than it is.
        const PatientPoint centre = contour->centroid();
        along += std::min(norm(subtract(centre.lps_mm, centres.back())), 1.5 * kStepMm);
        centres.push_back(centre.lps_mm);
        const double height = dot(subtract(centre.lps_mm, plane.point.lps_mm), plane.normal);
        walk.sections.push_back({along, height, std::move(*contour)});
    }
    return walk;
}

/// Areas along the aorta, smoothed with sigma 1.5 mm; relative, so that single sections do not matter.
std::vector<double> smooth_areas(const std::vector<Section>& sections) {
    std::vector<double> areas;
    for (const Section& at : sections) {
        double sum = 0, weights = 0;
        for (const Section& other : sections) {
            const double d = (other.along_mm - at.along_mm) / 1.5;
            const double w = std::exp(-0.5 * d * d);
            sum += w * other.contour.area_mm2;
            weights += w;
        }
        areas.push_back(sum / weights);
    }
    return areas;
}

struct Levels {
    std::optional<std::size_t> sinus, junction;
    std::string why_not;
};

Levels levels_of(const Walk& walk) {
    constexpr double kFallen = 0.97, kKnee = 0.1;
    constexpr std::size_t kArm = 4;
    Levels levels;
    const auto& sections = walk.sections;
    const auto areas = smooth_areas(sections);
    const std::string ended =
        walk.ended_why.empty() ? ""
                               : fmt::format(" (followed for {:.0f} mm: {})", sections.back().along_mm, walk.ended_why);
    // The junction is the knee: where the diameter stops falling, most abruptly.
    const auto slope = [&](std::size_t from, std::size_t to) {
        const auto diameter = [&](std::size_t i) { return 2 * std::sqrt(areas[i] / M_PI); };
        return (diameter(to) - diameter(from)) / (sections[to].along_mm - sections[from].along_mm);
    };
    double sharpest = kKnee;
    std::optional<std::size_t> widest;  // of the sections below
    for (std::size_t i = 0; i + kArm < sections.size() && sections[i].along_mm <= kHighestJunctionMm; ++i) {
        if (widest && sections[i].along_mm >= kLowestJunctionMm && areas[i] <= kFallen * areas[*widest]) {
            const double knee = slope(i, i + kArm) - slope(i - kArm, i);
            if (knee > sharpest) {
                sharpest = knee;
                levels.sinus = widest;
                levels.junction = i;
            }
        }
        const double along = sections[i].along_mm;
        if (along < kLowestSinusMm || along > kHighestSinusMm) continue;
        if (!widest || areas[i] > areas[*widest]) widest = i;
    }
    if (!widest) levels.why_not = "the aorta above the annulus was not seen" + ended;
    else if (!levels.junction) levels.why_not = "the aorta does not narrow above its sinuses" + ended;
    return levels;
}

}  // namespace

RootSections find_sections(const LumenTracer& tracer, const Plane& plane) {
    const Error none = reject_error("the annulus was not outlined");
    RootSections found{
        ring(tracer, plane, "annular plane"),
        ring(tracer, {{add(plane.point.lps_mm, scale(plane.normal, -kOutflowDepthMm))}, plane.normal}, "outflow tract"),
        none, none, none};
    if (!found.annulus) {
        const Error why = reject_error("no outline of the annulus to start from: " + found.annulus.error().message);
        found.sinus = found.junction = found.ascending = why;
        return found;
    }
    const Walk walk = walk_up(tracer, plane, *found.annulus);
    const Levels levels = levels_of(walk);
    if (levels.sinus) found.sinus = walk.sections[*levels.sinus];
    else found.sinus = reject_error(levels.why_not);
    if (levels.junction) found.junction = walk.sections[*levels.junction];
    else found.junction = reject_error(levels.why_not);
    found.ascending = reject_error(
        fmt::format("the aorta was followed for {:.0f} mm only: {}", walk.sections.back().along_mm, walk.ended_why));
    for (const Section& s : walk.sections) {
        if (s.along_mm < kAscendingMm) continue;
        found.ascending = s;
        break;
    }
    return found;
}

CuspAngles cusp_angles(const PlaneFrame& frame, const std::array<PatientPoint, 3>& hinges) {
    CuspAngles cusps;
    for (std::size_t h = 0; h < 3; ++h) cusps.hinge[h] = frame.angle_of(hinges[h]);
    for (std::size_t h = 0; h < 3; ++h) {
        const double a = cusps.hinge[(h + 1) % 3], b = cusps.hinge[(h + 2) % 3];
        double middle = a + wrapped(b - a) / 2;
        // The bisector on the side away from this cusp.
        if (std::abs(wrapped(middle - cusps.hinge[h])) < std::abs(wrapped(middle + M_PI - cusps.hinge[h])))
            middle += M_PI;
        cusps.opposite_commissure[h] = wrapped(middle);
    }
    return cusps;
}

std::size_t cusp_at(const CuspAngles& cusps, double angle) {
    // A sector reaches from commissure to commissure: the two that are not opposite to its cusp.
    for (std::size_t h = 0; h < 3; ++h) {
        const double from = cusps.opposite_commissure[(h + 1) % 3], to = cusps.opposite_commissure[(h + 2) % 3];
        const auto turn = [](double a, double b) { return std::fmod(b - a + 4 * M_PI, 2 * M_PI); };
        const bool counter_clockwise = turn(from, cusps.hinge[h]) < turn(from, to);
        const double begin = counter_clockwise ? from : to, end = counter_clockwise ? to : from;
        if (turn(begin, angle) < turn(begin, end)) return h;
    }
    return 0;
}

std::array<double, 3> sinus_diameters(const LumenContour& contour, const std::array<PatientPoint, 3>& hinges) {
    constexpr double kNearCommissure = 25 * M_PI / 180, kDegree = M_PI / 180;
    PlaneFrame frame = contour.frame;
    const CuspAngles cusps = cusp_angles(frame, hinges);
    std::array<double, 3> diameters{};
    for (std::size_t h = 0; h < 3; ++h) {
        double commissure = cusps.opposite_commissure[h];
        for (double a = -kNearCommissure; a <= kNearCommissure; a += kDegree) {
            if (contour.radius_at(cusps.opposite_commissure[h] + a) < contour.radius_at(commissure)) {
                commissure = cusps.opposite_commissure[h] + a;
            }
        }
        const PatientPoint from = contour.point_at(commissure);
        for (int i = 0; i < LumenContour::kPoints; ++i) {
            const double angle = 2 * M_PI * i / LumenContour::kPoints;
            if (cusp_at(cusps, angle) == h)
                diameters[h] = std::max(diameters[h], distance_mm(from, contour.point_at(angle)));
        }
    }
    return diameters;
}

}  // namespace cardionode
