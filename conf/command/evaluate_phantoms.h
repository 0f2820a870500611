// `cardionode evaluate phantoms`: a bundle on phantoms that no training can have drawn, from the HU volume on through
// the node's own stages. The work behind the command, apart so that tests can call it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

struct EvaluatePhantomsOptions {
    std::filesystem::path bundle, out, shapes;
    int edition = 4;                    ///< of the phantoms
    std::string profiles = "training";  ///< scanner profiles of edition 2: training | held_out | all
    double non_contrast = 0.06;         ///< share of phantoms without contrast agent
    int count = 200;
    std::uint64_t first_seed = 0;
    std::vector<double> size_mm = {160, 160, 144};  ///< of the scan: left-right, front-back, head-foot
    double spacing_mm = 1;
    std::string test_time_shifts = "shift";  ///< as pipeline.test_time_shifts
    int jobs = 1;
    int worst = 3;  ///< pictures of the worst cases
    std::string device = "cpu";
    std::function<bool()> stop;                     ///< asked before each case
    std::function<void(const std::string&)> print;  ///< a line for the terminal
};

/// Writes into `out`: evaluation.json (what was asked for), cases.jsonl (a line a case, at once), and at the end
/// summary.json, table.md, distribution.png, worst_1.png ... A folder of the same evaluation is gone on with; cases
/// that stand in it are not computed again. Config: the folder holds another evaluation, the bundle does not load;
/// Retry: stopped, disk or memory full.
Result<void> evaluate_phantoms(const EvaluatePhantomsOptions& options);

}  // namespace cardionode
