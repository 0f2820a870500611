// The measurements of a TAVI planner, from points, labels and the annular plane.
//
// Every number says what it rests on; where something is missing there is no number but a reason. Codes: DCM of 2025b
// as literals (facts, DICOM section 3); where no standard code was found, scheme 99CARDIONODE. Units: UCUM.
// Research use: a hinge point that is 2.6 mm off tilts the plane by about 8 degrees (facts, section 3).
// Thread safety: pure function.
#pragma once

#include <string>
#include <vector>

#include "pipeline/volume/findings.h"

namespace cardionode {

/// The private coding scheme of what has no standard code; declared in each SR that uses it.
inline constexpr std::string_view kPrivateScheme = "99CARDIONODE";

struct CalciumContext {
    std::string not_measured_why;  ///< where there is no valve_calcium group
    double threshold_hu = 0;       ///< where there is one
};

/// All measurements, always the same ones in the same order, plus one volume per segment of the heart group:
///   annulus_area_mm2, annulus_perimeter_mm, annulus_area_diameter_mm, annulus_perimeter_diameter_mm,
///   annulus_min_diameter_mm, annulus_max_diameter_mm, annulus_eccentricity    contour in the annular plane
///   annulus_tilt_deg                        between the annular plane and the axial plane
///   left_ostium_height_mm, right_ostium_height_mm      perpendicular to the annular plane
///   septum_depth_mm                         lower septum point below (+) the annular plane
///   septum_length_mm                        between the two septum points
///   hinge_left_right_mm, hinge_left_noncoronary_mm, hinge_right_noncoronary_mm
///   valve_calcium_mm3                       0 where the valve shows none
///   <segment>_volume_ml
std::vector<Measurement> measure(const Findings& findings, const CalciumContext& calcium);

}  // namespace cardionode
