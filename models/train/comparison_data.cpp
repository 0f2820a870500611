#include "models/train/comparison_data.h"

#include <algorithm>

#include "models/train/pseudo_labels_decode.h"
#include "models/train/random.h"

namespace cardionode::train {

TestCase draw_case(const std::shared_ptr<const PhantomAtlas>& atlas, const Recipe& recipe, std::array<int, 3> size,
                   double jitter_mm, PhantomUse use, std::uint64_t seed, std::uint64_t number) {
    constexpr std::uint64_t kComparison = 0x636f6d70617265ULL;  // a stream that no training run draws from
    const std::uint64_t own =
        mix_bits(mix_bits(mix_bits(kComparison + static_cast<std::uint64_t>(use)) + seed) + number);
    const auto spacing = static_cast<float>(recipe.input.spacing_mm[0]);
    const PhantomGrid grid = root_window(own, size, spacing, static_cast<float>(jitter_mm));
    const PhantomSource source(atlas, recipe);
    const Phantom phantom = source.phantom(own, grid);
    TestCase drawn;
    drawn.sample = source.to_sample(phantom);
    for (const PhantomPoint& p : phantom.points) {
        if (!p.inside || !phantom.contrast) continue;
        const Vec at = (p.at - grid.origin) * (1 / spacing);
        drawn.points.push_back({p.head, p.name, p.value, {at.z, at.y, at.x}});
    }
    return drawn;
}

double ArmScore::mean_error_mm() const {
    double sum = 0;
    std::size_t n = 0;
    for (const auto& [name, errors] : errors_mm) {
        for (const double e : errors) sum += e;
        n += errors.size();
    }
    return n ? sum / static_cast<double>(n) : 0;
}

double ArmScore::mean_error_mm(const std::string& point) const {
    const std::vector<double>& errors = errors_mm.at(point);
    double sum = 0;
    for (const double e : errors) sum += e;
    return errors.empty() ? 0 : sum / static_cast<double>(errors.size());
}

double ArmScore::found_share() const {
    std::int64_t all = 0, those = 0;
    for (const auto& [name, n] : present) all += n;
    for (const auto& [name, n] : found) those += n;
    return all ? static_cast<double>(those) / static_cast<double>(all) : 0;
}

double ArmScore::dice(const std::string& head) const {
    const auto& [both, predicted, truth] = overlap.at(head);
    return predicted + truth > 0 ? 2 * both / (predicted + truth) : 1;
}

ArmScore score(const std::vector<Answerer>& answerers, const std::vector<TestCase>& cases,
               const std::array<double, 3>& spacing_mm, double missed_mm) {
    torch::NoGradGuard no_grad;
    ArmScore result;
    for (const Answerer& a : answerers) {
        a.network->eval();
        const torch::Device device = a.network->parameters().front().device();
        for (const TestCase& one : cases) {
            for (const HeadLogits& logits : a.network->forward(one.sample.image.unsqueeze(0).to(device))) {
                const auto asked = std::find_if(a.heads.begin(), a.heads.end(),
                                                [&](const PseudoHead& h) { return h.name == logits.head; });
                if (asked == a.heads.end()) continue;
                const torch::Tensor labels = logits.levels[0][0].argmax(0).to(torch::kCPU, torch::kByte);
                if (!asked->points) {
                    const torch::Tensor predicted = labels.gt(0), truth = one.sample.targets.at(asked->name).gt(0);
                    auto& sum = result.overlap[asked->name];
                    sum[0] += predicted.logical_and(truth).sum().item<double>();
                    sum[1] += predicted.sum().item<double>();
                    sum[2] += truth.sum().item<double>();
                    continue;
                }
                const std::vector<DecodedPoint> decoded = decode_points(labels, asked->classes);
                for (const TestCase::Point& p : one.points) {
                    if (p.head != asked->name) continue;
                    const DecodedPoint& d = decoded.at(static_cast<std::size_t>(p.value) - 1);
                    ++result.present[p.name];
                    result.found[p.name] += d.found();
                    result.errors_mm[p.name].push_back(
                        d.found() ? std::min(missed_mm, distance_mm(d.at, p.at, spacing_mm)) : missed_mm);
                }
            }
        }
    }
    return result;
}

}  // namespace cardionode::train
