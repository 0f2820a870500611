// Walking over one grid while looking into another: shared by the way to the network's grid and the way back. Only for
// the .cpp files of this folder.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "pipeline/volume/grid.h"

namespace cardionode {

inline constexpr double kSnap = 1e-5;  ///< of a voxel: an index this close to a whole one is that one
inline constexpr double kEdge = 0.5;   ///< of a voxel: how far outside the edge's value still holds

/// Linear interpolation between two neighbours along one axis.
struct Tap {
    std::int64_t low = 0;  ///< and low + 1, where part > 0
    double part = 0;       ///< weight of low + 1
};

/// None: further than half a voxel outside.
std::optional<Tap> tap_at(double index, std::int64_t size);

/// How one grid's axes lie in another's when they differ by flips and swaps alone.
struct Alignment {
    std::array<std::size_t, 3> axis{};  ///< of the target, for each axis of the source
};

/// None: the axes are rotated against each other by more than a hundredth of a target voxel over the whole source.
std::optional<Alignment> aligned(const Grid& source, const Grid& target);

/// The index in `of` of voxel (0, j, k) of `on`, and its change from one column to the next.
struct Walk {
    Vec3 start, step;
};
Walk walk(const Grid& on, const Grid& of, std::int64_t j, std::int64_t k);

/// The eight neighbours of a place, as offsets into an array, and their weights. A neighbour outside the array has the
/// offset of its mirror inside and the weight zero.
struct Cell {
    std::array<std::size_t, 8> at;
    std::array<float, 8> weight;
};

Cell cell_of(const std::array<Tap, 3>& taps, const std::array<std::int64_t, 3>& size);

inline float value_in(const std::vector<float>& voxels, const Cell& c) {
    float sum = 0;
    for (std::size_t corner = 0; corner < 8; ++corner) sum += c.weight[corner] * voxels[c.at[corner]];
    return sum;
}

/// tap_at for loops over every voxel of a CT: without snapping, which changes no value by more than rounding.
inline bool quick_taps(const Vec3& index, const std::array<std::int64_t, 3>& size, std::array<Tap, 3>& taps) {
    for (std::size_t a = 0; a < 3; ++a) {
        const auto top = static_cast<double>(size[a] - 1);
        if (!(index[a] >= -kEdge - kSnap && index[a] <= top + kEdge + kSnap)) return false;
        const double inside = index[a] < 0 ? 0 : (index[a] > top ? top : index[a]);
        auto low = static_cast<std::int64_t>(inside);
        if (low > 0 && low == size[a] - 1) --low;
        taps[a] = {low, inside - static_cast<double>(low)};
    }
    return true;
}

/// Calls `take(voxel, taps)` for each voxel of `on` that lies in `of` (or half a voxel around it), in their order.
template <class Take>
void for_each_place(const Grid& on, const Grid& of, const Take& take) {
    std::array<Tap, 3> taps;
    std::size_t voxel = 0;
    if (const auto a = aligned(on, of)) {
        // One table an axis instead of a computation a voxel.
        std::array<std::vector<std::optional<Tap>>, 3> table;
        const Vec3 zero = of.to_index(on.origin()).ijk;
        for (std::size_t s = 0; s < 3; ++s) {
            const std::size_t t = a->axis[s];
            const double step = on.spacing()[s] / of.spacing()[t] * (dot(on.axes()[s], of.axes()[t]) > 0 ? 1 : -1);
            for (std::int64_t n = 0; n < on.size()[s]; ++n) {
                table[s].push_back(tap_at(zero[t] + step * static_cast<double>(n), of.size()[t]));
            }
        }
        for (const auto& z : table[2]) {
            for (const auto& y : table[1]) {
                if (!z || !y) {
                    voxel += table[0].size();
                    continue;
                }
                taps[a->axis[2]] = *z;
                taps[a->axis[1]] = *y;
                for (const auto& x : table[0]) {
                    if (x) {
                        taps[a->axis[0]] = *x;
                        take(voxel, taps);
                    }
                    ++voxel;
                }
            }
        }
        return;
    }
    for (std::int64_t k = 0; k < on.size()[2]; ++k) {
        for (std::int64_t j = 0; j < on.size()[1]; ++j) {
            const Walk w = walk(on, of, j, k);
            for (std::int64_t i = 0; i < on.size()[0]; ++i, ++voxel) {
                const auto n = static_cast<double>(i);
                const Vec3 at = {w.start[0] + n * w.step[0], w.start[1] + n * w.step[1], w.start[2] + n * w.step[2]};
                if (quick_taps(at, of.size(), taps)) take(voxel, taps);
            }
        }
    }
}

}  // namespace cardionode
