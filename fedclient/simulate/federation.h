// Rounds of one federation on one machine: every hospital learns, the coordinator's rules make the next global weights.
//
// After each round the weights and the account lie in the folder, durably: a killed run goes on with the next round.
// Thread safety: one run a folder. Errors: those of PhantomHospitals::learn and of aggregate; Retry when stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fedclient/coordinator/aggregate.h"
#include "fedclient/methods/phantom_hospitals.h"
#include "fedclient/simulate/simulation_config.h"

namespace cardionode::fed {

struct Federation {
    train::Recipe recipe;
    RoundSchedule schedule;
    std::vector<std::size_t> hospitals;  ///< that take part; one alone just goes on with its own weights
    bool with_teachers = false;          ///< they learn from the teachers' labels too
    AggregationRules rules;
    double proximal_mu = 0;
    std::uint64_t seed = 1;        ///< of the order of windows; hospital and round are mixed in
    std::filesystem::path start;   ///< global weights of round 1
    std::filesystem::path folder;  ///< of this federation
    /// What hospitals make of the start weights, shared by federations of equal recipe, schedule, seed and labels;
    /// empty: not shared.
    std::filesystem::path first_round;
    std::function<bool()> stop;              ///< asked after each step
    std::function<void(std::string)> print;  ///< a line for people
};

/// What it took. Bytes: of the weights' files; what HTTP and TLS add is not in it.
struct FederationAccount {
    std::int64_t rounds = 0, steps = 0, bytes_down = 0, bytes_up = 0;
    double cpu_seconds = 0;      ///< of all hospitals together
    double slowest_seconds = 0;  ///< sum over the rounds of the hospital that took longest: they work side by side
    void add(const FederationAccount& other);
};

struct Federated {
    std::filesystem::path weights;
    FederationAccount account;
};

Result<Federated> federate(const PhantomHospitals& hospitals, const Federation& federation);

}  // namespace cardionode::fed
