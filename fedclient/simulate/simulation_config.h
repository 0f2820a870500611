// What a simulated federation is made of, read from YAML (paper-unet.yaml beside this file). `cardionode simulate`.
//
// Thread safety: values. Errors: Config, with file:line: key for every problem.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "fedclient/methods/phantom_hospitals.h"
#include "models/train/recipe.h"

namespace cardionode::fed {

/// The rounds of one network's federation.
struct RoundSchedule {
    std::int64_t rounds = 5, steps = 10;       ///< steps: of each hospital in each round
    double learning_rate = 1e-3;               ///< of the first round; falls over the rounds as a cosine
    double last_share = 0.1;                   ///< of it in the last round
    double rate_of(std::int64_t round) const;  ///< round: 1..rounds
};

struct SimulatedNetwork {
    std::string name;  ///< unet | swin
    train::Recipe recipe;
    RoundSchedule schedule;
};

struct SimulationConfig {
    PhantomHospitalsOptions hospitals;
    SimulatedNetwork teacher;  ///< one network for each of its heads
    std::vector<SimulatedNetwork> networks;
    std::vector<std::string> arms = {"local", "fed", "fedavg", "kd"};  ///< of each network those that are run
    std::vector<std::string> few_label_heads;                          ///< what the second question asks about
    double hit_mm = 5;  ///< a point that is found within it counts as hit
    double proximal_mu = 0;
    std::string fingerprint;  ///< SHA-256 of all the files it was read from
};

Result<SimulationConfig> load_simulation(const std::filesystem::path& file);

}  // namespace cardionode::fed
