// Between the source's grid and the network's: the CT on the way in, labels and probabilities on the way back.
//
// The network's grid is always aligned with the patient: x to the left, y to the back, z to the head, whatever way
// the source was acquired, with the spacing of the manifest. A source that lies on such a grid already is copied
// voxel for voxel.
// Thread safety: free functions without state. Memory: the result, and a few slices beside it; for a source that is
// rotated against the patient's axes and much finer than the network's grid, one copy of the source besides.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

/// The LPS-aligned grid of `spacing_mm` that covers every voxel centre of `source`. Its first voxel's centre is the
/// corner of the source's bounding box with the lowest x, y and z, so for a source on such a grid it is that very grid.
/// Reject: more than `max_voxels` voxels.
Result<Grid> network_grid(const Grid& source, const std::array<double, 3>& spacing_mm,
                          std::int64_t max_voxels = 512'000'000);

/// (clip(HU) - mean) / sd on the network's grid. HU is interpolated linearly, after a Gaussian of sigma
/// 0.425 * sqrt(ratio^2 - 1) source voxels along each axis on which the network's voxels are more than 1.5 times as
/// large (a Gaussian blur of the width that makes one voxel size of the other; without it, noise and edges alias).
/// The edge's value holds for half a voxel outside the source, beyond it is air (-1024 HU), clipped and scaled like
/// the rest.
/// Reject: an orientation other than "LPS", spacing or sd that is not positive, a grid that is too large.
Result<Volume> to_network_grid(const Volume& ct_hu, const InputManifest& input);

/// The same on any grid whose axes are the patient's, for example a window of the second look, of which parts may lie
/// outside the source. Its spacing may differ from the manifest's. Reject: as above; Bug: other axes.
Result<Volume> to_network_grid(const Volume& ct_hu, const InputManifest& input, const Grid& grid);

/// The LPS-aligned grid of `window` voxels (D, H, W: along z, y, x) whose middle is `centre`.
/// Reject: a spacing or size that is not positive.
Result<Grid> window_grid(const PatientPoint& centre, const std::array<std::int64_t, 3>& window,
                         const std::array<double, 3>& spacing_mm);

/// Labels of the network's grid on the source's: each channel's probability is interpolated linearly, and the largest
/// channel wins (the lower one when equal). Outside the network's grid is background. Works slice by slice: memory is
/// the result alone.
/// @param channels  [0] background, all on one grid; at most 256
/// Reject: no channel, or grids that differ.
Result<LabelMap> labels_on_source(std::span<const ScoreMap> channels, const Grid& source);

/// The same into a map that is there: only voxels at least `margin_voxels` of the channels' grid inside its outermost
/// voxel centres change, also to background.
Result<void> labels_into(std::span<const ScoreMap> channels, double margin_voxels, LabelMap& source);

/// A score on another grid, interpolated linearly; `outside` where the score's grid does not reach.
ScoreMap scores_on(const ScoreMap& scores, const Grid& grid, float outside);

/// The same for a map that holds labels already: the nearest voxel's.
LabelMap labels_on_source(const LabelMap& labels, const Grid& source);

}  // namespace cardionode
