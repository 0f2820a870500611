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

namespace {

/// The channels, with background for certain where `labels` left a label out.
std::vector<ScoreMap> channels_of(const HeadProbabilities& probabilities, const LabelMap& labels) {
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
    return channels;
}

/// Of each label the largest piece, and those that reach within `margin` voxels of the border.
void keep_pieces_that_count(LabelMap& labels, int highest, double margin) {
    const auto largest = largest_components(labels, highest);
    const auto& size = labels.grid.size();
    const auto near_border = [&](std::int64_t o) {
        const std::array<std::int64_t, 3> at = {o % size[0], o / size[0] % size[1], o / (size[0] * size[1])};
        for (std::size_t a = 0; a < 3; ++a) {
            if (static_cast<double>(std::min(at[a], size[a] - 1 - at[a])) <= margin) return true;
        }
        return false;
    };
    LabelMap kept(labels.grid, std::uint8_t{0});
    for (int label = 1; label <= highest; ++label) {
        for (const Component& piece : components_of(labels, label)) {
            const bool counts = piece.offsets == largest[static_cast<std::size_t>(label)] ||
                                std::any_of(piece.offsets.begin(), piece.offsets.end(), near_border);
            if (!counts) continue;
            for (const std::int64_t o : piece.offsets) kept.voxels[o] = static_cast<std::uint8_t>(label);
        }
    }
    labels = std::move(kept);
}

}  // namespace

Result<LabelMap> onto_grid(const HeadProbabilities& probabilities, const LabelMap& labels, const Grid& target) {
    return labels_on_source(channels_of(probabilities, labels), target);
}

Result<void> put_window(const HeadProbabilities& window, double margin, LabelMap& labels) {
    auto marked = argmax(window);
    if (!marked) return std::move(marked).error();
    keep_pieces_that_count(*marked, static_cast<int>(window.channels.size()) - 1, margin);
    return labels_into(channels_of(window, *marked), margin, labels);
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
