// The program cardionode-pipeline: its start, its threads, its end.
//
// Threads: "analyser" takes studies from the queue and runs the model; "sender-<name>", one a destination, sends the
// outbox; each has a lease keeper beside it; "metrics" answers Prometheus and health checks; the main thread waits for
// signals and tells the service manager that the others are alive. SIGTERM or SIGINT: the study at hand is given back
// at the next window of the model, an output on its way is finished, exit 0.
#pragma once

#include <filesystem>

namespace cardionode {

/// Runs until a signal. @return exit code: 0 asked to stop; 1 trouble that may pass (queue busy, memory or disk full);
/// 2 settings, bundle or installation are wrong: told on standard error, by file, line and key where there is one
int run_pipeline_service(const std::filesystem::path& config_file);

}  // namespace cardionode
