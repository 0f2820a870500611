// From the probabilities of a `points` head to points in the patient.
//
// A point is trained as a ball in a label map (facts of the FedKD code). Decoding: argmax over channels, the largest
// 26-connected component of each class, its centroid weighted by the class's probability, as a continuous index, then
// LPS mm. Each class is decoded on its own: a missing point never shifts the label of another.
// Thread safety: pure function.
#pragma once

#include <vector>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

/// One Landmark per class of the head, in the manifest's order; a point that is not found says why. A head's
/// min_component_voxels are voxels of the bundle's first network.
/// @param min_confidence  0..1; a point counts as found from the larger of this and the head's min_peak_probability
/// Bug: the channels do not fit the manifest, or hold values that are not numbers.
Result<std::vector<Landmark>> decode_landmarks(const HeadProbabilities& probabilities, const HeadManifest& head,
                                               double min_confidence);

/// Points of one head as two looks saw them: the second look's where it found one, else the first's. Both in the
/// manifest's order. A point that neither found keeps the reason of the look with the higher peak.
std::vector<Landmark> choose_landmarks(std::vector<Landmark> first, std::vector<Landmark> second);

/// Sets expected_error_mm of points that are found, from the manifest's training record: median errors on phantoms
/// that were held out. Keys, each a JSON object {name: {"median_mm": number}}:
///   landmark_errors                 of the whole chain of looks, if it was evaluated as a whole
///   phantom_landmarks               of the first network alone
///   second_look_phantom_landmarks   of the second network alone
/// A point of the first look in a bundle of two looks gets the larger of both networks' figures. No figure: no error.
void add_expected_errors(std::vector<Landmark>& landmarks, const BundleManifest& manifest);

/// Sets spread_mm and the numbers of passes; nothing where there was one pass.
void add_spread(std::vector<Landmark>& landmarks, const PassPoints& passes);

}  // namespace cardionode
