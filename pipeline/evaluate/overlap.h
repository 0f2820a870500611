// How well two masks on one grid agree: voxels, volumes, and the distance between their surfaces.
//
// Definitions, so that numbers can be compared:
//   Dice                2 |A and B| / (|A| + |B|). Both empty: none ("agreed that there is nothing", counted apart and
//                       never as a success of 1). One empty: 0.
//   surface             voxels of a mask with a face neighbour outside it. A face on the grid's edge is a cut, not a
//                       surface, and does not count.
//   surface distance    from a surface voxel's centre to the nearest surface voxel's centre of the other mask, mm, by
//                       ITK's Maurer distance map with the grid's spacing. One surface empty: infinite; both: none.
//   average symmetric   mean over the surface voxels of both masks together (the two directions are not averaged apart)
//   95 % Hausdorff      the larger of the two directions' 95th percentiles
// Thread safety: pure functions (ITK's threads are limited to the caller's own).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

struct VoxelCounts {
    std::int64_t both = 0, found = 0, truth = 0;
    VoxelCounts& operator+=(const VoxelCounts& other);
    std::optional<double> dice() const;
};

struct SurfaceDistances {
    double average_mm = 0;
    double hausdorff95_mm = 0;
};

/// A voxel belongs to a mask when its label is the given one. Bug: the grids differ.
Result<VoxelCounts> count_voxels(const LabelMap& found, int found_label, const LabelMap& truth, int truth_label);

/// None: neither mask has a surface. Bug: the grids differ; Retry: memory full.
Result<std::optional<SurfaceDistances>> surface_distances(const LabelMap& found, int found_label, const LabelMap& truth,
                                                          int truth_label);

}  // namespace cardionode
