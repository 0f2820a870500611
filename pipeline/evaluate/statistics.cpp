#include "pipeline/evaluate/statistics.h"

#include <algorithm>
#include <cmath>

namespace cardionode {
namespace {

/// splitmix64 (Steele, Lea, Flood 2014): the standard's distributions differ between libraries.
class Draw {
public:
    explicit Draw(std::uint64_t seed) : state_(seed) {}
    std::size_t below(std::size_t n) {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return static_cast<std::size_t>((z ^ (z >> 31)) % n);
    }

private:
    std::uint64_t state_;
};

double quantile_of_sorted(const std::vector<double>& sorted, double q) {
    if (sorted.empty()) return std::numeric_limits<double>::quiet_NaN();
    const double place = std::clamp(q, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<std::size_t>(place);
    const double part = place - static_cast<double>(low);
    // Not by a product with the weight: zero times infinity is no number.
    if (part == 0 || sorted[low] == sorted[low + 1]) return sorted[low];
    return sorted[low] + part * (sorted[low + 1] - sorted[low]);
}

}  // namespace

double quantile(std::vector<double> values, double q) {
    std::sort(values.begin(), values.end());
    return quantile_of_sorted(values, q);
}

double share_within(const std::vector<double>& values, double limit) {
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    const auto n = std::count_if(values.begin(), values.end(), [&](double v) { return v <= limit; });
    return static_cast<double>(n) / static_cast<double>(values.size());
}

std::optional<Interval> bootstrap_median(const std::vector<std::vector<double>>& by_case, std::uint64_t seed,
                                         int resamples, double level) {
    std::vector<const std::vector<double>*> cases;
    for (const auto& values : by_case) {
        if (!values.empty()) cases.push_back(&values);
    }
    if (cases.size() < 2 || resamples < 1) return std::nullopt;
    Draw draw(seed);
    std::vector<double> medians;
    std::vector<double> sample;
    for (int r = 0; r < resamples; ++r) {
        sample.clear();
        for (std::size_t n = 0; n < cases.size(); ++n) {
            const auto& values = *cases[draw.below(cases.size())];
            sample.insert(sample.end(), values.begin(), values.end());
        }
        std::sort(sample.begin(), sample.end());
        medians.push_back(quantile_of_sorted(sample, 0.5));
    }
    std::sort(medians.begin(), medians.end());
    return Interval{quantile_of_sorted(medians, (1 - level) / 2), quantile_of_sorted(medians, (1 + level) / 2)};
}

Distribution distribution_of(const std::vector<std::vector<double>>& by_case, std::uint64_t seed) {
    std::vector<double> all;
    for (const auto& values : by_case) all.insert(all.end(), values.begin(), values.end());
    Distribution d;
    d.count = static_cast<int>(all.size());
    std::sort(all.begin(), all.end());
    d.median = quantile_of_sorted(all, 0.5);
    d.q1 = quantile_of_sorted(all, 0.25);
    d.q3 = quantile_of_sorted(all, 0.75);
    d.p95 = quantile_of_sorted(all, 0.95);
    d.max = all.empty() ? std::numeric_limits<double>::quiet_NaN() : all.back();
    double sum = 0;
    int finite = 0;
    for (const double v : all) {
        if (!std::isfinite(v)) continue;
        sum += v;
        ++finite;
    }
    d.infinite = d.count - finite;
    d.mean = finite ? sum / finite : std::numeric_limits<double>::quiet_NaN();
    d.median_interval = bootstrap_median(by_case, seed);
    return d;
}

}  // namespace cardionode
