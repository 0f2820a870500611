// Whether a stack may be read, and as what: spacing, holes, tilt, thickness, coverage, units, identity. Only for the
// .cpp files of this folder.
#pragma once

#include <cstddef>
#include <vector>

#include "pipeline/read/stacks.h"

namespace cardionode {

/// Fills everything of a stack but its label and planes, which must be there: sorted by position, at least one.
void judge(Stack& stack, const SeriesSettings& settings);

/// Neighbours that lie on each other, of planes sorted by position.
std::size_t positions_held_twice(const std::vector<Plane2d>& planes);

inline constexpr double kSameDirection = 1e-3;   ///< of a unit vector's components
inline constexpr double kSamePositionMm = 0.01;  ///< two planes closer than this lie on each other

}  // namespace cardionode
