// What an operator asks about the federation: the texts and the JSON of `cardionode fed status`, `history`, `consent`,
// and of `cardionode models history`, `promote`, `rollback`.
//
// Nothing of a patient is in them. Thread safety: functions without shared state. Errors: Config (settings, no right to
// read), Reject (thresholds, nothing there), Retry (busy).
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "conf/command/operator_reports.h"
#include "fedclient/round/promotion.h"

namespace cardionode {

struct FedOptions {
    std::filesystem::path config = "/etc/cardionode/node.yaml";
    bool json = false;
    int newest = 20;      ///< history: rounds
    std::string message;  ///< history: first characters of one message: every step of it
    std::string answer;   ///< consent: yes | no | empty: show only
    std::string model;    ///< promote, rollback, models history: empty: the only one of the settings
    std::string version;  ///< promote: first digits of a record; rollback: of a version
    bool insist = false;  ///< promote
};

/// What the commands need of parts that link torch or keys; tests bring their own.
struct FedTools {
    std::function<Result<double>(const fed::FederatedSettings&)> spent_epsilon;
    std::function<Result<std::string>(const fed::FederatedSettings&, const fed::ModelSettings&)> local_data;
    std::function<Result<void>(const fed::FederatedSettings&, const fed::ModelSettings&, const std::filesystem::path&,
                               const std::filesystem::path&, const std::map<std::string, std::string>&)>
        put_weights;
};

Result<Report> fed_status_report(const FedOptions& options, const FedTools& tools, const Clock& clock = system_clock());
Result<Report> fed_history_report(const FedOptions& options, const Clock& clock = system_clock());
Result<Report> fed_consent_report(const FedOptions& options, const Clock& clock = system_clock());

Result<Report> promote_report(const FedOptions& options, const FedTools& tools, const Clock& clock = system_clock());
Result<Report> rollback_report(const FedOptions& options, const Clock& clock = system_clock());
Result<Report> promotions_report(const FedOptions& options, const Clock& clock = system_clock());

/// Account of the process, for histories.
std::string account();

}  // namespace cardionode
