#include "pipeline/postprocess/label_maps.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "pipeline/postprocess/components.h"

namespace cardionode {
namespace {

struct Box {
    std::array<std::int64_t, 3> low{}, high{};  ///< inclusive; empty where low > high
};

/// Voxels of `target` whose centre can lie within one voxel of a voxel that is not background.
Box box_of_labels(const LabelMap& labels, const Grid& target) {
    const auto& size = labels.grid.size();
    std::array<std::int64_t, 3> low = {size[0], size[1], size[2]}, high = {-1, -1, -1};
    for (std::int64_t k = 0; k < size[2]; ++k) {
        for (std::int64_t j = 0; j < size[1]; ++j) {
            const std::uint8_t* row = &labels.voxels[(k * size[1] + j) * size[0]];
            for (std::int64_t i = 0; i < size[0]; ++i) {
                if (row[i] == 0) continue;
                low = {std::min(low[0], i), std::min(low[1], j), std::min(low[2], k)};
                high = {std::max(high[0], i), std::max(high[1], j), std::max(high[2], k)};
            }
        }
    }
    if (high[0] < 0) return {{0, 0, 0}, {-1, -1, -1}};
    Box box{target.size(), {-1, -1, -1}};
    for (int corner = 0; corner < 8; ++corner) {
        ContinuousIndex index;
        for (int a = 0; a < 3; ++a) {
            index.ijk[a] =
                ((corner >> a) & 1) != 0 ? static_cast<double>(high[a] + 1) : static_cast<double>(low[a] - 1);
        }
        const ContinuousIndex there = target.to_index(labels.grid.to_patient(index));
        for (int a = 0; a < 3; ++a) {
            box.low[a] = std::min<std::int64_t>(box.low[a], std::llround(std::floor(there.ijk[a])));
            box.high[a] = std::max<std::int64_t>(box.high[a], std::llround(std::ceil(there.ijk[a])));
        }
    }
    for (int a = 0; a < 3; ++a) {
        box.low[a] = std::max<std::int64_t>(box.low[a], 0);
        box.high[a] = std::min(box.high[a], target.size()[a] - 1);
    }
    return box;
}

/// The label at a continuous index of the network's grid.
class Interpolator {
public:
    Interpolator(const HeadProbabilities& probabilities, const LabelMap& labels)
        : channels_(probabilities.channels), labels_(labels), raw_(probabilities.channels.size()) {}

    std::uint8_t at(const Vec3& index) {
        const auto& size = labels_.grid.size();
        std::array<std::int64_t, 3> base{};
        Vec3 fraction{};
        for (int a = 0; a < 3; ++a) {
            // Half a voxel beyond the outermost centres still belongs to the grid: the border value goes on there.
            if (index[a] < -0.5 || index[a] > static_cast<double>(size[a]) - 0.5) return 0;
            const double inside = std::clamp(index[a], 0.0, static_cast<double>(size[a] - 1));
            base[a] = std::min<std::int64_t>(static_cast<std::int64_t>(inside), std::max<std::int64_t>(size[a] - 2, 0));
            fraction[a] = inside - static_cast<double>(base[a]);
        }
        std::array<std::int64_t, 8> offset{};
        bool same = true;
        for (int c = 0; c < 8; ++c) {
            const std::int64_t i = std::min(base[0] + (c & 1), size[0] - 1);
            const std::int64_t j = std::min(base[1] + ((c >> 1) & 1), size[1] - 1);
            const std::int64_t k = std::min(base[2] + ((c >> 2) & 1), size[2] - 1);
            offset[c] = (k * size[1] + j) * size[0] + i;
            same = same && labels_.voxels[offset[c]] == labels_.voxels[offset[0]];
        }
        if (same) return labels_.voxels[offset[0]];

        std::fill(raw_.begin(), raw_.end(), 0.0);
        for (int c = 0; c < 8; ++c) {
            double weight = 1;
            for (int a = 0; a < 3; ++a) weight *= ((c >> a) & 1) != 0 ? fraction[a] : 1 - fraction[a];
            if (weight == 0) continue;
            if (labels_.voxels[offset[c]] == 0 && !background_won(offset[c])) {
                raw_[0] += weight;
                continue;
            }
            for (std::size_t n = 0; n < raw_.size(); ++n) raw_[n] += weight * channels_[n].voxels[offset[c]];
        }
        return static_cast<std::uint8_t>(std::max_element(raw_.begin(), raw_.end()) - raw_.begin());
    }

private:
    /// False for a voxel that belonged to a label before its component was left out.
    bool background_won(std::int64_t offset) const {
        for (std::size_t n = 1; n < channels_.size(); ++n) {
            if (channels_[n].voxels[offset] > channels_[0].voxels[offset]) return false;
        }
        return true;
    }
    const std::vector<ScoreMap>& channels_;
    const LabelMap& labels_;
    std::vector<double> raw_;
};

}  // namespace

Result<LabelMap> largest_pieces(const HeadProbabilities& probabilities) {
    auto labels = argmax(probabilities);
    if (!labels) return labels;
    const auto largest = largest_components(*labels, static_cast<int>(probabilities.channels.size()) - 1);
    std::fill(labels->voxels.begin(), labels->voxels.end(), std::uint8_t{0});
    for (std::size_t label = 1; label < largest.size(); ++label) {
        for (const std::int64_t o : largest[label]) labels->voxels[o] = static_cast<std::uint8_t>(label);
    }
    return labels;
}

LabelMap onto_grid(const HeadProbabilities& probabilities, const LabelMap& labels, const Grid& target) {
    LabelMap result(target, std::uint8_t{0});
    const Box box = box_of_labels(labels, target);
    Interpolator interpolator(probabilities, labels);
    const auto index_of = [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        return labels.grid.to_index(target.to_patient(VoxelIndex{{i, j, k}})).ijk;
    };
    const Vec3 step = subtract(index_of(1, 0, 0), index_of(0, 0, 0));
    for (std::int64_t k = box.low[2]; k <= box.high[2]; ++k) {
        for (std::int64_t j = box.low[1]; j <= box.high[1]; ++j) {
            const Vec3 start = index_of(0, j, k);
            std::uint8_t* row = &result.voxels[target.offset({{0, j, k}})];
            for (std::int64_t i = box.low[0]; i <= box.high[0]; ++i) {
                row[i] = interpolator.at(add(start, scale(step, static_cast<double>(i))));
            }
        }
    }
    return result;
}

std::optional<double> median_hu(const Volume& volume, const LabelMap& map, const std::vector<int>& labels) {
    std::array<bool, 256> wanted{};
    for (const int label : labels) wanted.at(static_cast<std::size_t>(label)) = true;
    std::vector<float> values;
    for (std::size_t v = 0; v < map.voxels.size(); ++v) {
        if (wanted[map.voxels[v]]) values.push_back(volume.voxels[v]);
    }
    if (values.empty()) return std::nullopt;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

std::vector<std::int64_t> count_labels(const LabelMap& map) {
    std::vector<std::int64_t> counts(256, 0);
    for (const std::uint8_t label : map.voxels) ++counts[label];
    return counts;
}

}  // namespace cardionode
