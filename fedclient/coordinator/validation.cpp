#include "fedclient/coordinator/validation.h"

#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace cardionode::fed {
namespace {

constexpr std::string_view kBefore = "before/", kAfter = "after/";

std::optional<double> number(const std::map<std::string, double>& metrics, const std::string& key) {
    const auto found = metrics.find(key);
    return found == metrics.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace

std::map<std::string, HeadValidation> compare_validation(const SiteMetrics& trained, const SiteMetrics& evaluated) {
    struct Sums {
        double before = 0, after = 0, weight = 0;
        int sites = 0;
    };
    std::map<std::string, Sums> sums;
    for (const auto& [site, old] : trained) {
        const auto found = evaluated.find(site);
        if (found == evaluated.end()) continue;
        const auto& fresh = found->second;
        const double weight = number(fresh, "num-examples").value_or(1);
        if (!(weight > 0 && std::isfinite(weight))) continue;
        for (const auto& [key, value] : old) {
            if (!key.starts_with(kBefore) || !std::isfinite(value)) continue;
            const auto head = key.substr(kBefore.size());
            auto after = number(fresh, std::string(kAfter) + head);
            if (!after) after = number(fresh, key);
            if (!after) continue;
            if (!std::isfinite(*after)) after = -std::numeric_limits<double>::infinity();
            auto& sum = sums[head];
            sum.before += weight * value;
            sum.after += weight * *after;
            sum.weight += weight;
            ++sum.sites;
        }
    }
    std::map<std::string, HeadValidation> heads;
    for (const auto& [head, sum] : sums) heads[head] = {sum.before / sum.weight, sum.after / sum.weight, sum.sites};
    return heads;
}

std::string falls_of(const std::map<std::string, HeadValidation>& heads, double tolerance) {
    std::string text;
    for (const auto& [head, v] : heads)
        if (v.before - v.after > tolerance)
            text += fmt::format("{}{} fell from {:.4f} to {:.4f}", text.empty() ? "" : ", ", head, v.before, v.after);
    return text;
}

}  // namespace cardionode::fed
