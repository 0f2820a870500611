#include "pipeline/preprocess/preprocess.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "pipeline/preprocess/resampling.h"

namespace cardionode {

namespace {

constexpr float kAirHu = -1024.0F;
constexpr double kMuchLarger = 1.5;  // ratio of voxel sizes from which smoothing is needed

/// A Gaussian sampled at whole voxels; {1} where no smoothing is needed.
std::vector<double> smoothing(double ratio) {
    if (ratio <= kMuchLarger) return {1};
    const double sigma = 0.425 * std::sqrt(ratio * ratio - 1);
    const int radius = static_cast<int>(std::ceil(3 * sigma));
    std::vector<double> kernel;
    double sum = 0;
    for (int n = -radius; n <= radius; ++n) {
        kernel.push_back(std::exp(-0.5 * n * n / (sigma * sigma)));
        sum += kernel.back();
    }
    for (double& w : kernel) w /= sum;
    return kernel;
}

/// Smoothing and interpolation along one axis as one set of weights for each target index.
struct Weights {
    std::int64_t first = 0;     ///< source index of values[0]
    std::vector<float> values;  ///< empty: outside
};

Weights weights_at(double index, std::int64_t size, const std::vector<double>& kernel) {
    const std::optional<Tap> tap = tap_at(index, size);
    if (!tap) return {};
    const auto radius = static_cast<std::int64_t>(kernel.size() / 2);
    const std::int64_t first = std::max<std::int64_t>(0, tap->low - radius);
    const std::int64_t last = std::min(size - 1, tap->low + (tap->part > 0 ? 1 : 0) + radius);
    std::vector<double> sum(static_cast<std::size_t>(last - first + 1), 0.0);
    for (std::int64_t n = -radius; n <= radius; ++n) {
        const double w = kernel[static_cast<std::size_t>(n + radius)];
        const auto add = [&](std::int64_t at, double by) {
            sum[static_cast<std::size_t>(std::clamp<std::int64_t>(at, 0, size - 1) - first)] += by;
        };
        add(tap->low + n, w * (1 - tap->part));
        if (tap->part > 0) add(tap->low + 1 + n, w * tap->part);
    }
    return {first, std::vector<float>(sum.begin(), sum.end())};
}

/// Edge of a target voxel along a source axis, in source voxels.
double size_ratio(const Grid& source, const Grid& target, std::size_t axis) {
    double sum = 0;
    for (std::size_t t = 0; t < 3; ++t) {
        const double d = dot(source.axes()[axis], target.axes()[t]) / target.spacing()[t];
        sum += d * d;
    }
    return 1 / std::sqrt(sum) / source.spacing()[axis];
}

/// Source slice by source slice: reduced inside the plane, then added to the target slices it contributes to.
void resample_aligned(const Volume& source, const Alignment& a, Volume& out) {
    const Grid& g = source.grid;
    const Grid& t = out.grid;
    std::array<std::vector<Weights>, 3> weights;  // by source axis, for each target index along its target axis
    for (std::size_t s = 0; s < 3; ++s) {
        const std::size_t ta = a.axis[s];
        const std::vector<double> kernel = smoothing(size_ratio(g, t, s));
        const Vec3 zero = g.to_index(t.origin()).ijk;
        const double step = t.spacing()[ta] / g.spacing()[s] * (dot(g.axes()[s], t.axes()[ta]) > 0 ? 1 : -1);
        for (std::int64_t m = 0; m < t.size()[ta]; ++m) {
            weights[s].push_back(weights_at(zero[s] + step * static_cast<double>(m), g.size()[s], kernel));
        }
    }
    const std::array<std::int64_t, 3> stride = {1, t.size()[0], t.size()[0] * t.size()[1]};
    const std::size_t columns = weights[0].size();
    const std::size_t rows = weights[1].size();
    const auto source_columns = static_cast<std::size_t>(g.size()[0]);
    const auto source_rows = static_cast<std::size_t>(g.size()[1]);
    std::vector<float> narrow(columns * source_rows);
    std::vector<float> plane(columns * rows);
    // Outside stays air: what is reached is set to zero first, then summed up.
    for (std::size_t m2 = 0; m2 < weights[2].size(); ++m2) {
        for (std::size_t m1 = 0; m1 < rows; ++m1) {
            for (std::size_t m0 = 0; m0 < columns; ++m0) {
                const bool outside =
                    weights[0][m0].values.empty() || weights[1][m1].values.empty() || weights[2][m2].values.empty();
                out.voxels[static_cast<std::size_t>(static_cast<std::int64_t>(m0) * stride[a.axis[0]] +
                                                    static_cast<std::int64_t>(m1) * stride[a.axis[1]] +
                                                    static_cast<std::int64_t>(m2) * stride[a.axis[2]])] =
                    outside ? kAirHu : 0.0F;
            }
        }
    }
    for (std::int64_t k = 0; k < g.size()[2]; ++k) {
        std::vector<std::pair<std::size_t, float>> into;
        for (std::size_t m2 = 0; m2 < weights[2].size(); ++m2) {
            const Weights& w = weights[2][m2];
            if (k < w.first || k >= w.first + static_cast<std::int64_t>(w.values.size())) continue;
            const float by = w.values[static_cast<std::size_t>(k - w.first)];
            if (by != 0) into.emplace_back(m2, by);
        }
        if (into.empty()) continue;
        const float* slice = source.voxels.data() + static_cast<std::size_t>(k) * source_columns * source_rows;
        for (std::size_t j = 0; j < source_rows; ++j) {
            const float* row = slice + j * source_columns;
            for (std::size_t m0 = 0; m0 < columns; ++m0) {
                const Weights& w = weights[0][m0];
                const float* from = row + w.first;
                float sum = 0;
                for (std::size_t n = 0; n < w.values.size(); ++n) sum += w.values[n] * from[n];
                narrow[j * columns + m0] = sum;
            }
        }
        for (std::size_t m1 = 0; m1 < rows; ++m1) {
            const Weights& w = weights[1][m1];
            float* to = plane.data() + m1 * columns;
            std::fill(to, to + columns, 0.0F);
            for (std::size_t n = 0; n < w.values.size(); ++n) {
                const float* from = narrow.data() + (static_cast<std::size_t>(w.first) + n) * columns;
                for (std::size_t m0 = 0; m0 < columns; ++m0) to[m0] += w.values[n] * from[m0];
            }
        }
        for (const auto& [m2, by] : into) {
            for (std::size_t m1 = 0; m1 < rows; ++m1) {
                if (weights[1][m1].values.empty()) continue;
                for (std::size_t m0 = 0; m0 < columns; ++m0) {
                    if (weights[0][m0].values.empty()) continue;
                    out.voxels[static_cast<std::size_t>(static_cast<std::int64_t>(m0) * stride[a.axis[0]] +
                                                        static_cast<std::int64_t>(m1) * stride[a.axis[1]] +
                                                        static_cast<std::int64_t>(m2) * stride[a.axis[2]])] +=
                        by * plane[m1 * columns + m0];
                }
            }
        }
    }
}

/// The whole volume smoothed along one of its axes, edges held. Panels of neighbouring columns at once, so that memory
/// is read in order whatever the axis.
void smooth_axis(std::vector<float>& voxels, const std::array<std::int64_t, 3>& size, std::size_t axis,
                 const std::vector<double>& kernel) {
    const auto radius = static_cast<std::int64_t>(kernel.size() / 2);
    const std::array<std::int64_t, 3> stride = {1, size[0], size[0] * size[1]};
    const std::int64_t n = size[axis];
    const std::int64_t width = axis == 0 ? 1 : std::min<std::int64_t>(64, size[0]);
    const std::int64_t across = axis == 2 ? size[1] : size[2];
    const std::int64_t across_stride = axis == 2 ? stride[1] : stride[2];
    const std::int64_t along = axis == 0 ? size[1] : size[0];
    const std::int64_t along_stride = axis == 0 ? stride[1] : stride[0];
    std::vector<float> panel(static_cast<std::size_t>(n * width));
    std::vector<float> sum(static_cast<std::size_t>(width));
    for (std::int64_t v = 0; v < across; ++v) {
        for (std::int64_t u = 0; u < along; u += width) {
            const std::int64_t w = std::min(width, along - u);
            float* start = voxels.data() + v * across_stride + u * along_stride;
            for (std::int64_t p = 0; p < n; ++p) {
                std::copy_n(start + p * stride[axis], w, panel.data() + p * width);
            }
            for (std::int64_t p = 0; p < n; ++p) {
                std::fill(sum.begin(), sum.end(), 0.0F);
                for (std::int64_t r = -radius; r <= radius; ++r) {
                    const auto k = static_cast<float>(kernel[static_cast<std::size_t>(r + radius)]);
                    const float* from = panel.data() + std::clamp<std::int64_t>(p + r, 0, n - 1) * width;
                    for (std::int64_t c = 0; c < w; ++c) sum[static_cast<std::size_t>(c)] += k * from[c];
                }
                std::copy_n(sum.data(), w, start + p * stride[axis]);
            }
        }
    }
}

/// The part of the source that a small grid depends on, smoothing included; none: most of it, or nothing at all.
std::optional<Volume> part_around(const Volume& source, const Grid& target) {
    const Grid& g = source.grid;
    Vec3 low{}, high{};
    for (int corner = 0; corner < 8; ++corner) {
        VoxelIndex v;
        for (std::size_t a = 0; a < 3; ++a) v.ijk[a] = ((corner >> a) & 1) != 0 ? target.size()[a] - 1 : 0;
        const Vec3 at = g.to_index(target.to_patient(v)).ijk;
        for (std::size_t a = 0; a < 3; ++a) {
            low[a] = corner == 0 ? at[a] : std::min(low[a], at[a]);
            high[a] = corner == 0 ? at[a] : std::max(high[a], at[a]);
        }
    }
    VoxelIndex first;
    std::array<std::int64_t, 3> size{};
    std::int64_t voxels = 1;
    for (std::size_t a = 0; a < 3; ++a) {
        const double margin = static_cast<double>(smoothing(size_ratio(g, target, a)).size() / 2) + 2;
        const double top = static_cast<double>(g.size()[a] - 1);
        const double from = std::floor(low[a] - margin), to = std::ceil(high[a] + margin);
        if (!(from <= top && to >= 0)) return std::nullopt;
        first.ijk[a] = static_cast<std::int64_t>(std::max(from, 0.0));
        size[a] = static_cast<std::int64_t>(std::min(to, top)) - first.ijk[a] + 1;
        voxels *= size[a];
    }
    if (2 * voxels > g.voxel_count()) return std::nullopt;
    const Result<Grid> grid = Grid::create(g.to_patient(first), g.axes(), g.spacing(), size);
    if (!grid) return std::nullopt;
    Volume part(*grid, 0.0F);
    for (std::int64_t k = 0; k < size[2]; ++k) {
        for (std::int64_t j = 0; j < size[1]; ++j) {
            const std::int64_t from = g.offset({{first.ijk[0], first.ijk[1] + j, first.ijk[2] + k}});
            std::copy_n(source.voxels.data() + from, size[0], part.voxels.data() + grid->offset({{0, j, k}}));
        }
    }
    return part;
}

void resample_rotated(const Volume& source, Volume& out) {
    const Grid& g = source.grid;
    std::vector<float> smoothed;
    for (std::size_t a = 0; a < 3; ++a) {
        const std::vector<double> kernel = smoothing(size_ratio(g, out.grid, a));
        if (kernel.size() == 1) continue;  // no smoothing along this axis
        if (smoothed.empty()) smoothed = source.voxels;
        smooth_axis(smoothed, g.size(), a, kernel);
    }
    const std::vector<float>& from = smoothed.empty() ? source.voxels : smoothed;
    for_each_place(out.grid, g, [&](std::size_t voxel, const std::array<Tap, 3>& taps) {
        out.voxels[voxel] = value_in(from, cell_of(taps, g.size()));
    });
}

}  // namespace

Result<Grid> network_grid(const Grid& source, const std::array<double, 3>& spacing, std::int64_t max_voxels) {
    Vec3 low = source.origin().lps_mm;
    Vec3 high = low;
    for (int corner = 0; corner < 8; ++corner) {
        VoxelIndex v;
        for (std::size_t a = 0; a < 3; ++a) v.ijk[a] = ((corner >> a) & 1) != 0 ? source.size()[a] - 1 : 0;
        const Vec3 p = source.to_patient(v).lps_mm;
        for (std::size_t a = 0; a < 3; ++a) {
            low[a] = std::min(low[a], p[a]);
            high[a] = std::max(high[a], p[a]);
        }
    }
    std::array<std::int64_t, 3> size{};
    double voxels = 1;
    for (std::size_t a = 0; a < 3; ++a) {
        if (!(spacing[a] > 0) || !std::isfinite(spacing[a])) return reject_error("the model's spacing is not positive");
        const double steps = std::ceil((high[a] - low[a]) / spacing[a] - 1e-4);
        voxels *= steps + 1;
        if (!(voxels <= static_cast<double>(max_voxels)))
            return reject_error("the volume is too large for the model's grid");
        size[a] = static_cast<std::int64_t>(std::max(0.0, steps)) + 1;
    }
    return Grid::create({low}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, spacing, size);
}

Result<Grid> window_grid(const PatientPoint& centre, const std::array<std::int64_t, 3>& window,
                         const std::array<double, 3>& spacing) {
    const std::array<std::int64_t, 3> size = {window[2], window[1], window[0]};
    Vec3 origin{};
    for (std::size_t a = 0; a < 3; ++a) {
        origin[a] = centre.lps_mm[a] - spacing[a] * static_cast<double>(size[a] - 1) / 2;
    }
    return Grid::create({origin}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, spacing, size);
}

Result<Volume> to_network_grid(const Volume& ct_hu, const InputManifest& input) {
    Result<Grid> grid = network_grid(ct_hu.grid, input.spacing_mm);
    if (!grid) return std::move(grid).error();
    return to_network_grid(ct_hu, input, *grid);
}

Result<Volume> to_network_grid(const Volume& ct_hu, const InputManifest& input, const Grid& grid) {
    if (input.orientation != "LPS") return reject_error("the model's orientation is not LPS");
    if (!(input.sd > 0)) return reject_error("the model's standard deviation is not positive");
    for (std::size_t a = 0; a < 3; ++a) {
        if (std::abs(grid.axes()[a][a] - 1) > 1e-3)
            return bug_error("the network's grid is not along the patient's axes");
    }
    Volume out(grid, kAirHu);
    if (const auto a = aligned(ct_hu.grid, grid)) resample_aligned(ct_hu, *a, out);
    else if (const auto part = part_around(ct_hu, grid)) resample_rotated(*part, out);
    else resample_rotated(ct_hu, out);
    for (float& v : out.voxels) {
        const double clipped = std::clamp(static_cast<double>(v), input.hu_low, input.hu_high);
        v = static_cast<float>((clipped - input.mean) / input.sd);
    }
    return out;
}

}  // namespace cardionode
