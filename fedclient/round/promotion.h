// From a staged global model to the bundle that the pipeline runs: a local decision, one command to go back.
//
//   <promotion.folder>/<model id>/versions/0004-<record>/   a whole bundle: manifest, weights, facts.json
//   <promotion.folder>/<model id>/current -> versions/0004-<record>     replaced atomically (symlink, rename)
//   <promotion.folder>/<model id>/history.jsonl             a line for each promotion and each way back
// A version is made beside, loaded for a check, then renamed into place, then linked: a crash leaves the old `current`
// or the new one. pipeline.bundle may name `current`; the pipeline takes it up when it starts.
// Thread safety: one process at a time (a lock in the folder). Errors: Reject where the thresholds say no, Config,
// Retry of files.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "fedclient/round/settings.h"
#include "fedclient/round/store.h"

namespace cardionode::fed {

/// Puts weights into the bundle folder `target`, which holds a copy of the model's bundle, so that it loads.
using PutWeights =
    std::function<Result<void>(const ModelSettings& model, const std::filesystem::path& weights,
                               const std::filesystem::path& target, const std::map<std::string, std::string>& record)>;

struct PromotionLine {
    Moment at{};
    std::string action;     ///< promote | rollback
    std::string by;         ///< account, or "automatic"
    std::string version;    ///< folder below versions/
    std::string record_id;  ///< of the global model; empty: the first bundle
    std::string weights_sha256;
    std::int64_t round = 0;
    std::optional<Validation> validation;
    std::string note;  ///< "in spite of: ..." where somebody insisted
};

/// Why the model may not go live by the settings' thresholds; empty: it may.
std::string below_thresholds(const Validation& validation, const PromotionSettings& settings);

struct PromotionRequest {
    std::string by;
    std::string record;   ///< first digits of the record id; empty: the newest that is staged
    bool insist = false;  ///< go live although the thresholds say no
};

/// @return the new version. Reject: nothing staged, below the thresholds, live already.
Result<PromotionLine> promote(const FederatedSettings& settings, const ModelSettings& model,
                              const std::vector<AcceptedModel>& accepted, const PromotionRequest& request,
                              const PutWeights& put_weights, const Clock& clock = system_clock());
/// The version before the one in use, or the one named by its first characters.
Result<PromotionLine> roll_back(const FederatedSettings& settings, const ModelSettings& model,
                                const std::string& version, const std::string& by, const Clock& clock = system_clock());
/// Oldest first; empty where nothing was ever promoted.
Result<std::vector<PromotionLine>> promotions(const FederatedSettings& settings, const ModelSettings& model);
/// The version that `current` names; empty: none.
std::string current_version(const FederatedSettings& settings, const ModelSettings& model);
std::filesystem::path promotion_folder(const FederatedSettings& settings, const ModelSettings& model);

}  // namespace cardionode::fed
