// The picture of a comparison: an arm a column, a dot a seed, a line joins the dots of one seed.
//
// Thread safety: pure functions.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

struct PlotPanel {
    std::string measure, title;
};

/// A picture with a panel a measure. @param seeds  [{"arms": {arm: {measure: value}}}]; every arm has every measure.
Result<void> write_arms_plot(const nlohmann::json& seeds, const std::vector<std::string>& arms,
                             const std::vector<PlotPanel>& panels, const std::filesystem::path& file);

/// @param results  of train::compare_distillation or compare_frozen_head. Retry: disk full.
Result<void> write_comparison_plot(const nlohmann::json& results, const std::filesystem::path& file);

}  // namespace cardionode
