#include "pipeline/postprocess/components.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace cardionode {
namespace {

/// Calls `found(label, offsets)` for each component, in memory order of their first voxels.
void each_component(const LabelMap& labels, int lowest, int highest,
                    const std::function<void(int, std::vector<std::int64_t>)>& found) {
    const auto& size = labels.grid.size();
    std::vector<bool> seen(labels.voxels.size(), false);
    std::vector<std::int64_t> component;
    for (std::int64_t start = 0; start < labels.grid.voxel_count(); ++start) {
        const std::uint8_t label = labels.voxels[start];
        if (label == 0 || label < lowest || label > highest || seen[start]) continue;
        component.assign(1, start);
        seen[start] = true;
        for (std::size_t next = 0; next < component.size(); ++next) {
            const std::int64_t i = component[next] % size[0];
            const std::int64_t j = component[next] / size[0] % size[1];
            const std::int64_t k = component[next] / (size[0] * size[1]);
            for (std::int64_t z = std::max<std::int64_t>(k - 1, 0); z <= std::min(k + 1, size[2] - 1); ++z) {
                for (std::int64_t y = std::max<std::int64_t>(j - 1, 0); y <= std::min(j + 1, size[1] - 1); ++y) {
                    for (std::int64_t x = std::max<std::int64_t>(i - 1, 0); x <= std::min(i + 1, size[0] - 1); ++x) {
                        const std::int64_t other = (z * size[1] + y) * size[0] + x;
                        if (labels.voxels[other] != label || seen[other]) continue;
                        seen[other] = true;
                        component.push_back(other);
                    }
                }
            }
        }
        std::sort(component.begin(), component.end());
        found(label, component);
    }
}

}  // namespace

Result<LabelMap> argmax(const HeadProbabilities& probabilities) {
    const auto& channels = probabilities.channels;
    if (channels.size() < 2 || channels.size() > 256) {
        return bug_error("head " + probabilities.head + " has " + std::to_string(channels.size()) + " channels");
    }
    LabelMap labels(channels[0].grid, std::uint8_t{0});
    std::vector<float> best(labels.voxels.size(), -1.0F);
    for (std::size_t c = 0; c < channels.size(); ++c) {
        if (!channels[c].grid.same_as(channels[0].grid)) {
            return bug_error("the channels of head " + probabilities.head + " stand on different grids");
        }
        for (std::size_t v = 0; v < best.size(); ++v) {
            const float p = channels[c].voxels[v];
            if (!std::isfinite(p)) {
                return bug_error("the model gave values that are not numbers in head " + probabilities.head);
            }
            if (p > best[v]) {
                best[v] = p;
                labels.voxels[v] = static_cast<std::uint8_t>(c);
            }
        }
    }
    return labels;
}

std::vector<std::vector<std::int64_t>> largest_components(const LabelMap& labels, int highest) {
    std::vector<std::vector<std::int64_t>> largest(static_cast<std::size_t>(highest) + 1);
    each_component(labels, 1, highest, [&](int label, std::vector<std::int64_t> offsets) {
        if (offsets.size() > largest[label].size()) largest[label] = std::move(offsets);
    });
    return largest;
}

std::vector<Component> components_of(const LabelMap& labels, int label) {
    std::vector<Component> components;
    const auto& size = labels.grid.size();
    each_component(labels, label, label, [&](int, std::vector<std::int64_t> offsets) {
        Vec3 sum{};
        for (const std::int64_t o : offsets) {
            sum = add(sum, {static_cast<double>(o % size[0]), static_cast<double>(o / size[0] % size[1]),
                            static_cast<double>(o / (size[0] * size[1]))});
        }
        const auto centre =
            labels.grid.to_patient(ContinuousIndex{scale(sum, 1.0 / static_cast<double>(offsets.size()))});
        components.push_back({std::move(offsets), centre});
    });
    return components;
}

}  // namespace cardionode
