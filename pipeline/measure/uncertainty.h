// How far measurements move when the points they rest on are a little off.
//
// A point's expected error is the median distance to the truth; for errors that are normal and equal along all axes,
// the standard deviation along one axis is that distance divided by 1.538 (median of a Maxwell distribution).
// Thread safety: pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "pipeline/volume/findings.h"

namespace cardionode {

/// Standard deviation along one axis.
double axis_sd(double median_error_mm);

struct Hinges {
    std::array<PatientPoint, 3> at;  ///< order of names::kHinges
    std::array<double, 3> axis_sd_mm{};
    /// Point: their centroid; normal: to the side of `sign`.
    Plane plane(const Vec3& sign) const;
    /// Standard deviation of a point's height above the plane, from the plane alone: the plane's height at a place is
    /// the mean of the hinge points' heights, weighted with the place's barycentric coordinates.
    double height_sd(const PatientPoint& point) const;
};

/// The hinge points moved at random, `count` times; the same for the same seed on every machine.
std::vector<Hinges> moved(const Hinges& hinges, int count, std::uint64_t seed);

/// Standard deviation of the values; none while fewer than half of the `asked` samples gave one.
std::optional<double> spread(const std::vector<double>& values, std::size_t asked);

/// Square root of the sum of squares.
double combined(std::initializer_list<double> independent);

}  // namespace cardionode
