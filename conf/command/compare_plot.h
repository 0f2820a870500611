// The picture of a comparison: an arm a column, a dot a seed, a line joins the dots of one seed.
//
// Thread safety: pure functions.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "conf/base/result.h"

namespace cardionode {

/// @param results  of train::compare_distillation or compare_frozen_head. Retry: disk full.
Result<void> write_comparison_plot(const nlohmann::json& results, const std::filesystem::path& file);

}  // namespace cardionode
