// What the hospital lets out: the chain that every update passes before it is sent. The hospital owns it; no server
// setting can switch a step off or widen it.
//
// Order: allow-list of tensor names -> heads without own labels leave as they came -> finite check -> L2 clip of the
// change per group (each head, and the body) to clip_norm -> Gaussian noise of noise_multiplier * clip_norm, booked in
// the ledger -> float32 weights = base + change. Refused: fewer patients than minimum_patients, a budget that is spent.
// Sources: the orders and their reasons in Dwork & Roth 2014 (Gaussian mechanism), Mironov 2017 (RDP).
// What the ledger's epsilon means: it bounds what the weights tell about any one patient, and about the hospital's
// taking part at all. A group's change has at most the norm clip_norm with or without a patient, so the two differ by
// at most 2 * clip_norm, and by sqrt(groups) times that over all groups: booked_multiplier. It does not cover counts
// and metrics that are sent beside the weights. Only floating tensors leave, as F32, without the file's metadata:
// integer buffers stay here. Memory: 1 MiB of each file; three passes over the files. `out` appears whole or not at
// all. Thread safety: functions on files. Errors: Reject with the reason where the hospital's rule says no; Config for
// rules or weights that cannot be, and, with Retry, as models/weights/tensor_file.h; Bug for tensors that do not fit
// together.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

struct OutboundRules {
    std::vector<std::string> allowed = {"*"};  ///< glob patterns of tensor names that may leave
    double clip_norm = 10;                     ///< largest L2 norm of a group's change; always on
    double noise_multiplier = 0;               ///< sd of the noise over clip_norm; 0: none
    std::int64_t minimum_patients = 5;         ///< of the round's training data
    std::int64_t count_step = 5;  ///< counts are sent rounded to multiples of this where below 50; 1: exact
};

struct OutboundReport {
    /// By group, "body" or a head, of those that learned: of the change as trained; as it leaves, with its noise.
    std::map<std::string, double> norm_before, norm_after;
    std::vector<std::string> withheld;  ///< tensors that were not allowed: sent as pulled
    bool noised = false;
    double booked_multiplier = 0;  ///< noise_multiplier / (2 sqrt(groups)), for LedgerEntry; 0 without noise
};

/// @param base     what was pulled; @param trained  what training made of it: the same floating tensors
/// @param learned  heads with own labels; the tensors of the others are the pulled ones
/// @param seed     of the noise. 0: from OpenSSL's random generator, the only way outside of tests; else reproducible
Result<OutboundReport> filter_update(const std::filesystem::path& base, const std::filesystem::path& trained,
                                     const std::vector<std::string>& learned, std::int64_t patients,
                                     const OutboundRules& rules, std::uint64_t seed, const std::filesystem::path& out);

/// A count as it may be sent: rounded to the nearest multiple of `step` where below 50.
std::int64_t sent_count(std::int64_t count, std::int64_t step);

}  // namespace cardionode::fed
