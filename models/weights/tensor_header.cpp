#include "models/weights/tensor_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

namespace cardionode {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 7> kDtypes = {
    {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"U8", 1}}};

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

Result<TensorEntry> entry_from(const std::string& name, const json& item, const TensorFileLimits& limits) {
    const std::string who = "tensor " + shown(name);
    if (name.empty() || name.size() > limits.name_bytes || !printable(name)) {
        return config_error(who + ": the name is empty, too long or not printable");
    }
    if (!item.is_object() || item.size() != 3 || !item.contains("dtype") || !item.contains("shape") ||
        !item.contains("data_offsets")) {
        return config_error(who + ": expected exactly dtype, shape and data_offsets");
    }
    TensorEntry entry;
    entry.name = name;
    const json& dtype = item["dtype"];
    const std::string word = dtype.is_string() ? dtype.get<std::string>() : std::string();
    std::uint64_t bytes = element_bytes(word);
    if (bytes == 0) {
        return config_error(who + ": unknown dtype " + shown(word) + ", expected F64, F32, F16, BF16, I64, I32 or U8");
    }
    entry.dtype = word;
    const json& shape = item["shape"];
    if (!shape.is_array() || shape.size() > limits.dimensions) {
        return config_error(who + ": shape is not a list of at most " + std::to_string(limits.dimensions) + " sizes");
    }
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
    entry.bytes = bytes;
    const auto end = offsets[1].get<std::uint64_t>();
    if (end < entry.begin || end - entry.begin != bytes) {
        return config_error(who + ": data_offsets do not hold the " + std::to_string(bytes) + " bytes of its shape");
    }
    return entry;
}

Result<json> parse_strictly(const std::string& text, const TensorFileLimits& limits) {
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

std::uint64_t element_bytes(std::string_view dtype) {
    const auto* found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return d.first == dtype; });
    return found == kDtypes.end() ? 0 : found->second;
}

Result<TensorHeader> parse_tensor_header(const std::string& text, std::uint64_t data_bytes,
                                         const TensorFileLimits& limits) {
    if (text.empty() || text.front() != '{') return config_error("header: does not start with '{'");
    auto parsed = parse_strictly(text, limits);
    if (!parsed) return std::move(parsed).error();
    TensorHeader header;
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
    std::sort(header.entries.begin(), header.entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
        return std::tie(a.begin, a.bytes, a.name) < std::tie(b.begin, b.bytes, b.name);
    });
    std::uint64_t at = 0;
    for (const TensorEntry& entry : header.entries) {
        if (entry.begin + entry.bytes > data_bytes) {
            return config_error("tensor " + shown(entry.name) + ": ends behind the file's end");
        }
        if (entry.begin < at) return config_error("tensor " + shown(entry.name) + ": overlaps another tensor");
        if (entry.begin > at) return config_error("tensor " + shown(entry.name) + ": a gap before its data");
        at = entry.begin + entry.bytes;
    }
    if (at != data_bytes) {
        return config_error("the file holds " + std::to_string(data_bytes) + " bytes of data, the header names " +
                            std::to_string(at));
    }
    return header;
}

}  // namespace cardionode
