// What a site answered, read out of its objects: weights as a safetensors file, numbers as JSON.
//
// A train reply holds exactly the ArrayRecord "arrays" and the MetricRecord "metrics" (num-examples, n/<head>,
// n/unlabelled, before/<head>, after/<head>), an evaluate reply the MetricRecord alone; further ConfigRecords are let
// through unread. Thread safety: functions on a store. Errors: Reject for a reply that breaks the contract.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "fedclient/coordinator/aggregate.h"
#include "fedclient/flower/object_store.h"

namespace cardionode::fed {

/// @param weights  where the update goes; not written for an evaluate reply
/// @return         the numbers of "metrics"
Result<std::map<std::string, double>> read_reply(const ObjectStore& objects, const std::string& reply_id,
                                                 const std::string& phase, const std::filesystem::path& weights);

std::string metrics_json(const std::map<std::string, double>& metrics);  ///< null for what is not finite
std::map<std::string, double> parse_metrics(const std::string& json);

/// n/<head> and n/unlabelled; without any n/<head>, num-examples counts for the whole model.
SiteUpdate update_of(const std::string& site, const std::filesystem::path& weights,
                     const std::map<std::string, double>& metrics);

}  // namespace cardionode::fed
