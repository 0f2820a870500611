// Records as the bodies of ConfigRecord and MetricRecord objects (protobuf). The order of keys is that of the map, so
// that equal records have equal bytes and ids.
//
// Incoming bytes values are taken as text: the contract has none. Thread safety: pure functions.
// Errors: Reject for a body that is no such record; Bug for a word or truth value in a MetricRecord.
#pragma once

#include <string>
#include <string_view>

#include "conf/base/result.h"
#include "fedclient/flower/objects.h"
#include "fedclient/flower/record.h"

namespace cardionode::fed {

std::string config_body(const Record& record);
Result<std::string> metric_body(const Record& record);
Result<Record> parse_config_body(std::string_view body);
Result<Record> parse_metric_body(std::string_view body);

/// Whole objects.
std::string make_config_object(const Record& record);
Result<std::string> make_metric_object(const Record& record);
/// Of a ConfigRecord or MetricRecord object.
Result<Record> parse_record_object(const Object& object);

}  // namespace cardionode::fed
