#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "models/weights/safetensors.h"

namespace cardionode {
namespace {

using nlohmann::json;

std::optional<torch::ScalarType> dtype_from(const std::string& word) {
    if (word == "F32") return torch::kFloat32;
    if (word == "F16") return torch::kFloat16;
    if (word == "BF16") return torch::kBFloat16;
    if (word == "F64") return torch::kFloat64;
    if (word == "I64") return torch::kInt64;
    if (word == "I32") return torch::kInt32;
    if (word == "U8") return torch::kUInt8;
    return std::nullopt;
}

/// A name as it may stand in a message: printable ASCII, not longer than a line.
std::string shown(const std::string& name) {
    std::string text = name.substr(0, 120);
    for (char& c : text) {
        if (c < 0x20 || c > 0x7e) c = '?';
    }
    return "'" + text + "'";
}

bool printable(const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

Result<SafetensorsEntry> entry_from(const std::string& name, const json& item, const SafetensorsLimits& limits) {
    const std::string who = "tensor " + shown(name);
    if (name.empty() || name.size() > limits.name_bytes || !printable(name)) {
        return config_error(who + ": the name is empty, too long or not printable");
    }
    if (!item.is_object() || item.size() != 3 || !item.contains("dtype") || !item.contains("shape") ||
        !item.contains("data_offsets")) {
        return config_error(who + ": expected exactly dtype, shape and data_offsets");
    }
    SafetensorsEntry entry;
    entry.name = name;
    const json& dtype = item["dtype"];
    const auto known = dtype.is_string() ? dtype_from(dtype.get<std::string>()) : std::nullopt;
    if (!known) {
        return config_error(who + ": unknown dtype " + (dtype.is_string() ? shown(dtype.get<std::string>()) : "") +
                            ", expected F64, F32, F16, BF16, I64, I32 or U8");
    }
    entry.dtype = *known;
    const json& shape = item["shape"];
    if (!shape.is_array() || shape.size() > limits.dimensions) {
        return config_error(who + ": shape is not a list of at most " + std::to_string(limits.dimensions) + " sizes");
    }
    std::uint64_t bytes = c10::elementSize(entry.dtype);
    bool empty = false;
    for (const json& size : shape) {
        if (!size.is_number_unsigned() || size.get<std::uint64_t>() > limits.file_bytes) {
            return config_error(who + ": a size of the shape is negative, not whole or too large");
        }
        const auto length = size.get<std::uint64_t>();
        entry.shape.push_back(static_cast<std::int64_t>(length));
        if (length == 0) empty = true;
        else if (bytes > limits.file_bytes / length) return config_error(who + ": the shape is too large");
        else bytes *= length;
    }
    if (empty) bytes = 0;
    const json& offsets = item["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned()) {
        return config_error(who + ": data_offsets is not a pair of whole numbers");
    }
    entry.begin = offsets[0].get<std::uint64_t>();
    entry.end = offsets[1].get<std::uint64_t>();
    if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
        return config_error(who + ": data_offsets do not hold the " + std::to_string(bytes) + " bytes of its shape");
    }
    return entry;
}

Result<json> parse_strictly(const std::string& text, const SafetensorsLimits& limits) {
    // A header is two levels deep (three with the lists). The parser would silently keep the last of two equal names.
    std::set<std::string> top, inner;
    std::string problem;
    const json::parser_callback_t watch = [&](int depth, json::parse_event_t event, json& parsed) {
        if (!problem.empty()) return false;
        if (depth > 3) problem = "nested too deeply";
        if (event == json::parse_event_t::object_start && depth == 1) inner.clear();
        if (event == json::parse_event_t::key) {
            const auto name = parsed.get<std::string>();
            if (!(depth == 1 ? top : inner).insert(name).second) problem = "the name " + shown(name) + " occurs twice";
            if (top.size() > limits.tensors + 1) problem = "too many tensors";
        }
        return problem.empty();
    };
    json parsed = json::parse(text, watch, /*allow_exceptions=*/false);
    if (!problem.empty()) return config_error("header: " + problem);
    if (!parsed.is_object()) return config_error("header: not a JSON object");
    return parsed;
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(const std::string& text, std::uint64_t data_bytes,
                                                   const SafetensorsLimits& limits) {
    if (text.empty() || text.front() != '{') return config_error("header: does not start with '{'");
    auto parsed = parse_strictly(text, limits);
    if (!parsed) return std::move(parsed).error();
    SafetensorsHeader header;
    for (const auto& [name, item] : parsed->items()) {
        if (name == "__metadata__") {
            if (!item.is_object()) return config_error("header: __metadata__ is not a mapping");
            for (const auto& [key, value] : item.items()) {
                if (!value.is_string()) return config_error("header: __metadata__ holds a value that is not a text");
                header.metadata[key] = value.get<std::string>();
            }
            continue;
        }
        auto entry = entry_from(name, item, limits);
        if (!entry) return std::move(entry).error();
        header.entries.push_back(std::move(*entry));
    }
    // An empty tensor shares its offset with the next one and must stand before it.
    std::sort(header.entries.begin(), header.entries.end(),
              [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    std::uint64_t at = 0;
    for (const SafetensorsEntry& entry : header.entries) {
        if (entry.end > data_bytes) return config_error("tensor " + shown(entry.name) + ": ends behind the file's end");
        if (entry.begin < at) return config_error("tensor " + shown(entry.name) + ": overlaps another tensor");
        if (entry.begin > at) return config_error("tensor " + shown(entry.name) + ": a gap before its data");
        at = entry.end;
    }
    if (at != data_bytes) {
        return config_error("the file holds " + std::to_string(data_bytes) + " bytes of data, the header names " +
                            std::to_string(at));
    }
    return header;
}

}  // namespace cardionode
