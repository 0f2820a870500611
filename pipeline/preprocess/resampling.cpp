#include "pipeline/preprocess/resampling.h"

#include <algorithm>
#include <cmath>

namespace cardionode {

std::optional<Tap> tap_at(double index, std::int64_t size) {
    const double whole = std::round(index);
    if (std::abs(index - whole) < kSnap) index = whole;
    if (index < -kEdge - kSnap || index > static_cast<double>(size - 1) + kEdge + kSnap) return std::nullopt;
    index = std::clamp(index, 0.0, static_cast<double>(size - 1));
    const auto low = std::min(static_cast<std::int64_t>(index), std::max<std::int64_t>(0, size - 2));
    return Tap{low, index - static_cast<double>(low)};
}

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

Walk walk(const Grid& on, const Grid& of, std::int64_t j, std::int64_t k) {
    const Vec3 start = of.to_index(on.to_patient(VoxelIndex{{0, j, k}})).ijk;
    const Vec3 next = of.to_index(on.to_patient(VoxelIndex{{1, j, k}})).ijk;
    return {start, subtract(next, start)};
}

Cell cell_of(const std::array<Tap, 3>& taps, const std::array<std::int64_t, 3>& size) {
    const std::array<std::int64_t, 3> stride = {1, size[0], size[0] * size[1]};
    Cell c;
    for (std::size_t corner = 0; corner < 8; ++corner) {
        double w = 1;
        std::int64_t offset = 0;
        for (std::size_t a = 0; a < 3; ++a) {
            const bool high = ((corner >> a) & 1) != 0;
            w *= high ? taps[a].part : 1 - taps[a].part;
            offset += stride[a] * (taps[a].low + (high && size[a] > 1 ? 1 : 0));
        }
        c.at[corner] = static_cast<std::size_t>(offset);
        c.weight[corner] = static_cast<float>(w);
    }
    return c;
}

}  // namespace cardionode
