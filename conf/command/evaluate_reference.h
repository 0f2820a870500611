// `cardionode evaluate reference`: a bundle on the one real CTA, against the masks that lie beside it.
//
// The definitions are those of tests/flows/silver_standard.py, which works on the node's DICOM objects: aorta Dice over
// the whole scan and inside the box of the predicted ventricles, atria and myocardium; centroid of the found hinge
// points to the annulus mask's centroid; angle between their plane and that of the measured annulus (its two diameters,
// without sign); annulus area. The masks are another program's predictions: a silver standard, no reader's.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "conf/base/result.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct EvaluateReferenceOptions {
    std::filesystem::path bundle, ct, truth;  ///< truth: masks/aorta.nii.gz and ground_truth_lps.json
    std::string test_time_shifts = "shift";   ///< as pipeline.test_time_shifts
    std::string device = "cpu";
    int threads = 0;
};

struct ReferenceScore {
    std::optional<double> aorta_dice, aorta_dice_in_heart_box;  ///< none: both empty; no heart
    int points_found = 0, points = 0;
    int hinges = 0;                             ///< found
    std::optional<double> hinge_centroid_mm;    ///< none: no hinge point
    std::optional<double> plane_angle_deg;      ///< none: not all three
    std::optional<double> area_mm2, true_area;  ///< none: not given; the truth's mm2
    std::string no_area_why;
};

/// @param aorta_truth  on any grid: looked up at each voxel centre of the findings' grid. Config: a file of the truth
/// is missing or not as expected; Bug: grids.
Result<ReferenceScore> score_reference(const Findings& findings, const std::filesystem::path& truth);
/// The lines for people.
std::string reference_text(const ReferenceScore& score);
Result<void> evaluate_reference(const EvaluateReferenceOptions& options);

}  // namespace cardionode
