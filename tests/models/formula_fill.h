// Weights and inputs from a formula, so that a large network can be checked without a large file: the fill of
// swin_unetr_reference_numbers (hash of tensor number and element number).
#pragma once

#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "models/weights/safetensors.h"

namespace cardionode::test {

inline torch::Tensor hashed_numbers(std::uint32_t tensor_number, torch::IntArrayRef shape) {
    torch::Tensor result = torch::empty(shape, torch::kFloat32);
    auto* out = result.data_ptr<float>();
    const std::uint32_t offset = (tensor_number + 1) * 2654404609u;
    for (std::int64_t i = 0; i < result.numel(); ++i) {
        std::uint32_t h = static_cast<std::uint32_t>(i) * 2654435761u + offset;
        h ^= h >> 15;
        h *= 2246822519u;
        h ^= h >> 13;
        out[i] = static_cast<float>(h >> 8) / 16777216.0f - 0.5f;
    }
    return result;
}

/// Fills tensors numbered in the bytewise order of their names, as they stand in the map.
inline void fill_by_formula(NamedTensors& tensors) {
    std::uint32_t number = 0;
    for (auto& [name, tensor] : tensors) {
        const torch::Tensor u = hashed_numbers(number++, tensor.sizes());
        const bool weight = name.size() > 7 && name.compare(name.size() - 7, 7, ".weight") == 0;
        if (tensor.dim() == 1) tensor = weight ? 1 + 0.2 * u : 0.1 * u;
        else if (name.find("relative_position_bias_table") != std::string::npos) tensor = u;
        else tensor = u * (2 * std::sqrt(3.0 / static_cast<double>(tensor.numel() / tensor.size(0))));
    }
}

inline torch::Tensor formula_input(torch::IntArrayRef shape) { return 2 * hashed_numbers(9999, shape); }

}  // namespace cardionode::test
