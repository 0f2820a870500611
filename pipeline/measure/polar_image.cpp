#include "pipeline/measure/polar_image.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace cardionode::polar {
namespace {

constexpr double kNearMm = 10, kCentroidMm = 25;

/// Calls visit(ray, step, continuous index) for every sample.
template <class Visit>
void each_sample(const Grid& grid, const PlaneFrame& frame, Visit&& visit) {
    const Vec3 origin = grid.to_index(frame.origin).ijk;
    const auto step_along = [&](const Vec3& direction) {
        return subtract(grid.to_index({add(frame.origin.lps_mm, direction)}).ijk, origin);
    };
    const Vec3 u = step_along(frame.u), v = step_along(frame.v);
    for (int ray = 0; ray < kRays; ++ray) {
        const double c = std::cos(angle_of_ray(ray)) * kStepMm, s = std::sin(angle_of_ray(ray)) * kStepMm;
        const Vec3 along = add(scale(u, c), scale(v, s));
        for (int step = 0; step < kSteps; ++step) visit(ray, step, add(origin, scale(along, step)));
    }
}

/// Flood over 4-neighbours; rays close to a circle.
void flood(std::vector<std::array<int, 2>> stack, Image<std::uint8_t>& image, std::uint8_t from, std::uint8_t to) {
    const auto push = [&](int ray, int step) {
        if (step < 0 || step >= kSteps || image.at(ray, step) != from) return;
        image.at(ray, step) = to;
        stack.push_back({ray, step});
    };
    const auto seeds = std::move(stack);
    stack.clear();
    for (const auto& [ray, step] : seeds) push(ray, step);
    while (!stack.empty()) {
        const auto [ray, step] = stack.back();
        stack.pop_back();
        push(ray + 1, step);
        push(ray - 1, step);
        push(ray, step + 1);
        push(ray, step - 1);
    }
}

}  // namespace

double angle_of_ray(int ray) { return 2 * M_PI * ray / kRays; }

Image<float> sample_hu(const Volume& ct, const PlaneFrame& frame) {
    Image<float> image;
    const auto& size = ct.grid.size();
    each_sample(ct.grid, frame, [&](int ray, int step, const Vec3& index) {
        std::array<std::int64_t, 3> low{}, high{};
        std::array<double, 3> t{};
        for (int a = 0; a < 3; ++a) {
            const double x = std::clamp(index[a], 0.0, static_cast<double>(size[a] - 1));
            low[a] = static_cast<std::int64_t>(x);
            high[a] = std::min(low[a] + 1, size[a] - 1);
            t[a] = x - static_cast<double>(low[a]);
        }
        const auto row = [&](std::int64_t j, std::int64_t k) {
            const float* at = ct.voxels.data() + (k * size[1] + j) * size[0];
            return at[low[0]] * (1 - t[0]) + at[high[0]] * t[0];
        };
        const double front = row(low[1], low[2]) * (1 - t[1]) + row(high[1], low[2]) * t[1];
        const double back = row(low[1], high[2]) * (1 - t[1]) + row(high[1], high[2]) * t[1];
        image.at(ray, step) = static_cast<float>(front * (1 - t[2]) + back * t[2]);
    });
    return image;
}

Image<float> sample_labels(const LabelMap& labels, const std::array<bool, 256>& lumen, const PlaneFrame& frame) {
    Image<float> image;
    const auto& size = labels.grid.size();
    each_sample(labels.grid, frame, [&](int ray, int step, const Vec3& index) {
        std::array<std::int64_t, 3> low{};
        std::array<double, 3> t{};
        for (int a = 0; a < 3; ++a) {
            low[a] = static_cast<std::int64_t>(std::floor(index[a]));
            t[a] = index[a] - static_cast<double>(low[a]);
            if (low[a] < -1 || low[a] >= size[a]) return;
        }
        double share = 0;
        for (int c = 0; c < 8; ++c) {
            const VoxelIndex v{{low[0] + (c & 1), low[1] + ((c >> 1) & 1), low[2] + ((c >> 2) & 1)}};
            if (!labels.grid.contains(v) || !lumen[labels.voxels[labels.grid.offset(v)]]) continue;
            double weight = 1;
            for (int a = 0; a < 3; ++a) weight *= ((c >> a) & 1) != 0 ? t[a] : 1 - t[a];
            share += weight;
        }
        image.at(ray, step) = static_cast<float>(share);
    });
    return image;
}

void smooth_along(Image<float>& image, double sigma_mm) {
    const Image<float> before = image;
    for (int step = 1; step < kSteps; ++step) {
        const double arc = step * kStepMm * 2 * M_PI / kRays;
        const double sigma = std::min(sigma_mm / arc, 4.0);
        const int reach = static_cast<int>(2.5 * sigma);
        if (reach < 1) continue;
        std::vector<double> kernel;
        double sum = 0;
        for (int r = -reach; r <= reach; ++r) sum += kernel.emplace_back(std::exp(-0.5 * r * r / (sigma * sigma)));
        for (int ray = 0; ray < kRays; ++ray) {
            double value = 0;
            for (int r = -reach; r <= reach; ++r) value += kernel[r + reach] * before.at(ray + r, step);
            image.at(ray, step) = static_cast<float>(value / sum);
        }
    }
}

Result<Region> region_of(const Image<float>& shares) {
    enum : std::uint8_t { kOutside, kLumen, kTaken, kReached };
    Image<std::uint8_t> cells;
    std::optional<std::array<int, 2>> nearest;
    for (int ray = 0; ray < kRays; ++ray) {
        for (int step = 0; step < kSteps; ++step) {
            if (shares.at(ray, step) < 0.5F) continue;
            cells.at(ray, step) = kLumen;
            if (step * kStepMm <= kNearMm && (!nearest || step < (*nearest)[1])) nearest = {ray, step};
        }
    }
    if (!nearest) {
        return reject_error(
            fmt::format("no blood of aorta or left ventricle within {:.0f} mm of where it should be", kNearMm));
    }
    flood({*nearest}, cells, kLumen, kTaken);
    for (auto& cell : cells.values) {
        if (cell == kLumen) cell = kOutside;  // another piece
    }
    std::vector<std::array<int, 2>> rim;
    for (int ray = 0; ray < kRays; ++ray) rim.push_back({ray, kSteps - 1});
    flood(rim, cells, kOutside, kReached);

    Region region;
    region.border_mm.resize(kRays);
    region.holds_centre = cells.at(0, 0) != kReached;
    double area = 0;
    for (int ray = 0; ray < kRays; ++ray) {
        const double c = std::cos(angle_of_ray(ray)), s = std::sin(angle_of_ray(ray));
        bool inside = true;
        for (int step = 0; step < kSteps; ++step) {
            const double r = step * kStepMm;
            if (cells.at(ray, step) != kReached) {  // taken, or a hole in it
                if (r > kCentroidMm) continue;
                area += r;
                region.centroid_mm[0] += r * r * c;
                region.centroid_mm[1] += r * r * s;
            } else if (inside) {
                inside = false;
                if (step == 0) continue;
                const double before = shares.at(ray, step - 1), here = shares.at(ray, step);
                const double t = before > here ? std::clamp((before - 0.5) / (before - here), 0.0, 1.0) : 0.5;
                region.border_mm[ray] = r + (t - 1) * kStepMm;
            }
        }
    }
    for (double& x : region.centroid_mm) x /= std::max(area, 1e-9);
    return region;
}

}  // namespace cardionode::polar
