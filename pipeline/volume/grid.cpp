#include "pipeline/volume/grid.h"

#include <cmath>
#include <stdexcept>

namespace cardionode {

Vec3 add(const Vec3& a, const Vec3& b) { return {a[0] + b[0], a[1] + b[1], a[2] + b[2]}; }
Vec3 subtract(const Vec3& a, const Vec3& b) { return {a[0] - b[0], a[1] - b[1], a[2] - b[2]}; }
Vec3 scale(const Vec3& a, double factor) { return {a[0] * factor, a[1] * factor, a[2] * factor}; }
double dot(const Vec3& a, const Vec3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
Vec3 cross(const Vec3& a, const Vec3& b) {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}
double norm(const Vec3& a) { return std::sqrt(dot(a, a)); }
Vec3 normalised(const Vec3& a) {
    const double length = norm(a);
    if (!(length > 0)) throw std::invalid_argument("the zero vector has no direction");
    return scale(a, 1 / length);
}
double distance_mm(const PatientPoint& a, const PatientPoint& b) { return norm(subtract(a.lps_mm, b.lps_mm)); }

Result<Grid> Grid::create(PatientPoint origin, std::array<Vec3, 3> axes, Vec3 spacing,
                          std::array<std::int64_t, 3> size) {
    constexpr double kTolerance = 1e-3;
    for (int a = 0; a < 3; ++a) {
        if (!std::isfinite(origin.lps_mm[a])) return reject_error("the origin of the image is not a number");
        if (!std::isfinite(spacing[a]) || spacing[a] <= 0) return reject_error("a voxel spacing is not positive");
        if (size[a] <= 0) return reject_error("the image has no voxels along one axis");
        if (!(std::abs(norm(axes[a]) - 1) < kTolerance)) return reject_error("an image axis is not a unit vector");
        if (!(std::abs(dot(axes[a], axes[(a + 1) % 3])) < kTolerance)) {
            return reject_error("the image axes are not perpendicular");
        }
    }
    Grid grid;
    grid.origin_ = origin;
    grid.axes_ = axes;
    grid.spacing_ = spacing;
    grid.size_ = size;
    return grid;
}

PatientPoint Grid::to_patient(ContinuousIndex index) const {
    Vec3 p = origin_.lps_mm;
    for (int a = 0; a < 3; ++a) p = add(p, scale(axes_[a], spacing_[a] * index.ijk[a]));
    return {p};
}

PatientPoint Grid::to_patient(VoxelIndex index) const {
    return to_patient(ContinuousIndex{
        {static_cast<double>(index.ijk[0]), static_cast<double>(index.ijk[1]), static_cast<double>(index.ijk[2])}});
}

ContinuousIndex Grid::to_index(PatientPoint point) const {
    const Vec3 d = subtract(point.lps_mm, origin_.lps_mm);
    return {{dot(d, axes_[0]) / spacing_[0], dot(d, axes_[1]) / spacing_[1], dot(d, axes_[2]) / spacing_[2]}};
}

std::optional<VoxelIndex> Grid::nearest_voxel(PatientPoint point) const {
    const ContinuousIndex c = to_index(point);
    VoxelIndex v;
    for (int a = 0; a < 3; ++a) {
        if (!std::isfinite(c.ijk[a]) || std::abs(c.ijk[a]) > 1e9) return std::nullopt;
        v.ijk[a] = std::llround(c.ijk[a]);
    }
    if (!contains(v)) return std::nullopt;
    return v;
}

bool Grid::contains(VoxelIndex index) const {
    for (int a = 0; a < 3; ++a) {
        if (index.ijk[a] < 0 || index.ijk[a] >= size_[a]) return false;
    }
    return true;
}

bool Grid::same_as(const Grid& other, double tolerance_mm) const {
    if (size_ != other.size_) return false;
    for (int corner = 0; corner < 8; ++corner) {
        VoxelIndex v;
        for (int a = 0; a < 3; ++a) v.ijk[a] = ((corner >> a) & 1) != 0 ? size_[a] - 1 : 0;
        if (distance_mm(to_patient(v), other.to_patient(v)) > tolerance_mm) return false;
    }
    return true;
}

}  // namespace cardionode
