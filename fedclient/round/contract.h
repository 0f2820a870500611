// What a coordinator asks of a hospital: the names in the ConfigRecord "config" of a message, read and checked.
//
//   fed-schema      1; another number is another contract, and the message is refused
//   model-id        which of the settings' models
//   round           counts all rounds of that model, over all runs; never goes down
//   arch-sha256     of the network (methods/local_round.h)
//   base-model      object id of the ArrayRecord "arrays" that travels beside; may be absent
//   signature       Ed25519, base64 (privacy/inbound.h), over model-id, round and that id; "signature/<head>" for
//                   the ArrayRecord "teacher/<head>", over "<model-id>/teacher/<head>", round and its id
//   teacher/<head>  object id of a teacher; one that the node has from an earlier round need not travel again
//   method, heads, steps, learning-rate, proximal-mu, seed      methods/local_round.h: RoundPlan
//   deadline        seconds since 1970; absent or 0: created_at + ttl of the message
//   clip-norm, dp-sigma, min-client      what the consortium suggests; the hospital's own rules hold, these are shown
// Thread safety: values and pure functions. Errors: Reject with a reason that may be sent back.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "conf/base/result.h"
#include "fedclient/flower/transport.h"
#include "fedclient/methods/local_round.h"
#include "fedclient/round/settings.h"

namespace cardionode::fed {

inline constexpr std::int64_t kFedSchema = 1;

struct RoundOrder {
    RoundPlan plan;
    std::string architecture, base_model, signature;
    std::map<std::string, std::string> teacher_signatures;  ///< by head
    std::map<std::string, std::string> teacher_records;     ///< head -> object id of "teacher/<head>", sent or not
    double deadline = 0;                                    ///< 0: none of its own
    double clip_norm = 0, noise = 0;                        ///< suggestions, for people
};

/// @param arrays  what travelled beside
Result<RoundOrder> read_order(const Incoming& message, const Pulled& content);

/// Whether the hospital's settings allow it.
Result<void> within_bounds(const RoundOrder& order, const FederatedSettings& settings);

/// The same round of the same model with the same plan: whoever asks again gets the same answer.
std::string round_key(const Incoming& message, const RoundOrder& order, const std::string& record_id);

}  // namespace cardionode::fed
