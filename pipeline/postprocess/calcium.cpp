#include "pipeline/postprocess/calcium.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "pipeline/postprocess/components.h"
#include "pipeline/postprocess/label_maps.h"

namespace cardionode {
namespace {

constexpr double kLumenStep = 300, kNearTheStep = 40;  // HU, of the rule by_lumen

constexpr double kNearHingeMm = 20;

/// Index steps to every voxel whose centre is within `radius_mm`.
std::vector<std::array<std::int64_t, 3>> ball(const Vec3& spacing, double radius_mm) {
    std::array<std::int64_t, 3> reach{};
    for (int a = 0; a < 3; ++a) reach[a] = static_cast<std::int64_t>(radius_mm / spacing[a]);
    std::vector<std::array<std::int64_t, 3>> steps;
    for (std::int64_t k = -reach[2]; k <= reach[2]; ++k) {
        for (std::int64_t j = -reach[1]; j <= reach[1]; ++j) {
            for (std::int64_t i = -reach[0]; i <= reach[0]; ++i) {
                const Vec3 d = {static_cast<double>(i) * spacing[0], static_cast<double>(j) * spacing[1],
                                static_cast<double>(k) * spacing[2]};
                if (norm(d) <= radius_mm + 1e-9) steps.push_back({i, j, k});
            }
        }
    }
    return steps;
}

}  // namespace

Result<double> calcium_threshold(const CalciumRule& rule, const std::optional<double>& lumen_hu) {
    if (rule.rule == "fixed") return rule.threshold_hu;
    if (rule.rule != "lumen_plus" && rule.rule != "by_lumen") {
        return config_error("calcium rule \"" + rule.rule + "\" is not one of fixed, lumen_plus, by_lumen");
    }
    if (!lumen_hu) return reject_error("the density of the blood in the aortic root is not known");
    if (rule.rule == "lumen_plus") return *lumen_hu + rule.threshold_hu;
    return *lumen_hu < kLumenStep ? 450.0 : 850.0;
}

std::optional<double> other_threshold(const CalciumRule& rule, const std::optional<double>& lumen_hu) {
    if (rule.rule != "by_lumen" || !lumen_hu || std::abs(*lumen_hu - kLumenStep) > kNearTheStep) return std::nullopt;
    return *lumen_hu < kLumenStep ? 850.0 : 450.0;
}

std::string in_words(const CalciumRule& rule) {
    if (rule.rule == "lumen_plus") return fmt::format("lumen + {:.0f} HU", rule.threshold_hu);
    if (rule.rule == "by_lumen") return "450 HU where the lumen is below 300 HU; else 850 HU";
    return rule.rule;
}

Result<LabelMap> find_calcium(const HeadProbabilities& probabilities, const CalciumRule& rule, const Volume& ct,
                              const std::vector<PatientPoint>& hinges, const std::optional<double>& lumen_hu) {
    const auto threshold = calcium_threshold(rule, lumen_hu);
    if (!threshold) return threshold.error();
    auto marked = argmax(probabilities);
    if (!marked) return marked;
    LabelMap near(marked->grid, std::uint8_t{0});
    for (const Component& component : components_of(*marked, 1)) {
        const bool counts = std::any_of(hinges.begin(), hinges.end(), [&](const PatientPoint& hinge) {
            return distance_mm(hinge, component.centre) < kNearHingeMm;
        });
        if (!counts) continue;
        for (const std::int64_t o : component.offsets) near.voxels[o] = 1;
    }
    const auto region = onto_grid(probabilities, near, ct.grid);
    if (!region) return region.error();

    LabelMap calcium(ct.grid, std::uint8_t{0});
    const auto steps = ball(ct.grid.spacing(), rule.dilate_mm);
    const auto& size = ct.grid.size();
    for (std::int64_t o = 0; o < ct.grid.voxel_count(); ++o) {
        if (region->voxels[o] == 0) continue;
        const std::array<std::int64_t, 3> ijk = {o % size[0], o / size[0] % size[1], o / (size[0] * size[1])};
        for (const auto& step : steps) {
            const VoxelIndex there{{ijk[0] + step[0], ijk[1] + step[1], ijk[2] + step[2]}};
            if (!ct.grid.contains(there)) continue;
            const std::int64_t other = ct.grid.offset(there);
            if (ct.voxels[other] >= *threshold) calcium.voxels[other] = 1;
        }
    }
    return calcium;
}

}  // namespace cardionode
