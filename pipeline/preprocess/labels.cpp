#include <algorithm>

#include "pipeline/preprocess/preprocess.h"
#include "pipeline/preprocess/resampling.h"

namespace cardionode {

namespace {

/// The channel with the largest interpolated value; the lower one when equal.
std::uint8_t largest(std::span<const ScoreMap> channels, const Cell& cell) {
    std::uint8_t best = 0;
    float top = value_in(channels[0].voxels, cell);
    for (std::size_t c = 1; c < channels.size(); ++c) {
        const float p = value_in(channels[c].voxels, cell);
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

Result<void> check_channels(std::span<const ScoreMap> channels) {
    if (channels.empty() || channels.size() > 255) return reject_error("a head must have 1 to 255 channels");
    for (const ScoreMap& c : channels) {
        if (!c.grid.same_as(channels[0].grid)) return reject_error("the channels of a head lie on different grids");
    }
    return {};
}

/// Calls `take(voxel, taps, label)` for each voxel of `source` inside the channels' grid.
template <class Take>
void each_label(std::span<const ScoreMap> channels, const Grid& source, const Take& take) {
    constexpr std::uint8_t kMixed = 255;
    const Grid& net = channels[0].grid;
    const auto& size = net.size();
    const std::vector<std::uint8_t> cells = uniform_cells(channels, kMixed);
    for_each_place(source, net, [&](std::size_t voxel, const std::array<Tap, 3>& taps) {
        const auto at = static_cast<std::size_t>((taps[2].low * size[1] + taps[1].low) * size[0] + taps[0].low);
        take(voxel, taps, cells[at] != kMixed ? cells[at] : largest(channels, cell_of(taps, size)));
    });
}

}  // namespace

Result<LabelMap> labels_on_source(std::span<const ScoreMap> channels, const Grid& source) {
    if (auto ok = check_channels(channels); !ok) return std::move(ok).error();
    LabelMap out(source, std::uint8_t{0});
    each_label(channels, source,
               [&](std::size_t voxel, const std::array<Tap, 3>&, std::uint8_t label) { out.voxels[voxel] = label; });
    return out;
}

Result<void> labels_into(std::span<const ScoreMap> channels, double margin, LabelMap& source) {
    if (auto ok = check_channels(channels); !ok) return ok;
    const auto& size = channels[0].grid.size();
    each_label(channels, source.grid, [&](std::size_t voxel, const std::array<Tap, 3>& taps, std::uint8_t label) {
        for (std::size_t a = 0; a < 3; ++a) {
            const double index = static_cast<double>(taps[a].low) + taps[a].part;
            if (index < margin || index > static_cast<double>(size[a] - 1) - margin) return;
        }
        source.voxels[voxel] = label;
    });
    return {};
}

ScoreMap scores_on(const ScoreMap& scores, const Grid& grid, float outside) {
    ScoreMap out(grid, outside);
    for_each_place(grid, scores.grid, [&](std::size_t voxel, const std::array<Tap, 3>& taps) {
        out.voxels[voxel] = value_in(scores.voxels, cell_of(taps, scores.grid.size()));
    });
    return out;
}

LabelMap labels_on_source(const LabelMap& labels, const Grid& source) {
    const Grid& net = labels.grid;
    LabelMap out(source, std::uint8_t{0});
    for_each_place(source, net, [&](std::size_t voxel, const std::array<Tap, 3>& taps) {
        VoxelIndex at;
        for (std::size_t a = 0; a < 3; ++a) at.ijk[a] = taps[a].low + (taps[a].part > 0.5 ? 1 : 0);
        out.voxels[voxel] = labels.voxels[static_cast<std::size_t>(net.offset(at))];
    });
    return out;
}

}  // namespace cardionode
