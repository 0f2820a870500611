#include "pipeline/postprocess/landmarks.h"

#include <algorithm>

#include <fmt/format.h>

#include "pipeline/postprocess/components.h"

namespace cardionode {
namespace {

Code to_code(const CodeManifest& code) { return {code.value, code.scheme, code.meaning}; }

PatientPoint weighted_centre(const ScoreMap& probability, const std::vector<std::int64_t>& offsets) {
    const auto& size = probability.grid.size();
    Vec3 sum{};
    double weight = 0;
    for (const std::int64_t o : offsets) {
        const double p = probability.voxels[o];
        weight += p;
        sum = add(sum, scale({static_cast<double>(o % size[0]), static_cast<double>(o / size[0] % size[1]),
                              static_cast<double>(o / (size[0] * size[1]))},
                             p));
    }
    return probability.grid.to_patient(ContinuousIndex{scale(sum, 1 / weight)});
}

}  // namespace

Result<std::vector<Landmark>> decode_landmarks(const HeadProbabilities& probabilities, const HeadManifest& head,
                                               double min_confidence) {
    for (const ClassManifest& c : head.classes) {
        if (c.value < 1 || c.value >= static_cast<int>(probabilities.channels.size())) {
            return bug_error(fmt::format("head {} gave {} channels, but the manifest has class {} as channel {}",
                                         head.name, probabilities.channels.size(), c.name, c.value));
        }
    }
    auto labels = argmax(probabilities);
    if (!labels) return std::move(labels).error();
    const auto components = largest_components(*labels, static_cast<int>(probabilities.channels.size()) - 1);
    const double needed = std::max(min_confidence, head.min_peak_probability);

    std::vector<Landmark> landmarks;
    for (const ClassManifest& c : head.classes) {
        Landmark landmark;
        landmark.name = c.name;
        landmark.title = c.title;
        landmark.finding = to_code(c.code);
        landmark.finding_site = to_code(c.site);
        const ScoreMap& probability = probabilities.channels[c.value];
        const auto& component = components[c.value];
        landmark.component_voxels = static_cast<std::int64_t>(component.size());
        if (component.empty()) {
            // The peak is told even where another class won everywhere, so that "nearly" can be told from "not at all".
            landmark.confidence = *std::max_element(probability.voxels.begin(), probability.voxels.end());
            landmark.reason =
                fmt::format("the model marked no voxel (highest probability {:.2f})", landmark.confidence);
        } else {
            for (const std::int64_t o : component) {
                landmark.confidence = std::max<double>(landmark.confidence, probability.voxels[o]);
            }
            if (landmark.component_voxels < head.min_component_voxels) {
                landmark.reason = fmt::format("the marked region is too small ({} voxels, at least {} are needed)",
                                              component.size(), head.min_component_voxels);
            } else if (landmark.confidence < needed) {
                landmark.reason = fmt::format("the model is not sure enough ({:.2f}, at least {:.2f} is needed)",
                                              landmark.confidence, needed);
            } else {
                landmark.position = weighted_centre(probability, component);
            }
        }
        landmarks.push_back(std::move(landmark));
    }
    return landmarks;
}

}  // namespace cardionode
