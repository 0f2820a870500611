#include "pipeline/postprocess/landmarks.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

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
        landmark.component_mm3 = static_cast<double>(component.size()) * probability.grid.voxel_volume_mm3();
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

std::vector<Landmark> choose_landmarks(std::vector<Landmark> first, std::vector<Landmark> second) {
    for (Landmark& l : second) {
        l.look = 2;
        const auto same =
            std::find_if(first.begin(), first.end(), [&](const Landmark& other) { return other.name == l.name; });
        if (same == first.end()) continue;  // the second look has only heads of the first
        if (l.position || (!same->position && l.confidence > same->confidence)) *same = std::move(l);
    }
    return first;
}

void add_expected_errors(std::vector<Landmark>& landmarks, const BundleManifest& manifest) {
    const auto record = [&](const char* key) {
        const auto text = manifest.training.find(key);
        return text == manifest.training.end() ? nlohmann::json()
                                               : nlohmann::json::parse(text->second, nullptr, /*exceptions=*/false);
    };
    const auto median = [](const nlohmann::json& errors, const std::string& name) -> std::optional<double> {
        if (!errors.is_object() || !errors.contains(name) || !errors[name].is_object()) return std::nullopt;
        const auto value = errors[name].find("median_mm");
        if (value == errors[name].end() || !value->is_number()) return std::nullopt;
        return value->get<double>();
    };
    const auto whole = record("landmark_errors"), first = record("phantom_landmarks"),
               second = record("second_look_phantom_landmarks");
    for (Landmark& l : landmarks) {
        if (!l.position) continue;
        const auto of_first = median(first, l.name), of_second = median(second, l.name);
        const auto of_whole = median(whole, l.name);
        if (l.look == 2) {
            l.expected_error_mm = of_whole ? of_whole : of_second;
        } else if (manifest.second_look) {
            // The whole chain's figure is that of points which the second look found.
            for (const auto& figure : {of_first, of_second, of_whole}) {
                if (figure && *figure > l.expected_error_mm.value_or(0)) l.expected_error_mm = figure;
            }
        } else {
            l.expected_error_mm = of_whole ? of_whole : of_first;
        }
    }
}

void add_spread(std::vector<Landmark>& landmarks, const PassPoints& passes) {
    if (passes.passes < 2) return;
    for (Landmark& l : landmarks) {
        l.passes = passes.passes;
        const auto found = passes.points.find(l.name);
        if (found == passes.points.end()) continue;
        l.passes_found = static_cast<int>(found->second.size());
        if (l.passes_found < 2) continue;
        const double n = l.passes_found;
        Vec3 mean{};
        for (const PatientPoint& p : found->second) mean = add(mean, scale(p.lps_mm, 1 / n));
        double squares = 0;
        for (const PatientPoint& p : found->second) squares += std::pow(distance_mm(p, {mean}), 2);
        l.spread_mm = std::sqrt(squares / n);
    }
}

}  // namespace cardionode
