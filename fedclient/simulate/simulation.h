// A federation on one machine, on phantoms: does it beat each hospital alone, do teachers help, does weighting by head?
//
// Per network (UNet, SwinUNETR) four arms: local (each hospital with labels alone), fed (per-head weights), fedavg (one
// weight a hospital for every tensor), kd (teachers per label type, federated; then a student on all studies of all
// hospitals). Every arm of one seed has the same phantoms, start weights, order of windows, number of steps and
// schedule. Tested once, after the last step, on hospitals that never train ("other") and on the test studies of those
// that do ("train"). README.md beside this file has the plan: measures, directions, tests.
//
// Folder: seed-N/<arm>/score.json and weights, an arm each; seed-N/seed.json when all arms are done; results.json and
// results.md of all seeds that are done. A killed run goes on; seeds may be split over processes that share the folder.
// Thread safety: one process a seed. Errors: Config for a wrong configuration or a folder of another one; Retry when
// stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

struct SimulationRun {
    std::filesystem::path config, out, shapes;
    std::int64_t first_seed = 1;
    int seeds = 5;
    int threads = 1;
    std::function<bool()> stop;              ///< asked after each step; true ends the run, to be gone on with
    std::function<void(std::string)> print;  ///< a line for people
};

/// Runs the seeds and gathers all seeds of the folder that are done: {"fingerprint", "hospitals", "heads", "schedules",
/// "seeds": [{"seed", "arms": {arm: {measure: value, ...}}}], "tests"}.
Result<nlohmann::json> simulate(const SimulationRun& run);

/// The tables in Markdown.
std::string simulation_markdown(const nlohmann::json& results);

/// Arms of the results, in the order of the tables.
std::vector<std::string> simulated_arms(const nlohmann::json& results);

/// The paired tests of the plan over the seeds. Empty for no seed.
nlohmann::json simulation_tests(const nlohmann::json& seeds, const std::vector<std::string>& few_label_heads);

}  // namespace cardionode::fed
