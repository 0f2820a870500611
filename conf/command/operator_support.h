// Shared by the operator's reports. Inside conf/command.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "conf/base/node_settings.h"
#include "conf/command/operator_reports.h"
#include "scp/queue/queue.h"

namespace cardionode {

using Json = nlohmann::ordered_json;

/// JSON with two spaces and a line end; bytes that are no UTF-8 are replaced.
Report json_report(const Json& json);

Json json_moment(std::optional<Moment> moment);
Json json_of(const StudyRow& study);

/// The key as the queue writes it. Reject: it cannot be one.
Result<std::string> key_from(const std::string& typed);

/// Config: the problems, each a line of its own after the first.
Result<NodeSettings> settings_for(const OperatorOptions& options);

Result<Queue> open_queue(const NodeSettings& settings, QueueOptions::Mode mode, const Clock& clock);

/// "set aside" for StudyState::SetAside.
std::string word_for(StudyState state);
/// "2 of 5" outputs sent, "-" when there are none, "2 of 5, 1 set aside".
std::string outputs_in_words(const StudyRow& study);

}  // namespace cardionode
