// The experiments behind two claims of the FedKD paper, on phantoms, repeatable by one command.
//
// distillation: few labelled phantoms, many without labels. UNet teachers, one a label type, label the many; a student
//   trained on both against the same student trained on the few alone, with the UNet under both regimes as baseline and
//   the teachers themselves. Same steps, same schedule, same windows of the labelled ones, no selection of weights.
// frozen head: the bodies that learned from pseudo-labels stay as they are, only a new last layer learns.
// Both: several seeds (phantoms, weights and order all change with the seed), paired by seed, exact sign-flip test.
//
// Folder: seed-N/<arm>/{checkpoint,weights}.safetensors and score.json, an arm each; results.json, results.md. An arm
// that has its score.json is done; a killed run goes on. Thread safety: one run a folder.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::train {

struct ComparisonRun {
    std::filesystem::path config, out, shapes;
    std::filesystem::path bodies;  ///< frozen head: the folder of a finished distillation comparison of the same config
    int seeds = 5;
    int threads = 1;
    std::function<bool()> stop;              ///< asked after each step; true ends the run, to be gone on with
    std::function<void(std::string)> print;  ///< a line for people
};

/// Arms of the distillation comparison, in the order of the table.
inline constexpr const char* kTeachers = "teachers";
inline constexpr const char* kStudentLabelled = "student-labelled";
inline constexpr const char* kStudentPseudo = "student-pseudo";
inline constexpr const char* kBaselineLabelled = "baseline-labelled";
inline constexpr const char* kBaselinePseudo = "baseline-pseudo";
/// Arms of the frozen-head comparison.
inline constexpr const char* kFrozenStudent = "frozen-student";
inline constexpr const char* kFrozenBaseline = "frozen-baseline";

/// What was found: {"kind", "config", "seeds": [{"seed", "arms": {arm: {measure: value}}}], "tests": [...]}. Written to
/// out/results.json as well. Config: wrong recipe, or the folder holds a run of another config. Retry: stopped.
Result<nlohmann::json> compare_distillation(const ComparisonRun& run);
/// Config besides: `bodies` lacks the weights of a seed.
Result<nlohmann::json> compare_frozen_head(const ComparisonRun& run);

/// Tables in Markdown: every arm with all its values, then the paired tests.
std::string comparison_markdown(const nlohmann::json& results);

}  // namespace cardionode::train
