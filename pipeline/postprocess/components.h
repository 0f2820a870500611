// From probabilities to labels: the largest probability of each voxel, and the connected components of a label.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

/// The channel with the largest probability per voxel; equal ones go to the lower channel, so background wins a tie.
/// Bug: no channels, more than 256, channels on different grids, or a value that is not a number.
Result<LabelMap> argmax(const HeadProbabilities& probabilities);

/// Offsets (Grid::offset) of the largest 26-connected component of each label, ascending; [label], [0] stays empty.
/// Of two equally large ones the first in memory order.
/// @param highest  labels above it are ignored
std::vector<std::vector<std::int64_t>> largest_components(const LabelMap& labels, int highest);

/// Sizes and centres of all 26-connected components of one label.
struct Component {
    std::vector<std::int64_t> offsets;  ///< ascending
    PatientPoint centre;                ///< mean of the voxel centres
};
std::vector<Component> components_of(const LabelMap& labels, int label);

}  // namespace cardionode
