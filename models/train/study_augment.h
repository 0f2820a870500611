// Changes to training windows of studies: each drawn with its own probability, decided by a seed alone.
//
// Rotation and scale move image and labels alike (labels by the nearest voxel); blur, low resolution, contrast, gamma
// and noise change the image, which stays inside the range that the input clips to. The kinds and widths are those of
// the FedKD authors' library (facts: 1.3). Thread safety: pure functions. torch's exceptions pass through.
#pragma once

#include <torch/torch.h>

#include <array>
#include <cstdint>

#include "models/train/recipe.h"

namespace cardionode::train {

/// How a window lies in its study: an offset from the window's centre (z, y, x) times this is one from the same centre
/// in the study.
using Turn = std::array<std::array<double, 3>, 3>;

bool is_identity(const Turn& turn);
Turn draw_turn(const AugmentRecipe& recipe, std::uint64_t seed);

/// Sides of the part of the study that a turned window needs: each at least the window's, and of the same parity, so
/// that both have one centre.
std::array<std::int64_t, 3> sides_before_turn(const Turn& turn, const std::array<int, 3>& window);
/// @param source  float [D, H, W] of sides_before_turn
/// @return        float [D, H, W] of the window
torch::Tensor turned(const torch::Tensor& source, const Turn& turn, const std::array<int, 3>& window, bool labels);

/// @param image  float [D, H, W], between low and high (the clip limits, normalised)
torch::Tensor changed(torch::Tensor image, const AugmentRecipe& recipe, std::uint64_t seed, float low, float high);

}  // namespace cardionode::train
