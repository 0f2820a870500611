// What a person wants to know of a run: JSON for programs, a table for a terminal.
//
//   {"model": "heart-root", "method": "fedavg", "run": "running", "round": 2, "state": "training",
//    "global": {"round": 1, "record": "<id>", "file": ".../round-0001.safetensors"},
//    "sites": [{"site": "aachen", "online": true, "last_seen": "2026-11-21T20:43:11.042Z"}],
//    "rounds": [{"round": 1, "state": "done", "reason": "", "started": "...", "ended": "...", "base": "<id>",
//                "record": "<id>", "train": [{"site", "state", "reason", "issues", "metrics": {"n/hps": 12, ...}}],
//                "evaluate": [same], "dropped": [{"site", "reason"}], "weights": {group: {site: share}},
//                "norms": {group: {site: norm}}, "unchanged_heads": [],
//                "validation": {head: {"before", "after", "sites"}}}],
//    "faults": {"happened": {name: times}, "due": {name: times}}}
// Round 0 of "global" means the initial weights. Thread safety: functions on a store.
#pragma once

#include <string>

#include "fedclient/coordinator/coordinator_store.h"
#include "fedclient/coordinator/faults.h"

namespace cardionode::fed {

/// @param faults  none: the member is left out
Result<std::string> status_json(CoordinatorStore& store, Moment now, const Faults* faults);
/// A few lines for a terminal, out of that JSON.
std::string status_table(const std::string& json);

}  // namespace cardionode::fed
