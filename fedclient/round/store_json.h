// Parts of the rows as JSON. Inside fedclient/round, and for the operator's reports.
//
// A number that is infinite (a point that is never found) is null. Thread safety: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "conf/base/result.h"
#include "fedclient/methods/local_round.h"
#include "fedclient/round/store.h"

namespace cardionode::fed {

nlohmann::ordered_json to_json(const Validation& validation);
Validation validation_from(const nlohmann::ordered_json& json);  ///< throws nlohmann's exceptions
std::string to_text(const MessageRow& row);                      ///< all that is no column of its own
/// Bug: no such text.
Result<void> from_text(const std::string& text, MessageRow& row);

}  // namespace cardionode::fed
