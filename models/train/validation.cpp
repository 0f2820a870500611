#include "models/train/validation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "models/sliding_window.h"

namespace cardionode::train {
namespace {

constexpr float kFoundPeak = 0.3F;
constexpr float kGatherMm = 8;  // around the peak, for the centre of mass

/// Peak of a probability map and the centre of mass of the values >= half of it near the peak, voxels (z, y, x).
std::pair<float, std::array<double, 3>> locate(const torch::Tensor& probability, float spacing) {
    const auto p = probability.accessor<float, 3>();
    const std::int64_t at = probability.argmax().item<std::int64_t>();
    const std::int64_t d = p.size(0), h = p.size(1), w = p.size(2);
    const std::int64_t pz = at / (h * w), py = at / w % h, px = at % w;
    const float peak = p[pz][py][px];
    const auto reach = static_cast<std::int64_t>(kGatherMm / spacing);
    double sum = 0, z_sum = 0, y_sum = 0, x_sum = 0;
    for (std::int64_t z = std::max<std::int64_t>(0, pz - reach); z <= std::min(d - 1, pz + reach); ++z) {
        for (std::int64_t y = std::max<std::int64_t>(0, py - reach); y <= std::min(h - 1, py + reach); ++y) {
            for (std::int64_t x = std::max<std::int64_t>(0, px - reach); x <= std::min(w - 1, px + reach); ++x) {
                const float v = p[z][y][x];
                if (v < 0.5F * peak) continue;
                sum += v, z_sum += v * static_cast<double>(z), y_sum += v * static_cast<double>(y),
                    x_sum += v * static_cast<double>(x);
            }
        }
    }
    return {peak, {z_sum / sum, y_sum / sum, x_sum / sum}};
}

}  // namespace

double LandmarkScore::median_mm() const {
    std::vector<double> all = errors_mm;
    all.resize(static_cast<std::size_t>(present), std::numeric_limits<double>::infinity());
    if (all.empty()) return std::numeric_limits<double>::quiet_NaN();
    std::sort(all.begin(), all.end());
    return all.size() % 2 ? all[all.size() / 2] : 0.5 * (all[all.size() / 2 - 1] + all[all.size() / 2]);
}

double ValidationResult::mean_dice(const std::string& head) const {
    double sum = 0;
    int n = 0;
    for (const auto& [name, value] : dice) {
        if (name.rfind(head + "/", 0) == 0) sum += value, ++n;
    }
    return n ? sum / n : 0;
}

bool ValidationResult::has(const std::string& head) const {
    const auto next = dice.lower_bound(head + "/");
    return next != dice.end() && next->first.rfind(head + "/", 0) == 0;
}

nlohmann::json ValidationResult::to_json() const {
    nlohmann::json json;
    for (const auto& [name, value] : dice) json["dice"][name] = std::round(value * 1e4) / 1e4;
    for (const auto& [name, score] : landmarks) {
        nlohmann::json& j = json["landmarks"][name];
        j["present"] = score.present;
        j["found"] = score.found;
        j["false"] = score.false_finds;
        if (std::isfinite(score.median_mm())) j["median_mm"] = std::round(score.median_mm() * 100) / 100;
        else j["median_mm"] = nullptr;
    }
    return json;
}

namespace {

/// Voxels in both, predicted and true, by "head/class".
using Counts = std::map<std::string, std::array<double, 3>>;

std::string class_name(const std::string& head, int value) {
    for (const PhantomHead& names : phantom_heads()) {
        if (head == names.name && value <= static_cast<int>(names.classes.size()))
            return names.classes[static_cast<std::size_t>(value - 1)];
    }
    return std::to_string(value);
}

/// @param p  probabilities [channels, D, H, W]
void count(const std::string& head, const torch::Tensor& p, const torch::Tensor& target, Counts& counts) {
    const torch::Tensor predicted = p.argmax(0);
    for (int value = 1; value < p.size(0); ++value) {
        const torch::Tensor a = predicted.eq(value), b = target.eq(value);
        auto& c = counts[head + "/" + class_name(head, value)];
        c[0] += a.logical_and(b).sum().item<double>();
        c[1] += a.sum().item<double>();
        c[2] += b.sum().item<double>();
    }
}

/// @param at  true place in voxels (z, y, x); none: the point is not there
void score_point(LandmarkScore& score, const torch::Tensor& p, double spacing,
                 const std::optional<std::array<double, 3>>& at) {
    const auto [peak, found] = locate(p, static_cast<float>(spacing));
    score.present += at.has_value();
    if (peak < kFoundPeak) return;
    if (!at) {
        ++score.false_finds;
        return;
    }
    ++score.found;
    double square = 0;
    for (std::size_t a = 0; a < 3; ++a) square += (found[a] - (*at)[a]) * (found[a] - (*at)[a]);
    score.errors_mm.push_back(std::sqrt(square) * spacing);
}

void finish(const Counts& counts, ValidationResult& result) {
    for (const auto& [name, c] : counts) result.dice[name] = c[1] + c[2] > 0 ? 2 * c[0] / (c[1] + c[2]) : 1;
}

/// The middle of a label's voxels (z, y, x).
std::optional<std::array<double, 3>> middle_of(const torch::Tensor& is_label) {
    const torch::Tensor places = is_label.nonzero().to(torch::kDouble);
    if (places.size(0) == 0) return std::nullopt;
    const torch::Tensor middle = places.mean(0);
    return std::array<double, 3>{middle[0].item<double>(), middle[1].item<double>(), middle[2].item<double>()};
}

/// One study, whole or its window round the root.
void validate_study(Network& network, const StudySource& studies, std::size_t index, const Recipe& recipe,
                    torch::Device device, Counts& counts, ValidationResult& result) {
    const StudyFile& study = studies.study(index);
    WindowManifest window;
    window.size = {recipe.window[0], recipe.window[1], recipe.window[2]};
    window.overlap = 0.25;
    const bool root = recipe.placement == "root";
    const Sides begin = root ? studies.root_window(index) : Sides{};
    const Sides size = root ? window.size : study.facts().size;
    const auto low = static_cast<float>((recipe.input.hu_low - recipe.input.mean) / recipe.input.sd);
    Result<std::vector<float>> voxels = study.image(begin, size, low);
    if (!voxels) throw BadSample(voxels.error().message);
    std::vector<std::int64_t> channels;
    for (const HeadChannels& head : network.heads()) channels.push_back(head.channels);
    const auto outputs = slide(torch::from_blob(voxels->data(), {1, size[0], size[1], size[2]}, torch::kFloat), window,
                               channels, 1, [&](const torch::Tensor& batch) {
                                   std::vector<torch::Tensor> logits;
                                   for (const HeadLogits& head : network.forward(batch.to(device)))
                                       logits.push_back(head.levels[0].to(torch::kCPU));
                                   return logits;
                               });
    for (std::size_t h = 0; h < channels.size(); ++h) {
        const std::string& head = network.heads()[h].name;
        const auto& labelled = study.facts().heads;
        if (std::find(labelled.begin(), labelled.end(), head) == labelled.end()) continue;
        Result<std::vector<std::uint8_t>> labels = study.labels(head, begin, size);
        if (!labels) throw BadSample(labels.error().message);
        const torch::Tensor target = torch::from_blob(labels->data(), {size[0], size[1], size[2]}, torch::kByte);
        const torch::Tensor p = torch::softmax(outputs->at(h), 0).contiguous();
        count(head, p, target, counts);
        if (head != "hps" && head != "ms") continue;
        for (int value = 1; value < channels[h]; ++value) {
            score_point(result.landmarks[class_name(head, value)], p[value], study.facts().spacing_mm[0],
                        middle_of(target.eq(value)));
        }
    }
}

}  // namespace

ValidationResult validate(Network& network, const PhantomSource& source, int cases, torch::Device device) {
    torch::NoGradGuard no_grad;
    network.eval();
    ValidationResult result;
    Counts counts;
    for (int n = 0; n < cases; ++n) {
        const Phantom phantom = source.validation_phantom(static_cast<std::uint64_t>(n));
        const Sample sample = source.to_sample(phantom);
        for (const HeadLogits& head : network.forward(sample.image.unsqueeze(0).to(device))) {
            const auto target = sample.targets.find(head.head);
            if (target == sample.targets.end()) continue;
            const torch::Tensor p = torch::softmax(head.levels[0][0], 0).to(torch::kCPU).contiguous();
            count(head.head, p, target->second, counts);
            for (const PhantomPoint& point : phantom.points) {
                if (point.head != head.head) continue;
                const Vec at = point.at - phantom.grid.origin;
                const double spacing = phantom.grid.spacing;
                std::optional<std::array<double, 3>> place;
                if (point.inside && phantom.contrast) place = {at.z / spacing, at.y / spacing, at.x / spacing};
                score_point(result.landmarks[point.name], p[point.value], spacing, place);
            }
        }
    }
    finish(counts, result);
    return result;
}

ValidationResult validate(Network& network, const StudySource& studies, const Recipe& recipe, torch::Device device) {
    torch::NoGradGuard no_grad;
    network.eval();
    ValidationResult result;
    Counts counts;
    for (std::size_t i = 0; i < studies.size(); ++i) {
        validate_study(network, studies, i, recipe, device, counts, result);
    }
    finish(counts, result);
    return result;
}

}  // namespace cardionode::train
