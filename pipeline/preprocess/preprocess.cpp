#include "pipeline/preprocess/preprocess.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace cardionode {

namespace {

constexpr float kAirHu = -1024.0F;
constexpr double kSnap = 1e-5;       // of a voxel: an index this close to a whole one is that one
constexpr double kEdge = 0.5;        // of a voxel: how far outside the edge's value still holds
constexpr double kMuchLarger = 1.5;  // ratio of voxel sizes from which smoothing is needed

/// Linear interpolation between two neighbours along one axis.
struct Tap {
    std::int64_t low = 0;  ///< and low + 1, where part > 0
    double part = 0;       ///< weight of low + 1
};

/// None: further than half a voxel outside.
std::optional<Tap> tap_at(double index, std::int64_t size) {
    const double whole = std::round(index);
    if (std::abs(index - whole) < kSnap) index = whole;
    if (index < -kEdge - kSnap || index > static_cast<double>(size - 1) + kEdge + kSnap) return std::nullopt;
    index = std::clamp(index, 0.0, static_cast<double>(size - 1));
    const auto low = std::min(static_cast<std::int64_t>(index), std::max<std::int64_t>(0, size - 2));
    return Tap{low, index - static_cast<double>(low)};
}

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

/// How one grid's axes lie in another's when they differ by flips and swaps alone.
struct Alignment {
    std::array<std::size_t, 3> axis{};  ///< of the target, for each axis of the source
};

std::optional<Alignment> aligned(const Grid& source, const Grid& target) {
    Alignment a;
    for (std::size_t s = 0; s < 3; ++s) {
        std::size_t best = 0;
        for (std::size_t t = 1; t < 3; ++t) {
            if (std::abs(dot(source.axes()[s], target.axes()[t])) >
                std::abs(dot(source.axes()[s], target.axes()[best])))
                best = t;
        }
        // What the other axes shift over the whole length must stay under a hundredth of a target voxel.
        for (std::size_t t = 0; t < 3; ++t) {
            if (t == best) continue;
            const double drift = std::abs(dot(source.axes()[s], target.axes()[t])) * source.spacing()[s] *
                                 static_cast<double>(source.size()[s]);
            if (drift > 0.01 * target.spacing()[t]) return std::nullopt;
        }
        a.axis[s] = best;
    }
    if (a.axis[0] == a.axis[1] || a.axis[0] == a.axis[2] || a.axis[1] == a.axis[2]) return std::nullopt;
    return a;
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

/// The whole volume smoothed along one of its axes, edges held.
void smooth_axis(std::vector<float>& voxels, const std::array<std::int64_t, 3>& size, std::size_t axis,
                 const std::vector<double>& kernel) {
    if (kernel.size() == 1) return;
    const std::array<std::int64_t, 3> stride = {1, size[0], size[0] * size[1]};
    const auto radius = static_cast<std::int64_t>(kernel.size() / 2);
    const std::int64_t n = size[axis];
    std::vector<float> line(static_cast<std::size_t>(n));
    const std::size_t b = axis == 0 ? 1 : 0;
    const std::size_t c = axis == 2 ? 1 : 2;
    for (std::int64_t v = 0; v < size[c]; ++v) {
        for (std::int64_t u = 0; u < size[b]; ++u) {
            float* start = voxels.data() + u * stride[b] + v * stride[c];
            for (std::int64_t p = 0; p < n; ++p) line[static_cast<std::size_t>(p)] = start[p * stride[axis]];
            for (std::int64_t p = 0; p < n; ++p) {
                double sum = 0;
                for (std::int64_t r = -radius; r <= radius; ++r) {
                    sum += kernel[static_cast<std::size_t>(r + radius)] *
                           line[static_cast<std::size_t>(std::clamp<std::int64_t>(p + r, 0, n - 1))];
                }
                start[p * stride[axis]] = static_cast<float>(sum);
            }
        }
    }
}

/// The index in `of` of voxel (0, j, k) of `on`, and its change from one column to the next.
struct Walk {
    Vec3 start, step;
};
Walk walk(const Grid& on, const Grid& of, std::int64_t j, std::int64_t k) {
    const Vec3 start = of.to_index(on.to_patient(VoxelIndex{{0, j, k}})).ijk;
    const Vec3 next = of.to_index(on.to_patient(VoxelIndex{{1, j, k}})).ijk;
    return {start, subtract(next, start)};
}

struct Cell {
    std::array<Tap, 3> taps;
};
std::optional<Cell> cell_at(const Vec3& index, const std::array<std::int64_t, 3>& size) {
    Cell cell;
    for (std::size_t a = 0; a < 3; ++a) {
        const std::optional<Tap> tap = tap_at(index[a], size[a]);
        if (!tap) return std::nullopt;
        cell.taps[a] = *tap;
    }
    return cell;
}

/// Trilinear; never reads a neighbour of weight zero.
double value_in(const std::vector<float>& voxels, const std::array<std::int64_t, 3>& size, const Cell& c) {
    double sum = 0;
    for (int corner = 0; corner < 8; ++corner) {
        double w = 1;
        std::array<std::int64_t, 3> at{};
        for (std::size_t a = 0; a < 3; ++a) {
            const bool high = ((corner >> a) & 1) != 0;
            w *= high ? c.taps[a].part : 1 - c.taps[a].part;
            at[a] = c.taps[a].low + (high ? 1 : 0);
        }
        if (w > 0) sum += w * voxels[static_cast<std::size_t>((at[2] * size[1] + at[1]) * size[0] + at[0])];
    }
    return sum;
}

void resample_rotated(const Volume& source, Volume& out) {
    const Grid& g = source.grid;
    std::vector<float> smoothed;
    for (std::size_t a = 0; a < 3; ++a) {
        const std::vector<double> kernel = smoothing(size_ratio(g, out.grid, a));
        if (kernel.size() == 1) continue;
        if (smoothed.empty()) smoothed = source.voxels;
        smooth_axis(smoothed, g.size(), a, kernel);
    }
    const std::vector<float>& from = smoothed.empty() ? source.voxels : smoothed;
    std::size_t v = 0;
    for (std::int64_t k = 0; k < out.grid.size()[2]; ++k) {
        for (std::int64_t j = 0; j < out.grid.size()[1]; ++j) {
            const Walk w = walk(out.grid, g, j, k);
            for (std::int64_t i = 0; i < out.grid.size()[0]; ++i, ++v) {
                const auto cell = cell_at(add(w.start, scale(w.step, static_cast<double>(i))), g.size());
                out.voxels[v] = cell ? static_cast<float>(value_in(from, g.size(), *cell)) : kAirHu;
            }
        }
    }
}

std::uint8_t largest(std::span<const ScoreMap> channels, const Cell& cell, const std::array<std::int64_t, 3>& size) {
    std::uint8_t best = 0;
    double top = value_in(channels[0].voxels, size, cell);
    for (std::size_t c = 1; c < channels.size(); ++c) {
        const double p = value_in(channels[c].voxels, size, cell);
        if (p > top) {
            top = p;
            best = static_cast<std::uint8_t>(c);
        }
    }
    return best;
}

/// For each cell of eight neighbours the channel that is largest at all eight, or `mixed`. Interpolation is linear, so
/// that channel is the largest in the whole cell, and nothing needs to be computed there.
std::vector<std::uint8_t> uniform_cells(std::span<const ScoreMap> channels, std::uint8_t mixed) {
    const auto& size = channels[0].grid.size();
    const std::size_t count = channels[0].voxels.size();
    std::vector<std::uint8_t> at(count, 0);
    std::vector<float> top = channels[0].voxels;
    for (std::size_t c = 1; c < channels.size(); ++c) {
        for (std::size_t v = 0; v < count; ++v) {
            if (channels[c].voxels[v] > top[v]) {
                top[v] = channels[c].voxels[v];
                at[v] = static_cast<std::uint8_t>(c);
            }
        }
    }
    // In place, from low to high: a cell only looks at itself and later voxels.
    for (std::int64_t k = 0; k < size[2]; ++k) {
        for (std::int64_t j = 0; j < size[1]; ++j) {
            for (std::int64_t i = 0; i < size[0]; ++i) {
                const auto offset = [&](int corner) {
                    const std::int64_t x = std::min(size[0] - 1, i + (corner & 1));
                    const std::int64_t y = std::min(size[1] - 1, j + ((corner >> 1) & 1));
                    const std::int64_t z = std::min(size[2] - 1, k + ((corner >> 2) & 1));
                    return static_cast<std::size_t>((z * size[1] + y) * size[0] + x);
                };
                const std::uint8_t label = at[offset(0)];
                for (int corner = 1; corner < 8; ++corner) {
                    if (at[offset(corner)] == label) continue;
                    at[offset(0)] = mixed;
                    break;
                }
            }
        }
    }
    return at;
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

Result<Volume> to_network_grid(const Volume& ct_hu, const InputManifest& input) {
    if (input.orientation != "LPS") return reject_error("the model's orientation is not LPS");
    if (!(input.sd > 0)) return reject_error("the model's standard deviation is not positive");
    Result<Grid> grid = network_grid(ct_hu.grid, input.spacing_mm);
    if (!grid) return std::move(grid).error();
    Volume out(*grid, kAirHu);
    if (const auto a = aligned(ct_hu.grid, *grid)) resample_aligned(ct_hu, *a, out);
    else resample_rotated(ct_hu, out);
    for (float& v : out.voxels) {
        const double clipped = std::clamp(static_cast<double>(v), input.hu_low, input.hu_high);
        v = static_cast<float>((clipped - input.mean) / input.sd);
    }
    return out;
}

Result<LabelMap> labels_on_source(std::span<const ScoreMap> channels, const Grid& source) {
    if (channels.empty() || channels.size() > 255) return reject_error("a head must have 1 to 255 channels");
    for (const ScoreMap& c : channels) {
        if (!c.grid.same_as(channels[0].grid)) return reject_error("the channels of a head lie on different grids");
    }
    constexpr std::uint8_t kMixed = 255;
    const Grid& net = channels[0].grid;
    const auto& size = net.size();
    const std::vector<std::uint8_t> cells = uniform_cells(channels, kMixed);
    LabelMap out(source, std::uint8_t{0});
    std::size_t v = 0;
    for (std::int64_t k = 0; k < source.size()[2]; ++k) {
        for (std::int64_t j = 0; j < source.size()[1]; ++j) {
            const Walk w = walk(source, net, j, k);
            for (std::int64_t i = 0; i < source.size()[0]; ++i, ++v) {
                const auto cell = cell_at(add(w.start, scale(w.step, static_cast<double>(i))), size);
                if (!cell) continue;
                const auto at = static_cast<std::size_t>((cell->taps[2].low * size[1] + cell->taps[1].low) * size[0] +
                                                         cell->taps[0].low);
                out.voxels[v] = cells[at] != kMixed ? cells[at] : largest(channels, *cell, size);
            }
        }
    }
    return out;
}

LabelMap labels_on_source(const LabelMap& labels, const Grid& source) {
    const Grid& net = labels.grid;
    LabelMap out(source, std::uint8_t{0});
    std::size_t v = 0;
    for (std::int64_t k = 0; k < source.size()[2]; ++k) {
        for (std::int64_t j = 0; j < source.size()[1]; ++j) {
            const Walk w = walk(source, net, j, k);
            for (std::int64_t i = 0; i < source.size()[0]; ++i, ++v) {
                const Vec3 index = add(w.start, scale(w.step, static_cast<double>(i)));
                VoxelIndex at;
                for (std::size_t a = 0; a < 3; ++a) at.ijk[a] = std::llround(index[a]);
                if (net.contains(at)) out.voxels[v] = labels.voxels[static_cast<std::size_t>(net.offset(at))];
            }
        }
    }
    return out;
}

}  // namespace cardionode
