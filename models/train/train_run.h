// A whole run on disk: checkpoints, metrics as JSON lines, a progress line with the time left, weights at the end.
//
// Folder: recipe.yaml (with what options added to it), checkpoint.safetensors, metrics.jsonl (one line a step or
// validation), weights.safetensors (averaged).
// Thread safety: one run a folder.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::train {

struct TrainRunOptions {
    std::filesystem::path config;    ///< the recipe
    std::filesystem::path out;       ///< made if it is not there
    std::filesystem::path from;      ///< adds init.weights to the recipe
    bool freeze_backbone = false;    ///< adds freeze_backbone to the recipe
    std::vector<std::string> heads;  ///< if any, adds train_heads to the recipe
    std::filesystem::path shapes;    ///< folder of the phantoms' sources
    bool resume = false;             ///< go on from out/checkpoint.safetensors
    std::string device = "cpu";      ///< cpu | cuda | cuda:N
    int threads = 1;
    std::filesystem::path bundle;  ///< if set, a finished run is written into this bundle (bundle_export.h)
    std::map<std::string, std::string> record;  ///< for the bundle's training record
    std::function<bool()> stop;                 ///< asked after each step; true ends the run with a checkpoint
    std::function<void()> validated;            ///< called after each validation: metrics.jsonl has new figures
    std::function<void(std::string)> print;     ///< a line for people
};

/// Config: recipe, shapes or checkpoint are wrong, or the folder holds a run and `resume` was not asked for.
Result<void> train_run(const TrainRunOptions& options);

}  // namespace cardionode::train
