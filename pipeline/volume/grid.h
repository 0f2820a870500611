// Where voxels are in the patient: the one place that converts between voxel index and millimetres.
//
// Axes and units: DICOM patient coordinates (LPS: +x left, +y back, +z head), millimetres. A voxel index names the
// voxel's CENTRE: column i along a row, row j down a column, slice k along the normal; zero-based.
// The three axes are orthonormal and right- or left-handed as the series is. Source: PS3.3 C.7.6.2.1.1.
// Thread safety: values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "conf/base/result.h"

namespace cardionode {

using Vec3 = std::array<double, 3>;

struct Mm {
    double value = 0;  ///< a length in millimetres
};

/// A point in the patient, LPS, millimetres.
struct PatientPoint {
    Vec3 lps_mm{};
};

/// Column, row, slice; zero-based; the voxel's centre.
struct VoxelIndex {
    std::array<std::int64_t, 3> ijk{};
    friend bool operator==(const VoxelIndex&, const VoxelIndex&) = default;
};

/// Column, row, slice with fractions; (0, 0, 0) is the centre of the first voxel.
struct ContinuousIndex {
    Vec3 ijk{};
};

class Grid {
public:
    /// @param origin    patient position of the centre of voxel (0, 0, 0)
    /// @param axes      unit vectors in LPS along increasing column, row and slice
    /// @param spacing   millimetres between neighbouring centres along column, row, slice
    /// @param size      number of columns, rows, slices
    /// Reject: a spacing or size that is not positive and finite, axes that are not orthonormal within 1e-3.
    static Result<Grid> create(PatientPoint origin, std::array<Vec3, 3> axes, Vec3 spacing,
                               std::array<std::int64_t, 3> size);

    const PatientPoint& origin() const { return origin_; }
    const std::array<Vec3, 3>& axes() const { return axes_; }
    const Vec3& spacing() const { return spacing_; }
    const std::array<std::int64_t, 3>& size() const { return size_; }
    std::int64_t voxel_count() const { return size_[0] * size_[1] * size_[2]; }
    double voxel_volume_mm3() const { return spacing_[0] * spacing_[1] * spacing_[2]; }

    PatientPoint to_patient(ContinuousIndex index) const;
    PatientPoint to_patient(VoxelIndex index) const;
    ContinuousIndex to_index(PatientPoint point) const;
    /// None: the point is further than half a voxel outside.
    std::optional<VoxelIndex> nearest_voxel(PatientPoint point) const;
    bool contains(VoxelIndex index) const;
    /// Position in an array with columns fastest: (k * rows + j) * columns + i.
    std::int64_t offset(VoxelIndex index) const {
        return (index.ijk[2] * size_[1] + index.ijk[1]) * size_[0] + index.ijk[0];
    }
    /// Same size, and every corner within `tolerance_mm`.
    bool same_as(const Grid& other, double tolerance_mm = 1e-3) const;

private:
    Grid() = default;
    PatientPoint origin_;
    std::array<Vec3, 3> axes_{};
    Vec3 spacing_{};
    std::array<std::int64_t, 3> size_{};
};

// Small vector algebra for points and directions.
Vec3 add(const Vec3& a, const Vec3& b);
Vec3 subtract(const Vec3& a, const Vec3& b);
Vec3 scale(const Vec3& a, double factor);
double dot(const Vec3& a, const Vec3& b);
Vec3 cross(const Vec3& a, const Vec3& b);
double norm(const Vec3& a);
/// Throws std::invalid_argument for the zero vector.
Vec3 normalised(const Vec3& a);
double distance_mm(const PatientPoint& a, const PatientPoint& b);

}  // namespace cardionode
