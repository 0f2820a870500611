// Weights on the held-out studies of a recipe. Internal to fedclient/methods (torch in the signature).
#pragma once

#include <filesystem>

#include "fedclient/methods/local_round.h"
#include "models/network.h"
#include "models/train/recipe.h"

namespace cardionode::fed {

/// Config: weights or studies do not fit the recipe. Reject: a study that cannot be read.
Result<Validation> validate_on_holdout(const train::Recipe& recipe, const std::filesystem::path& weights,
                                       torch::Device device);

}  // namespace cardionode::fed
