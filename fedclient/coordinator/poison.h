// Weights that a careful client must refuse: for the faults nan-model and outlier-model.
#pragma once

#include <filesystem>

#include "conf/base/result.h"

namespace cardionode::fed {

enum class Poison { Nan, Outlier };

/// Copies F32 weights with one value of the first tensor not finite, or with all values a million times as large.
/// Errors as models/weights/tensor_file.h.
Result<void> poison_weights(const std::filesystem::path& weights, Poison poison, const std::filesystem::path& out);

}  // namespace cardionode::fed
