// The real parts of a night: transport, methods, privacy, local data, the clinic's queue. For the program and for
// `cardionode fed dry-run`; tests of the states use parts of their own.
//
// Thread safety: one call a process at a time.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "conf/base/result.h"
#include "fedclient/round/night.h"
#include "fedclient/round/settings.h"

namespace cardionode::fed {

/// @param settings  must outlive what is returned; @param stop  true: the program shall end
NightParts real_parts(const FederatedNode& settings, std::function<bool()> stop,
                      std::function<void(std::string)> print);

/// The kind of transport that the settings name.
Result<std::unique_ptr<Transport>> open_transport(const FederatedSettings& settings);

/// Weights into a copy of a bundle (promotion.h): as float16, with the local recipe.
Result<void> put_weights(const FederatedSettings& settings, const ModelSettings& model,
                         const std::filesystem::path& weights, const std::filesystem::path& target,
                         const std::map<std::string, std::string>& record);

/// Of all nights in the ledger; infinite when one was sent without noise; 0: nothing was sent.
Result<double> spent_epsilon(const FederatedSettings& settings);

}  // namespace cardionode::fed
