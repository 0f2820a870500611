// The whole coordinator in one object: server, rounds, status page. For cardionode-fedcoord, tests and the simulation.
//
// Threads: the servers' workers, and one that ticks the rounds; the destructor ends them. What is in the folder goes on
// after kill -9. Thread safety: all methods from any thread. Errors: Config for settings, ports, PEM files, weights and
// for a folder that is in use or of another run.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "fedclient/coordinator/faults.h"
#include "fedclient/coordinator/run_settings.h"

namespace cardionode::fed {

struct CoordinatorOptions {
    RunSettings settings;
    std::filesystem::path folder;     ///< database, objects, models, updates
    std::vector<std::string> faults;  ///< faults.h
    const Clock* clock = nullptr;     ///< none: the system's
    bool own_ticks = true;            ///< false: only tick() moves the rounds
};

class Coordinator {
public:
    static Result<std::unique_ptr<Coordinator>> start(CoordinatorOptions options);
    ~Coordinator();
    Coordinator(const Coordinator&) = delete;
    Coordinator& operator=(const Coordinator&) = delete;

    int port() const;
    std::string url() const;  ///< "https://127.0.0.1:8000"; without TLS http
    /// Takes answers and moves the rounds on, once, now.
    Result<void> tick();
    /// status.h
    Result<std::string> status() const;
    /// The run is finished or stopped.
    bool finished() const;
    /// The global model's file.
    Result<std::filesystem::path> model() const;
    Faults& faults();

private:
    struct State;
    explicit Coordinator(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// coordinator.db in a coordinator's folder, for `cardionode-fedcoord status`.
std::filesystem::path coordinator_database(const std::filesystem::path& folder);

}  // namespace cardionode::fed
