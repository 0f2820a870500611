// What travels beside weights: small named values, as Flower's ConfigRecord and MetricRecord hold them.
//
// Thread safety: values. Header only, no protobuf.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cardionode::fed {

/// One value. A MetricRecord holds numbers and lists of numbers alone.
using RecordValue =
    std::variant<double, std::int64_t, std::uint64_t, bool, std::string, std::vector<double>, std::vector<std::int64_t>,
                 std::vector<std::uint64_t>, std::vector<bool>, std::vector<std::string>>;
using Record = std::map<std::string, RecordValue>;

/// The value under `key` if it is there and of that type.
template <class T>
std::optional<T> value_of(const Record& record, std::string_view key) {
    const auto found = record.find(std::string(key));
    if (found == record.end()) return std::nullopt;
    if (const T* value = std::get_if<T>(&found->second)) return *value;
    return std::nullopt;
}

/// A number of any of the three types as a double.
inline std::optional<double> number_of(const Record& record, std::string_view key) {
    if (const auto real = value_of<double>(record, key)) return real;
    if (const auto whole = value_of<std::int64_t>(record, key)) return static_cast<double>(*whole);
    if (const auto natural = value_of<std::uint64_t>(record, key)) return static_cast<double>(*natural);
    return std::nullopt;
}

}  // namespace cardionode::fed
