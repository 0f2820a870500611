// The messages of a round as objects: RecordDict {"arrays", "teacher/<head>"..., "config"} and the contract in
// "config".
//
// Contract (ConfigRecord): fed-schema 1, model-id, arch-sha256, base-model (id of "arrays"), round, server-round,
// method, heads, deadline (seconds since 1970), clip-norm, dp-sigma, min-client, steps, learning-rate, proximal-mu,
// seed, issue, signature (Ed25519, base64, over model-id, round and base-model); for each teacher teacher/<head> (the
// id of its ArrayRecord, always) and signature/<head> (over "<model-id>/teacher/<head>", round and that id). Thread
// safety: functions on a store. Errors: Config for a signing key, else as object_store.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fedclient/coordinator/coordinator_store.h"
#include "fedclient/coordinator/faults.h"
#include "fedclient/coordinator/run_settings.h"
#include "fedclient/flower/object_store.h"
#include "fedclient/flower/record.h"

namespace cardionode::fed {

struct OrderWish {
    std::uint64_t run_id = 0, node_id = 0;
    std::int64_t round = 0;
    std::string phase;       ///< train | evaluate
    std::int64_t issue = 1;  ///< counts the messages to one site about one thing, so that each has its own id
    std::string arrays;      ///< id of the ArrayRecord
    Moment now, deadline;
    double ttl_seconds = 0;
    std::map<std::string, std::string> teachers;  ///< head -> id of the ArrayRecord, all of them
    std::vector<std::string> send_teachers;       ///< heads whose teachers travel with this message
};

struct BuiltOrder {
    std::string message_id;
    std::vector<std::string> objects;  ///< all below and the message itself
};

Result<Record> order_config(const RunSettings& settings, const OrderWish& wish, Faults& faults);
/// Writes the small objects; those of the weights must be in the store.
Result<BuiltOrder> build_order(const RunSettings& settings, const OrderWish& wish, const ObjectStore& objects,
                               Faults& faults);

}  // namespace cardionode::fed
