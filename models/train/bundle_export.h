// From a finished run to a bundle: the averaged weights as float16, their hash and the training record in the manifest.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "conf/base/result.h"

namespace cardionode::train {

/// Writes weights.safetensors (float16) and manifest.yaml into the bundle folder, and puts the recipe and a thinned
/// metrics.jsonl beside them. The manifest that stands there says everything else (heads, codes, input); it must fit
/// the recipe.
/// @param run     folder of train_run: weights.safetensors, metrics.jsonl
/// @param recipe  the recipe of the run
/// @param bundle  folder with a manifest.yaml; its weights and hash may be absent or old
/// @param record  joins the manifest's training record ("commit", "cost")
/// Config: the manifest is wrong or does not fit the recipe; the run has no weights.
Result<void> export_bundle(const std::filesystem::path& run, const std::filesystem::path& recipe,
                           const std::filesystem::path& bundle, const std::map<std::string, std::string>& record);

/// Puts a finished run into the bundle as the network of its second look: writes second_look.safetensors (float16), the
/// manifest's section `second_look` (architecture, input, window and heads are the recipe's) and, into the training
/// record, second_look_steps, second_look_seed, second_look_phantom_dice and second_look_phantom_landmarks; recipe and
/// metrics stand beside them as second_look_recipe.yaml and second_look_metrics.jsonl. A second look that is there is
/// replaced. The first network must be in the bundle already.
/// Config: the bundle does not load, the run has no weights, or the recipe has a head that the bundle does not have
/// with as many classes.
Result<void> export_second_look(const std::filesystem::path& run, const std::filesystem::path& recipe,
                                const std::filesystem::path& bundle, const std::map<std::string, std::string>& record);

}  // namespace cardionode::train
