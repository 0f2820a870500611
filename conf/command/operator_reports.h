// What an operator asks the queue: the texts and the JSON of `cardionode status`, `studies`, `show`, `retry`, `check`.
//
// No patient data is in the queue, so none is in a report; UIDs are shown only where they are asked for.
// Thread safety: functions without shared state; each opens the queue for itself, and never makes or migrates it.
// Errors: Config (settings, no database yet, no right to read it), Reject (unknown study, or one that cannot be tried
// again), Retry (the queue is busy).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "conf/base/time.h"

namespace cardionode {

struct OperatorOptions {
    std::filesystem::path config = "/etc/cardionode/node.yaml";
    bool json = false;
    bool uids = false;  ///< show: UIDs and the list of instances too
    int newest = 100;   ///< studies: how many; show: how many events
};

struct Report {
    std::string text;   ///< for standard output, with its line end
    int exit_code = 0;  ///< of the program
};

/// The settings alone: "FILE: ok", or every problem as "file:line: key: what was expected" and exit code 2.
Report check_report(const OperatorOptions& options);

Result<Report> status_report(const OperatorOptions& options, const Clock& clock = system_clock());
Result<Report> studies_report(const OperatorOptions& options, const Clock& clock = system_clock());
/// @param study  a key as people type it
Result<Report> show_report(const OperatorOptions& options, const std::string& study,
                           const Clock& clock = system_clock());
/// Puts each study back to work; those that cannot are named with the reason, and the exit code is 1.
/// @param studies  keys as people type them; empty: every study that was set aside
Result<Report> retry_report(const OperatorOptions& options, const std::vector<std::string>& studies,
                            const Clock& clock = system_clock());

}  // namespace cardionode
