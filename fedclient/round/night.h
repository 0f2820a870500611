// One night of the client: lock, consent, window, local data, what was left open, new messages, tidying up.
//
// At most one client works on a state folder: a second one ends at once (flock on <state>/lock, which the system drops
// when a process dies). Thread safety: one call a process. No exception leaves.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "fedclient/flower/transport.h"
#include "fedclient/round/settings.h"
#include "fedclient/round/store.h"
#include "fedclient/round/tools.h"

namespace cardionode::fed {

/// Exit codes of cardionode-fedclient. 75 and 78 are EX_TEMPFAIL and EX_CONFIG of sysexits.h.
enum class NightEnd : int {
    Done = 0,         ///< or nothing to do
    Alarm = 1,        ///< somebody should look
    RetryLater = 75,  ///< network, disk, asked to stop: the next night goes on
    Config = 78,      ///< settings, certificates, keys, consent
};

struct NightParts {
    std::function<Result<std::unique_ptr<Transport>>()> open_transport;
    RoundTools tools;
    /// Brings the study files up to date; a line for people. May be empty.
    std::function<Result<std::string>(const std::function<bool()>& stop)> refresh_data;
    /// At the end of a night in which a model was staged, where promotion is automatic. May be empty.
    std::function<Result<std::string>(const ModelSettings&)> promote;
    std::function<bool()> clinic_busy;
    std::function<bool()> stop;
    std::function<void(Milliseconds)> pause;
    std::function<void(std::string)> print;
};

struct NightOptions {
    bool now = false;      ///< outside the window too; until `wait_for_message_minutes` after the last message
    bool dry_run = false;  ///< everything but sending; asks for no consent
};

NightEnd run_night(const FederatedSettings& settings, const NightParts& parts, const NightOptions& options,
                   const Clock& clock = system_clock());

/// The end of the window that `now` is in, in this machine's time zone; none: outside.
std::optional<Moment> end_of_window(const WindowSettings& window, Moment now);

std::filesystem::path store_file(const FederatedSettings& settings);
/// Where the transport keeps messages.
std::filesystem::path messages_folder(const FederatedSettings& settings);

}  // namespace cardionode::fed
