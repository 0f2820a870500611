#include "pipeline/postprocess/label_maps.h"

#include <algorithm>
#include <array>

#include "pipeline/postprocess/components.h"
#include "pipeline/preprocess/preprocess.h"

namespace cardionode {
Result<LabelMap> largest_pieces(const HeadProbabilities& probabilities) {
    constexpr double kLeastShare = 0.2;  // of the largest piece
    auto labels = argmax(probabilities);
    if (!labels) return labels;
    LabelMap kept(labels->grid, std::uint8_t{0});
    for (int label = 1; label < static_cast<int>(probabilities.channels.size()); ++label) {
        const auto pieces = components_of(*labels, label);
        std::size_t largest = 0;
        for (const Component& piece : pieces) largest = std::max(largest, piece.offsets.size());
        for (const Component& piece : pieces) {
            if (static_cast<double>(piece.offsets.size()) < kLeastShare * static_cast<double>(largest)) continue;
            for (const std::int64_t o : piece.offsets)
                kept.voxels[static_cast<std::size_t>(o)] = labels->voxels[static_cast<std::size_t>(o)];
        }
    }
    return kept;
}

Result<LabelMap> onto_grid(const HeadProbabilities& probabilities, const LabelMap& labels, const Grid& target) {
    std::vector<ScoreMap> channels = probabilities.channels;
    for (std::size_t v = 0; v < labels.voxels.size(); ++v) {
        if (labels.voxels[v] != 0) continue;
        const bool background_won = std::none_of(channels.begin() + 1, channels.end(), [&](const ScoreMap& c) {
            return c.voxels[v] > channels[0].voxels[v];
        });
        if (background_won) continue;
        for (ScoreMap& c : channels) c.voxels[v] = 0;
        channels[0].voxels[v] = 1;
    }
    return labels_on_source(channels, target);
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
