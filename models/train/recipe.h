// The recipe of a training run: everything that decides its weights, read from YAML. `cardionode train --config`.
//
// Thread safety: values. Errors of load_recipe: Config, with file:line: key for every problem.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/bundle.h"

namespace cardionode::train {

struct HeadRecipe {
    std::string name;
    int classes = 1;                       ///< without background
    double weight = 1;                     ///< of its loss in the sum
    double foreground_weight = 1;          ///< of foreground classes in its cross entropy
    std::map<std::int64_t, double> later;  ///< step (0-based) -> the weight from there on
    double foreground_weight_at(std::int64_t step) const {
        double weight = foreground_weight;
        for (const auto& [from, changed] : later) {
            if (step >= from) weight = changed;
        }
        return weight;
    }
};

/// Which phantoms are drawn (models/train/phantom.h).
struct PhantomRecipe {
    int edition = 1;
    std::string profiles = "training";  ///< training | held_out | all; edition 2
};

/// How windows of studies are changed (study_augment.h): the probability of each kind, and how far it goes.
struct AugmentRecipe {
    double rotate = 0.2, rotate_degrees = 5;               ///< sd of the angle round each axis
    double scale = 0.2, scale_most = 1.15;                 ///< as much larger or smaller
    double blur = 0.2, blur_voxels = 1;                    ///< largest sigma
    double low_resolution = 0.2, low_resolution_most = 2;  ///< voxels as much larger
    double gamma = 0.2, gamma_most = 1.5;                  ///< exponent from 1 / this to this
    double noise = 0.2, noise_most = 0.03;                 ///< largest sd, of the clip range
    double contrast = 0.2, contrast_width = 0.05;          ///< sd of the factor's logarithm
};

/// Studies on disk, beside the phantoms.
struct DataRecipe {
    std::filesystem::path studies;  ///< folder of study files (study_file.h), from the recipe's folder on; empty: none
    double share = 0.5;             ///< of the windows that are a study's; the others are phantoms'
    double holdout = 0.2;           ///< of the patients: never trained on, for validation
    std::int64_t split_seed = 0;    ///< decides who is held out, together with the patient
    double rare_share = 0.66;       ///< of the studies' windows that hold a rare structure
};

struct Recipe {
    std::uint64_t seed = 1;
    std::int64_t steps = 1000;              ///< of the whole run
    std::int64_t batch = 1;                 ///< windows a step
    std::array<int, 3> window{64, 64, 64};  ///< D, H, W
    /// chest: mostly with the root well inside, sometimes elsewhere; root: the root's centre within root_jitter_mm of
    /// the window's along each axis, for networks that take a second look at the root.
    std::string placement = "chest";
    double root_jitter_mm = 12;
    /// float32, or bfloat16: convolutions and their gradients in mixed precision (parameters and loss stay float32).
    std::string precision = "float32";
    ArchitectureManifest architecture;
    InputManifest input;
    /// Weights to start from: a safetensors file, a checkpoint of torch.save or a bundle's folder, from the recipe's
    /// folder on. The body must fit; heads that the file does not hold start fresh. Empty: all weights start fresh.
    std::filesystem::path init_weights;
    /// Only the last layers (of full resolution) of train_heads learn; everything else stays as it is, bit for bit.
    bool freeze_backbone = false;
    /// The heads that learn; empty: all. One that is not among `heads` is added, with one class.
    std::vector<std::string> train_heads;
    bool learns(const std::string& head) const {
        return train_heads.empty() || std::find(train_heads.begin(), train_heads.end(), head) != train_heads.end();
    }
    std::vector<HeadRecipe> heads;
    DataRecipe data;
    AugmentRecipe augment;
    std::vector<double> level_weights = {1, 0.5, 0.25};  ///< deep supervision, fine to coarse

    double learning_rate = 1e-3, weight_decay = 0.01, clip_norm = 12;
    std::int64_t warm_up = 100;       ///< steps of linear rise
    std::int64_t decay_from = 0;      ///< first step of the fall
    std::string schedule = "cosine";  ///< constant | linear | cosine: the fall from decay_from to the last step
    /// A later part of the run: from from_step on the rate starts again and falls as a cosine towards `until`. The next
    /// part may begin before that. The fall above ends where the first part begins.
    struct FineTune {
        std::int64_t from_step = 0;
        double learning_rate = 0;
        std::int64_t until = 0;
    };
    std::vector<FineTune> fine_tune;  ///< by from_step
    double ema_decay = 0.995;         ///< of the averaged weights that are exported; 0: none

    std::int64_t checkpoint_every = 200, validate_every = 200;
    int validation_phantoms = 12;
    double ball_radius_mm = 5, septum_ball_radius_mm = 4, non_contrast_share = 0.06;
    PhantomRecipe phantoms;                                ///< of the first step, and of every validation
    std::map<std::int64_t, PhantomRecipe> later_phantoms;  ///< step (0-based) -> from there on
    const PhantomRecipe& phantoms_at(std::int64_t step) const {
        const auto next = later_phantoms.upper_bound(step);
        return next == later_phantoms.begin() ? phantoms : std::prev(next)->second;
    }
};

Result<Recipe> load_recipe(const std::filesystem::path& file);
/// @param folder  what paths in the text start from
Result<Recipe> parse_recipe(std::string_view yaml, const std::string& name_for_messages,
                            const std::filesystem::path& folder = {});

/// The learning rate of a step (0-based).
double learning_rate_at(const Recipe& recipe, std::int64_t step);

}  // namespace cardionode::train
