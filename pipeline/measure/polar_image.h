// Samples of a plane on rays round a centre, and the labelled region in them. Internal to the lumen contour.
//
// Thread safety: values.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/measure/lumen_contour.h"

namespace cardionode::polar {

inline constexpr int kRays = 120, kSteps = 120;
inline constexpr double kStepMm = 0.3, kReachMm = kStepMm * (kSteps - 1);

double angle_of_ray(int ray);

/// [ray][step]; step 0 is the centre on every ray.
template <class T>
struct Image {
    std::vector<T> values = std::vector<T>(static_cast<std::size_t>(kRays) * kSteps, T{});
    T& at(int ray, int step) { return values[static_cast<std::size_t>(wrap(ray)) * kSteps + step]; }
    const T& at(int ray, int step) const { return values[static_cast<std::size_t>(wrap(ray)) * kSteps + step]; }
    static int wrap(int ray) { return (ray % kRays + kRays) % kRays; }
};

/// HU, trilinear; where the volume ends its border voxels go on.
Image<float> sample_hu(const Volume& ct, const PlaneFrame& frame);
/// Share of lumen 0..1, trilinear; 0 outside.
Image<float> sample_labels(const LabelMap& labels, const std::array<bool, 256>& lumen, const PlaneFrame& frame);
/// Gaussian along the circle of each radius, sigma in mm of arc.
void smooth_along(Image<float>& image, double sigma_mm);

struct Region {
    std::vector<std::optional<double>> border_mm;  ///< [kRays]; none: the region goes on to the end of the ray
    std::array<double, 2> centroid_mm{};           ///< in the frame
    bool holds_centre = false;
};
/// The piece of the labels nearest to the centre, without holes. Reject: nothing within 10 mm.
Result<Region> region_of(const Image<float>& shares);

}  // namespace cardionode::polar
