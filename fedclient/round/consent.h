// What would leave the hospital, in plain words, and whether somebody said yes to it.
//
// The answer holds for exactly the words that were shown: their SHA-256 is kept with it, so that wider settings need a
// new answer. consent.json in the state folder. Thread safety: functions on files.
// Errors: Config, Retry of the file.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "fedclient/round/settings.h"

namespace cardionode::fed {

/// Lines of at most 100 characters, the same for the same settings.
std::string what_would_leave(const FederatedSettings& settings);

struct Consent {
    bool given = false;
    std::string by;  ///< who answered: the operating system's account
    Moment at{};
    std::string text_sha256;
};

/// none: nobody was asked yet.
Result<std::optional<Consent>> read_consent(const std::filesystem::path& state);
Result<void> write_consent(const std::filesystem::path& state, const Consent& consent);

enum class ConsentState { NeverAsked, Refused, Outdated, Given };
/// Outdated: the settings have changed what would leave since the answer.
Result<ConsentState> consent_state(const FederatedSettings& settings);

}  // namespace cardionode::fed
