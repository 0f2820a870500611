// Voxels with their grid: a CT in Hounsfield units, and a map of labels.
//
// Layout of `voxels`: columns fastest, then rows, then slices (Grid::offset); as a tensor [slices, rows, columns].
// Thread safety: values; share by const reference.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "pipeline/volume/grid.h"

namespace cardionode {

template <class Voxel>
struct GridArray {
    Grid grid;
    std::vector<Voxel> voxels;

    /// Throws std::invalid_argument unless there is exactly one value a voxel.
    GridArray(Grid g, std::vector<Voxel> v) : grid(std::move(g)), voxels(std::move(v)) {
        if (static_cast<std::int64_t>(voxels.size()) != grid.voxel_count()) {
            throw std::invalid_argument("the number of voxels does not fit the grid");
        }
    }
    GridArray(Grid g, Voxel fill) : grid(std::move(g)), voxels(static_cast<std::size_t>(grid.voxel_count()), fill) {}

    Voxel& at(VoxelIndex index) { return voxels.at(static_cast<std::size_t>(grid.offset(index))); }
    const Voxel& at(VoxelIndex index) const { return voxels.at(static_cast<std::size_t>(grid.offset(index))); }
};

/// CT numbers in Hounsfield units.
using Volume = GridArray<float>;
/// 0 is background, n the manifest's label n.
using LabelMap = GridArray<std::uint8_t>;
/// A probability or another score per voxel.
using ScoreMap = GridArray<float>;

}  // namespace cardionode
