// Valve calcium by cusp: the native voxels of the calcium label, sorted by where they lie.
//
// Below the annular plane: outflow tract. Above it: the cusp in whose sector the voxel lies, seen from the centre of
// the hinge points; a sector reaches from bisector to bisector of neighbouring hinge points' angles, which stand for
// the commissures. A voxel belongs to exactly one part, so that the parts add up to the whole. Thread safety: pure
// function.
#pragma once

#include <array>
#include <cstdint>

#include "pipeline/measure/uncertainty.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct CalciumVoxels {
    std::vector<PatientPoint> centres;
    std::int64_t on_surface = 0;  ///< with a neighbour (6) that is not calcium
    double voxel_mm3 = 0;
};
CalciumVoxels calcium_voxels(const LabelMap& labels);

struct CalciumParts {
    std::array<double, 3> cusp_mm3{};  ///< order of names::kHinges
    double outflow_mm3 = 0;
};
/// @param plane  its normal points to the aorta
CalciumParts calcium_parts(const CalciumVoxels& calcium, const Plane& plane, const std::array<PatientPoint, 3>& hinges);

}  // namespace cardionode
