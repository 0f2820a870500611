// What a round uses of the folders beside: methods, privacy. As functions, so that the machine of states is tested
// without torch and without keys; tools.cpp binds the real ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "fedclient/methods/local_round.h"
#include "fedclient/privacy/inbound.h"
#include "fedclient/privacy/outbound.h"
#include "fedclient/round/settings.h"

namespace cardionode::fed {

/// What is about to leave, for the ledger and the node's log.
struct Booking {
    std::string model_id, message_id;
    std::int64_t round = 0;
    double noise_multiplier = 0;                 ///< FilteredUpdate::booked_multiplier
    std::string sha256;                          ///< of the update
    std::string at;                              ///< UTC, ISO 8601
    std::map<std::string, std::int64_t> counts;  ///< as they are sent
    OutboundReport report;
};

struct FilteredUpdate {
    OutboundReport report;
    double booked_multiplier = 0;  ///< noise over what one patient may change in all groups; 0: no noise
};

struct RoundTools {
    using Path = std::filesystem::path;
    std::function<Result<LocalResult>(const LocalRound&)> train;
    std::function<Result<Validation>(const Path& recipe, const Path& weights)> validate;
    std::function<Result<std::string>(const Path& recipe)> architecture_hash;
    /// A file with exactly the floating tensors that a model must have.
    std::function<Result<Path>(const ModelSettings& model)> reference;
    std::function<Result<void>(const std::string& model_id, std::int64_t round, const std::string& record_id,
                               const std::string& signature)>
        verify;
    std::function<Result<double>(const Path& pulled, const Path& reference, const Path& previous, std::int64_t version,
                                 const InboundHistory& history)>
        check_inbound;
    std::function<Result<FilteredUpdate>(const Path& base, const Path& trained, const std::vector<std::string>& learned,
                                         std::int64_t patients, const Path& out)>
        filter;
    /// Books it durably, and says in the log what leaves. The same message and bytes are booked once.
    std::function<Result<void>(const Booking&)> book;
    std::function<std::int64_t(std::int64_t)> sent_count;
};

/// Heads of a model as its bundle's manifest has them, in order.
Result<std::vector<std::string>> heads_of(const ModelSettings& model);

/// The folders of methods and privacy, for these settings, which must outlive it.
RoundTools real_tools(const FederatedSettings& settings);

}  // namespace cardionode::fed
