// The measurements of a TAVI planner, from CT, points, labels and the annular plane.
//
// Every number says what it rests on and how far it may be off (one standard deviation); where something is missing
// there is no number but a reason. Codes: DCM of 2025b as literals (facts, DICOM section 3); where no standard code was
// found, scheme 99CARDIONODE. Units: UCUM.
// Research use: a hinge point that is 2.6 mm off tilts the plane by about 8 degrees (facts, section 3).
// Definitions of the sections: root_sections.h; of the outlines: lumen_contour.h. Errors measured: README.md.
// Thread safety: pure function.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/volume/findings.h"

namespace cardionode {

/// The private coding scheme of what has no standard code; declared in each SR that uses it.
inline constexpr std::string_view kPrivateScheme = "99CARDIONODE";

struct CalciumContext {
    std::string not_measured_why;  ///< where there is no valve_calcium group
    double threshold_hu = 0;       ///< where there is one
    std::string rule;              ///< how the threshold came about: "fixed", "lumen + 100 HU"; no comma
};

struct MeasureRules {
    /// Median error of a point that does not say its own: what the published model reaches (facts, section 2).
    double point_error_mm = 2.6;
    int samples = 64;  ///< of moved hinge points; each costs about 3 ms for each of three planes
    std::uint64_t seed = 20260101;
};

struct Measured {
    std::vector<Measurement> measurements;
    std::vector<Outline> outlines;
    std::vector<std::string> notes;  ///< for people: where numbers together meet a published cut-off
};

/// All measurements, always the same ones in the same order, plus one volume per segment of the heart group:
///   annulus_area_mm2, annulus_perimeter_mm, annulus_area_diameter_mm, annulus_perimeter_diameter_mm,
///   annulus_min_diameter_mm, annulus_max_diameter_mm, annulus_eccentricity    outline in the annular plane
///   annulus_tilt_deg                        between the annular plane and the axial plane
///   outflow_area_mm2, outflow_min_diameter_mm, outflow_max_diameter_mm        4 mm below the annulus
///   sinus_right_mm, sinus_left_mm, sinus_noncoronary_mm, sinus_mean_mm, sinus_max_mm
///   junction_height_mm, junction_mean_diameter_mm, junction_min_diameter_mm, junction_max_diameter_mm
///   ascending_aorta_diameter_mm             40 mm above the annulus, from the area
///   left_ostium_height_mm, right_ostium_height_mm      perpendicular to the annular plane
///   septum_depth_mm                         lower septum point below (+) the annular plane
///   septum_length_mm                        between the two septum points
///   hinge_left_right_mm, hinge_left_noncoronary_mm, hinge_right_noncoronary_mm
///   valve_calcium_mm3                       0 where the valve shows none
///   valve_calcium_right_mm3, valve_calcium_left_mm3, valve_calcium_noncoronary_mm3, valve_calcium_outflow_mm3
///                                           its parts; they add up to the whole
///   <segment>_volume_ml
/// Uncertainty: of what depends on the plane, the spread over `samples` moved hinge points, and the error of the edge;
/// of lengths from the points' errors; of volumes half a voxel on their surface, which says nothing of the network's
/// own errors. Points move by their Landmark::expected_error_mm, or by rules.point_error_mm.
Measured measure(const Findings& findings, const Volume& ct, const CalciumContext& calcium,
                 const MeasureRules& rules = {});

}  // namespace cardionode
