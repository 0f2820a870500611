// Calcium of the aortic valve: where the model marks it, measured in Hounsfield units on the native voxels.
//
// A mask of 1 or 2 mm cannot carry a volume. The model's mask is only the region: its components near the hinge points
// are widened by the manifest's dilate_mm, and inside them every native voxel at or above the threshold is calcium.
// Thresholds in use for contrast CT (facts, section 3): fixed 850 HU; lumen + 100 HU; 450 HU where the lumen is below
// 300 HU, else 850 HU. The bundle's manifest decides.
// Thread safety: pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

/// Threshold in HU that the rule gives for a lumen of this median. Config: an unknown rule, or a rule that needs the
/// lumen without one.
Result<double> calcium_threshold(const CalciumRule& rule, const std::optional<double>& lumen_hu);

/// The threshold on the other side of a rule's step, where the lumen lies within 40 HU of it: a noisy median decides
/// there between volumes that differ several times. None: the rule has no step, or it is far.
std::optional<double> other_threshold(const CalciumRule& rule, const std::optional<double>& lumen_hu);

/// The rule for people: "fixed", "lumen + 100 HU", "450 HU where the lumen is below 300 HU; else 850 HU". No comma.
std::string in_words(const CalciumRule& rule);

/// @param ct          native HU
/// @param hinges      the found hinge points; a component counts when its centre is within 20 mm of one
/// @param lumen_hu    median HU of the aortic root's lumen
/// @return labels of the head on the native grid (1 = calcium); may be empty: then the valve shows none
Result<LabelMap> find_calcium(const HeadProbabilities& probabilities, const CalciumRule& rule, const Volume& ct,
                              const std::vector<PatientPoint>& hinges, const std::optional<double>& lumen_hu);

}  // namespace cardionode
