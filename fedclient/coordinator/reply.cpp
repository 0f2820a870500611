#include "fedclient/coordinator/reply.h"

#include <limits>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fedclient/flower/records.h"
#include "fedclient/flower/tensor_objects.h"

namespace cardionode::fed {

Result<std::map<std::string, double>> read_reply(const ObjectStore& objects, const std::string& reply_id,
                                                 const std::string& phase, const std::filesystem::path& weights) {
    const auto message = objects.load(reply_id);
    if (!message) return message.error();
    if (message->head.type != ObjectType::Message || message->head.children.size() != 1)
        return reject_error("the reply is no message with one RecordDict");
    const auto dict = objects.load(message->head.children.front());
    if (!dict) return dict.error();
    if (dict->head.type != ObjectType::RecordDict) return reject_error("the reply's content is no RecordDict");
    const auto names = parse_name_object(*dict);
    if (!names) return names.error();

    std::optional<std::string> arrays;
    std::optional<std::map<std::string, double>> metrics;
    for (const auto& [name, id] : *names) {
        const auto head = objects.head_of(id);
        if (!head) return head.error();
        if (head->type == ObjectType::ArrayRecord) {
            if (name != "arrays") return reject_error("an ArrayRecord that is not \"arrays\"");
            arrays = id;
        } else if (head->type == ObjectType::MetricRecord) {
            if (name != "metrics") return reject_error("a MetricRecord that is not \"metrics\"");
            const auto object = objects.load(id);
            if (!object) return object.error();
            const auto record = parse_record_object(*object);
            if (!record) return record.error();
            metrics.emplace();
            for (const auto& [key, value] : *record)
                if (const auto number = number_of(*record, key)) (*metrics)[key] = *number;
        }
    }
    if (!metrics) return reject_error("no MetricRecord \"metrics\"");
    if (phase == "train") {
        if (!arrays) return reject_error("no ArrayRecord \"arrays\"");
        if (auto decoded = decode_tensors(objects, *arrays, weights); !decoded) return std::move(decoded).error();
    }
    return std::move(*metrics);
}

std::string metrics_json(const std::map<std::string, double>& metrics) {
    nlohmann::json json = nlohmann::json::object();
    for (const auto& [key, value] : metrics) json[key] = value;  // what is not finite becomes null
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::map<std::string, double> parse_metrics(const std::string& text) {
    std::map<std::string, double> metrics;
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return metrics;
    for (const auto& [key, value] : json.items()) {
        if (value.is_number()) metrics[key] = value.get<double>();
        else if (value.is_null()) metrics[key] = std::numeric_limits<double>::quiet_NaN();
    }
    return metrics;
}

SiteUpdate update_of(const std::string& site, const std::filesystem::path& weights,
                     const std::map<std::string, double>& metrics) {
    SiteUpdate update{site, weights, {}, 0};
    for (const auto& [key, value] : metrics) {
        if (!key.starts_with("n/")) continue;
        if (key == "n/unlabelled") update.unlabelled = value;
        else update.labelled[key.substr(2)] = value;
    }
    const auto examples = metrics.find("num-examples");
    if (update.labelled.empty() && examples != metrics.end()) update.labelled["all"] = examples->second;
    return update;
}

}  // namespace cardionode::fed
