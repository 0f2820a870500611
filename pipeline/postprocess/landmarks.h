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

/// One Landmark per class of the head, in the manifest's order; a point that is not found says why.
/// @param min_confidence  0..1; a point counts as found from the larger of this and the head's min_peak_probability
/// Bug: the channels do not fit the manifest, or hold values that are not numbers.
Result<std::vector<Landmark>> decode_landmarks(const HeadProbabilities& probabilities, const HeadManifest& head,
                                               double min_confidence);

}  // namespace cardionode
