#include "models/train/validation.h"

#include <limits>

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

ValidationResult validate(Network& network, const PhantomSource& source, int cases, torch::Device device) {
    torch::NoGradGuard no_grad;
    network.eval();
    ValidationResult result;
    std::map<std::string, std::array<double, 3>> counts;  // both, predicted, true
    for (int n = 0; n < cases; ++n) {
        const Phantom phantom = source.validation_phantom(static_cast<std::uint64_t>(n));
        const Sample sample = source.to_sample(phantom);
        const std::vector<HeadLogits> outputs = network.forward(sample.image.unsqueeze(0).to(device));
        for (const HeadLogits& head : outputs) {
            const torch::Tensor p = torch::softmax(head.levels[0][0], 0).to(torch::kCPU).contiguous();
            const torch::Tensor predicted = p.argmax(0);
            for (const PhantomHead& names : phantom_heads()) {
                if (head.head != names.name) continue;
                if (!sample.targets.contains(head.head)) continue;
                const torch::Tensor& target = sample.targets.at(head.head);
                for (std::size_t c = 0; c < names.classes.size(); ++c) {
                    const auto value = static_cast<std::int64_t>(c + 1);
                    const torch::Tensor a = predicted.eq(value), b = target.eq(value);
                    auto& count = counts[head.head + "/" + names.classes[c]];
                    count[0] += a.logical_and(b).sum().item<double>();
                    count[1] += a.sum().item<double>();
                    count[2] += b.sum().item<double>();
                }
            }
            for (const PhantomPoint& point : phantom.points) {
                if (point.head != head.head) continue;
                LandmarkScore& score = result.landmarks[point.name];
                const bool present = point.inside && phantom.contrast;
                const auto [peak, at] = locate(p[point.value], phantom.grid.spacing);
                score.present += present;
                if (peak < kFoundPeak) continue;
                if (!present) {
                    ++score.false_finds;
                    continue;
                }
                ++score.found;
                const Vec place = phantom.grid.origin +
                                  Vec{static_cast<float>(at[2]), static_cast<float>(at[1]), static_cast<float>(at[0])} *
                                      phantom.grid.spacing;
                score.errors_mm.push_back(length(place - point.at));
            }
        }
    }
    for (const auto& [name, c] : counts) result.dice[name] = c[1] + c[2] > 0 ? 2 * c[0] / (c[1] + c[2]) : 1;
    return result;
}

}  // namespace cardionode::train
