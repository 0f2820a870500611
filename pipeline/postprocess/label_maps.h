// From the probabilities of a `labels` head to a label map on the grid of the source series.
//
// Thread safety: pure functions.
#pragma once

#include <optional>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

/// Argmax per voxel of the network's grid; then, of each label, the largest 26-connected component stays, and those of
/// at least a fifth of its size; what is smaller (other vessels, the spine) is noise. Not the largest alone: a cardiac
/// scan without the arch holds the ascending and the descending aorta as two pieces, of which the descending one is
/// often the larger, and nothing of the root can be measured without the other. Bug: as argmax().
Result<LabelMap> largest_pieces(const HeadProbabilities& probabilities);

/// The label map on another grid: the channels' probabilities are interpolated trilinearly at each voxel centre and
/// the largest wins, so that borders are smooth where the target is finer. Voxels that `labels` left out count as
/// background with probability 1. Outside of the network's grid: background.
/// @param labels  from largest_pieces() of the same probabilities, or a subset of it
/// Errors: as labels_on_source().
Result<LabelMap> onto_grid(const HeadProbabilities& probabilities, const LabelMap& labels, const Grid& target);

/// Labels of a window in finer voxels put into a map that covers more: voxels of `labels` further than
/// `margin_voxels` of the window's grid inside its border are replaced, also by background. Pieces that are neither
/// the largest of their label nor reach into that margin, where they may go on outside, are left out.
/// Errors: as argmax() and labels_on_source().
Result<void> put_window(const HeadProbabilities& window, double margin_voxels, LabelMap& labels);

/// Median HU of the voxels with one of `labels`; both arrays on the same grid. None: no such voxel.
std::optional<double> median_hu(const Volume& volume, const LabelMap& map, const std::vector<int>& labels);

/// Voxels of each label, [label], 256 entries.
std::vector<std::int64_t> count_labels(const LabelMap& map);

}  // namespace cardionode
