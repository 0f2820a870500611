// From planes at known places to one volume on one grid.
//
// Even, upright planes become the grid itself. Others are resampled: between planes linearly by position, and inside a
// plane bilinearly after undoing its own sideways shift, so that the result has upright slices of the median spacing,
// parallel to the source's. Where no source plane reaches, the result is air (-1024 HU).
// Thread safety: pure functions.
#pragma once

#include <functional>
#include <span>

#include "conf/base/result.h"
#include "pipeline/read/stacks.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

/// The grid a stack is read onto. Reject: more than `max_voxels`.
Result<Grid> grid_of(const Stack& stack, std::int64_t max_voxels);

/// Fills `into` (rows * columns) with plane k of the stack in HU.
using ReadPlane = std::function<Result<void>(std::size_t k, std::span<float> into)>;

/// Calls `read` once for each plane, in the order that suits the files. Errors are those of `read`.
Result<Volume> assemble(const Stack& stack, const Grid& grid, const ReadPlane& read);

}  // namespace cardionode
