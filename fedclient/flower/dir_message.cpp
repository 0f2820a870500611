#include "fedclient/flower/dir_message.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

namespace cardionode::fed {
namespace {

using nlohmann::json;

constexpr int kDeepest = 4;  // configs -> record -> list -> value
constexpr std::size_t kMostRecords = 64, kMostValues = 10'000, kMostFiles = 64;

bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool is_sha256(std::string_view text) {
    return text.size() == 64 && std::all_of(text.begin(), text.end(),
                                            [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Result<json> parse_object(const std::string& text) {
    bool deep = false;
    const json::parser_callback_t watch = [&](int depth, json::parse_event_t, json&) {
        deep = deep || depth > kDeepest;
        return !deep;
    };
    json parsed = json::parse(text, watch, /*allow_exceptions=*/false);
    if (deep) return reject_error("nested too deeply");
    if (!parsed.is_object()) return reject_error("not a JSON object");
    return parsed;
}

template <class T>
Result<RecordValue> list_of(const json& list) {
    return RecordValue(list.get<std::vector<T>>());
}

bool all_of(const json& list, bool (*test)(const json&)) { return std::all_of(list.begin(), list.end(), test); }

bool fits_signed(const json& value) {
    return value.is_number_integer() &&
           (!value.is_number_unsigned() ||
            value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
}

Result<RecordValue> value_from(const json& value) {
    if (value.is_boolean()) return RecordValue(value.get<bool>());
    if (value.is_string()) return RecordValue(value.get<std::string>());
    if (fits_signed(value)) return RecordValue(value.get<std::int64_t>());
    if (value.is_number_unsigned()) return RecordValue(value.get<std::uint64_t>());
    if (value.is_number()) return RecordValue(value.get<double>());
    if (value.is_array()) {
        if (value.size() > kMostValues) return reject_error("a list is too long");
        if (all_of(value, [](const json& v) { return v.is_string(); })) return list_of<std::string>(value);
        if (all_of(value, [](const json& v) { return v.is_boolean(); })) return list_of<bool>(value);
        if (all_of(value, fits_signed)) return list_of<std::int64_t>(value);
        if (all_of(value, [](const json& v) { return v.is_number_unsigned(); })) return list_of<std::uint64_t>(value);
        if (all_of(value, [](const json& v) { return v.is_number(); })) return list_of<double>(value);
    }
    return reject_error("a value is neither number, text, true or false, nor a list of one of these");
}

bool is_number_value(const RecordValue& value) {
    return !std::holds_alternative<bool>(value) && !std::holds_alternative<std::string>(value) &&
           !std::holds_alternative<std::vector<bool>>(value) &&
           !std::holds_alternative<std::vector<std::string>>(value);
}

Result<std::map<std::string, Record>> records_from(const json& records, bool numbers_only) {
    if (!records.is_object() || records.size() > kMostRecords) return reject_error("not a mapping of records");
    std::map<std::string, Record> all;
    for (const auto& [name, record] : records.items()) {
        if (!record.is_object() || record.size() > kMostValues) {
            return reject_error(shown_text(name) + " is not a mapping of values");
        }
        for (const auto& [key, item] : record.items()) {
            auto value = value_from(item);
            const std::string who = shown_text(name) + ": " + shown_text(key);
            if (!value) return std::move(value).error().in(who);
            if (numbers_only && !is_number_value(*value)) return reject_error(who + ": metrics are numbers");
            all[name].emplace(key, std::move(*value));
        }
        all[name];  // an empty record is there as well
    }
    return all;
}

Result<std::map<std::string, std::string>> arrays_from(const json& arrays) {
    if (!arrays.is_object() || arrays.size() > kMostFiles) return reject_error("not a mapping of file names");
    std::map<std::string, std::string> files;
    for (const auto& [name, file] : arrays.items()) {
        if (!file.is_string() || !is_plain_name(file.get<std::string>()) ||
            !file.get<std::string>().ends_with(".safetensors")) {
            return reject_error(shown_text(name) + ": not the plain name of a .safetensors file of this folder");
        }
        files[name] = file.get<std::string>();
    }
    return files;
}

Result<void> read_metadata(const json& message, Incoming& incoming) {
    const auto text = [&](const char* key, bool needed) -> Result<std::string> {
        if (!message.contains(key) && !needed) return std::string();
        if (!message.contains(key) || !message[key].is_string()) return reject_error(std::string(key) + ": no text");
        auto value = message[key].get<std::string>();
        if (value.size() > 128) return reject_error(std::string(key) + ": longer than 128 characters");
        return value;
    };
    auto id = text("message_id", true), group = text("group_id", false), type = text("type", true);
    for (const auto* word : {&id, &group, &type}) {
        if (!*word) return Error(word->error());
    }
    if (!is_plain_name(*id)) return reject_error("message_id: other characters than letters, digits and . _ -");
    if (*type != "train" && *type != "evaluate" && *type != "query") {
        return reject_error("type: " + shown_text(*type) + " is not train, evaluate or query");
    }
    incoming.message_id = *id, incoming.group_id = *group, incoming.type = *type;
    if (message.contains("run_id")) {
        if (!message["run_id"].is_number_unsigned()) return reject_error("run_id: not a whole number of at least 0");
        incoming.run_id = message["run_id"].get<std::uint64_t>();
    }
    for (const auto& [key, target] : {std::pair{"created_at", &incoming.created_at}, {"ttl", &incoming.ttl}}) {
        if (!message.contains(key) || !message[key].is_number()) return reject_error(std::string(key) + ": no number");
        *target = message[key].get<double>();
        if (!std::isfinite(*target) || *target <= 0) return reject_error(std::string(key) + ": not above 0");
    }
    return {};
}

}  // namespace

bool is_plain_name(std::string_view name) {
    return !name.empty() && name.size() <= 128 && is_letter_or_digit(name.front()) &&
           std::all_of(name.begin(), name.end(),
                       [](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; });
}

std::string shown_text(std::string_view text) {
    std::string shown(text.substr(0, 80));
    for (char& c : shown) {
        if (c < 0x20 || c > 0x7e) c = '?';
    }
    return "'" + shown + "'";
}

Result<DirMessage> parse_dir_message(const std::string& text) {
    auto parsed = parse_object(text);
    if (!parsed) return std::move(parsed).error();
    const json& message = *parsed;
    static constexpr std::string_view kKnown[] = {"fed-dir",    "message_id", "group_id", "type",    "run_id",
                                                  "created_at", "ttl",        "arrays",   "configs", "metrics"};
    for (const auto& [key, value] : message.items()) {
        if (std::find(std::begin(kKnown), std::end(kKnown), key) == std::end(kKnown)) {
            return reject_error("unknown key " + shown_text(key));
        }
    }
    if (!message.contains("fed-dir") || message["fed-dir"] != 1)
        return reject_error("fed-dir: not 1, the known version");
    DirMessage result;
    if (auto read = read_metadata(message, result.incoming); !read) return std::move(read).error();
    if (message.contains("arrays")) {
        auto arrays = arrays_from(message["arrays"]);
        if (!arrays) return std::move(arrays).error().in("arrays");
        result.arrays = std::move(*arrays);
    }
    for (const auto& [key, target] : {std::pair{"configs", &result.configs}, {"metrics", &result.metrics}}) {
        if (!message.contains(key)) continue;
        auto records = records_from(message[key], key == std::string_view("metrics"));
        if (!records) return std::move(records).error().in(key);
        *target = std::move(*records);
    }
    return result;
}

namespace {

Result<json> json_of(const Record& record) {
    json object = json::object();
    for (const auto& [key, value] : record) {
        bool finite = true;
        if (const auto* real = std::get_if<double>(&value)) finite = std::isfinite(*real);
        if (const auto* list = std::get_if<std::vector<double>>(&value)) {
            finite = std::all_of(list->begin(), list->end(), [](double v) { return std::isfinite(v); });
        }
        if (!finite) return bug_error("the reply's value " + shown_text(key) + " is not finite");
        std::visit([&object, &name = key](const auto& v) { object[name] = v; }, value);
    }
    return object;
}

}  // namespace

Result<std::string> dir_reply_text(const Incoming& message, const Reply& reply) {
    json text = {{"fed-dir", 1},
                 {"message_id", message.message_id},
                 {"group_id", message.group_id},
                 {"run_id", message.run_id},
                 {"type", message.type}};
    if (reply.failure) {
        text["failure"] = {{"code", reply.failure->code}, {"reason", reply.failure->reason}};
    } else {
        if (reply.weights) text["arrays"] = {{"arrays", kReplyWeights}};
        auto metrics = json_of(reply.metrics);
        if (!metrics) return std::move(metrics).error();
        text["metrics"]["metrics"] = std::move(*metrics);
        text["configs"] = json::object();
        for (const auto& [name, record] : reply.configs) {
            auto config = json_of(record);
            if (!config) return std::move(config).error();
            text["configs"][name] = std::move(*config);
        }
    }
    return text.dump(2, ' ', true, json::error_handler_t::replace) + "\n";
}

Result<Sums> parse_sums(const std::string& text) {
    Sums sums;
    std::istringstream lines(text);
    std::string line;
    while (std::getline(lines, line)) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.empty()) continue;
        const bool formed = line.size() > 66 && line[64] == ' ' && (line[65] == ' ' || line[65] == '*') &&
                            is_sha256(std::string_view(line).substr(0, 64));
        if (!formed) return reject_error("a line is not '<64 lower-case hex digits>  <file name>'");
        std::string name = line.substr(66);
        if (!is_plain_name(name)) return reject_error("the file name " + shown_text(name) + " is not a plain name");
        if (!sums.emplace(name, line.substr(0, 64)).second)
            return reject_error(shown_text(name) + " stands there twice");
        if (sums.size() > kMostFiles) return reject_error("more than 64 files");
    }
    return sums;
}

std::string sums_text(const Sums& sums) {
    std::string text;
    for (const auto& [name, sum] : sums) text += sum + "  " + name + "\n";
    return text;
}

}  // namespace cardionode::fed
