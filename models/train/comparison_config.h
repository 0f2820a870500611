// What a comparison is made of, read from YAML (models/train/comparisons/). `cardionode compare`.
//
// Thread safety: values. Errors: Config, with file:line: key for every problem.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/train/pseudo_labels.h"
#include "models/train/recipe.h"
#include "models/train/teacher_samples.h"

namespace cardionode::train {

struct ComparisonConfig {
    std::int64_t first_seed = 1;
    std::array<int, 3> study{40, 40, 40};  ///< voxels of a phantom (D, H, W); windows are cut out of it
    double root_jitter_mm = 6;             ///< of the study's centre round the root's
    int labelled = 12;                     ///< phantoms
    int labels_each = 3;                   ///< of the teachers' heads; the head of phantom i is i, i + 1, ... in turn
    int unlabelled = 100;
    int test = 40;          ///< windows, the same for every seed and arm
    double missed_mm = 20;  ///< what a point that is not found counts, and the most that a found one counts
    double labelled_share = 0.25;
    Jitter jitter;
    PseudoLabelOptions pseudo;
    Recipe teacher, student, baseline;  ///< teacher: its heads become one network each
    /// Of student-labelled, student-pseudo, baseline-labelled and baseline-pseudo those that are run; the teachers
    /// always are.
    std::vector<std::string> arms = {"student-labelled", "student-pseudo", "baseline-labelled", "baseline-pseudo"};
    /// The frozen-body comparison; its recipes have the one head that is new.
    struct Frozen {
        int labelled = 8, test = 20;
        Recipe student, baseline;
        bool given = false;
    };
    Frozen frozen;
    std::string fingerprint;  ///< SHA-256 of all the files it was read from
};

Result<ComparisonConfig> load_comparison(const std::filesystem::path& file);

}  // namespace cardionode::train
