// Where a TAVI planner cuts the root: annulus, outflow tract, sinuses, sinotubular junction, ascending aorta.
//
// Definitions (facts 1.7 and 3, SCCT 2019):
//   annulus          the blood's outline in the plane through the three hinge points
//   outflow tract    parallel to it, 4 mm towards the ventricle
//   sinuses          parallel to it, at the widest section between annulus and junction; a sinus's diameter runs from
//                    the commissure opposite to it to the farthest place of that sinus
//   junction         the narrowing above the sinuses: where the diameter along the aorta stops falling, most abruptly
//   ascending aorta  40 mm above the annulus along the centre line, across it
// From 12 mm on, the sections turn with the centre line.
// Thread safety: pure functions.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/measure/lumen_contour.h"

namespace cardionode {

inline constexpr double kOutflowDepthMm = 4, kAscendingMm = 40;
inline constexpr ContourStyle kRingStyle{6}, kSinusStyle{9};

struct Section {
    double along_mm = 0;   ///< from the annulus along the centre line
    double height_mm = 0;  ///< of its centroid above the annular plane
    LumenContour contour;
};

struct RootSections {
    Result<LumenContour> annulus, outflow;
    Result<Section> sinus, junction, ascending;
};

/// Reject in each of them, with words for people, where it cannot be said.
RootSections find_sections(const LumenTracer& tracer, const Plane& annular_plane);

/// Angles of the three hinge points (order of names::kHinges) round the outline's centroid, and between each two of
/// them the bisector, which stands for the commissure.
struct CuspAngles {
    std::array<double, 3> hinge{};
    std::array<double, 3> opposite_commissure{};  ///< [cusp]: between the two others
};
CuspAngles cusp_angles(const PlaneFrame& frame, const std::array<PatientPoint, 3>& hinges);
/// Index into names::kHinges of the cusp in whose sector an angle lies.
std::size_t cusp_at(const CuspAngles& cusps, double angle);

/// Diameter of each sinus, order of names::kHinges.
std::array<double, 3> sinus_diameters(const LumenContour& contour, const std::array<PatientPoint, 3>& hinges);

}  // namespace cardionode
