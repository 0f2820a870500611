// The arms of one seed of a simulation. Internal to fedclient/simulate.
//
// Thread safety, errors: as simulation.h.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "fedclient/simulate/federation.h"
#include "fedclient/simulate/simulation.h"
#include "fedclient/simulate/simulation_config.h"

namespace cardionode::fed {

/// A seed while it runs.
struct Bench {
    const SimulationRun& run;
    const SimulationConfig& config;
    PhantomHospitals& hospitals;
    std::int64_t seed;
    std::filesystem::path folder;  ///< of the seed

    void print(const std::string& line) const {
        if (run.print) run.print(line);
    }
    const std::vector<HospitalOptions>& sites() const { return config.hospitals.hospitals; }
    std::vector<std::string> heads() const;
    /// Hospitals that train and, if `labelled`, have labels; if a head is named, of it.
    std::vector<std::size_t> training(bool labelled, const std::string& head = {}) const;
    std::vector<std::string> own_heads(std::size_t site) const;
    std::uint64_t stream(std::uint64_t which) const;  ///< a seed of the seed's
    /// The file of start weights, made when it is not there yet.
    Result<std::filesystem::path> start(const std::string& name, const train::Recipe& recipe,
                                        std::uint64_t which) const;
    Federation federation(const SimulatedNetwork& network, const std::string& arm) const;
};

/// {"seed", "arms", "blind", "labelled_by_teachers"}. Arms that have their score.json are read.
Result<nlohmann::json> run_arms(const Bench& bench);

}  // namespace cardionode::fed
