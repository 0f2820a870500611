// What the hospital lets out: the chain that every update passes before it is sent. The hospital owns it; no server
// setting can switch a step off or widen it.
//
// Order: allow-list of tensor names -> heads without own labels leave as they came -> finite check -> L2 clip of the
// change per group (each head, and the body) to clip_norm -> Gaussian noise of noise_multiplier * clip_norm, booked in
// the ledger -> float32 weights = base + change. Refused: fewer patients than minimum_patients, a budget that is spent.
// Sources: the orders and their reasons in Dwork & Roth 2014 (Gaussian mechanism), Mironov 2017 (RDP).
// Memory: one group's change twice at most is never needed; two passes over the files, tensor by tensor.
// Thread safety: functions on files. Errors: Reject with the reason where the hospital's rule says no; Config, Retry as
// models/weights/tensor_file.h.
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
    std::map<std::string, double> norm_before, norm_after;  ///< by group: "body" or a head
    std::vector<std::string> withheld;                      ///< tensors that were not allowed: sent as pulled
    bool noised = false;
};

/// @param base     what was pulled; @param trained  what training made of it: the same floating tensors
/// @param learned  heads with own labels; the tensors of the others are the pulled ones
/// @param seed     of the noise: unpredictable outside of tests
Result<OutboundReport> filter_update(const std::filesystem::path& base, const std::filesystem::path& trained,
                                     const std::vector<std::string>& learned, std::int64_t patients,
                                     const OutboundRules& rules, std::uint64_t seed, const std::filesystem::path& out);

/// A count as it may be sent.
std::int64_t sent_count(std::int64_t count, std::int64_t step);

}  // namespace cardionode::fed
