#include "fedclient/round/store_json.h"

#include <cmath>
#include <limits>

namespace cardionode::fed {

using Json = nlohmann::ordered_json;

namespace {

Json of_number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
double number(const Json& json) {
    return json.is_null() ? std::numeric_limits<double>::infinity() : json.get<double>();
}

template <class Map>
Json of_map(const Map& map) {
    Json json = Json::object();
    for (const auto& [key, value] : map) json[key] = of_number(static_cast<double>(value));
    return json;
}

template <class Value>
std::map<std::string, Value> map_of(const Json& json) {
    std::map<std::string, Value> map;
    for (const auto& [key, value] : json.items()) map[key] = static_cast<Value>(number(value));
    return map;
}

}  // namespace

Json to_json(const Validation& v) {
    return {{"dice", of_map(v.dice)}, {"point_mm", of_map(v.point_mm)}, {"studies", v.studies}};
}

Validation validation_from(const Json& json) {
    Validation v;
    v.dice = map_of<double>(json.at("dice"));
    v.point_mm = map_of<double>(json.at("point_mm"));
    v.studies = json.at("studies").get<std::int64_t>();
    return v;
}

std::string to_text(const MessageRow& r) {
    const RoundPlan& p = r.order.plan;
    Json json;
    json["plan"] = {{"method", static_cast<int>(p.method)},
                    {"heads", p.heads},
                    {"steps", p.steps},
                    {"learning_rate", p.learning_rate},
                    {"proximal_mu", p.proximal_mu},
                    {"seed", p.seed}};
    json["order"] = {{"architecture", r.order.architecture},
                     {"base_model", r.order.base_model},
                     {"signature", r.order.signature},
                     {"teacher_signatures", r.order.teacher_signatures},
                     {"teacher_records", r.order.teacher_records},
                     {"deadline", r.order.deadline},
                     {"clip_norm", r.order.clip_norm},
                     {"noise", r.order.noise}};
    json["weights"] = r.weights.string();
    json["teachers"] = Json::object();
    for (const auto& [head, t] : r.teachers)
        json["teachers"][head] = {{"weights", t.weights.string()}, {"record_id", t.record_id}};
    json["fetch_seconds"] = r.fetch_seconds;
    json["bytes_received"] = r.bytes_received;
    json["bytes_sent"] = r.bytes_sent;
    if (r.before) json["before"] = to_json(*r.before);
    if (r.after) json["after"] = to_json(*r.after);
    json["training"] = {{"trained", r.trained.string()}, {"labelled", r.labelled}, {"unlabelled", r.unlabelled},
                        {"patients", r.patients},        {"steps", r.steps},       {"loss", of_number(r.loss)},
                        {"seconds", r.train_seconds}};
    json["update"] = {{"file", r.update.string()},
                      {"sha256", r.update_sha256},
                      {"bytes", r.update_bytes},
                      {"norm_before", of_map(r.norm_before)},
                      {"norm_after", of_map(r.norm_after)},
                      {"withheld", r.withheld},
                      {"noised", r.noised},
                      {"booked_multiplier", r.booked_multiplier},
                      {"answered_from", r.answered_from},
                      {"reply_id", r.reply_id}};
    json["reason"] = r.reason;
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<void> from_text(const std::string& text, MessageRow& r) {
    try {
        const Json json = Json::parse(text);
        RoundPlan& p = r.order.plan;
        const Json& plan = json.at("plan");
        p.method = static_cast<Method>(plan.at("method").get<int>());
        p.heads = plan.at("heads").get<std::vector<std::string>>();
        p.steps = plan.at("steps").get<std::int64_t>();
        p.learning_rate = plan.at("learning_rate").get<double>();
        p.proximal_mu = plan.at("proximal_mu").get<double>();
        p.seed = plan.at("seed").get<std::uint64_t>();
        const Json& order = json.at("order");
        r.order.architecture = order.at("architecture").get<std::string>();
        r.order.base_model = order.at("base_model").get<std::string>();
        r.order.signature = order.at("signature").get<std::string>();
        r.order.teacher_signatures = order.at("teacher_signatures").get<std::map<std::string, std::string>>();
        r.order.teacher_records = order.at("teacher_records").get<std::map<std::string, std::string>>();
        r.order.deadline = order.at("deadline").get<double>();
        r.order.clip_norm = order.at("clip_norm").get<double>();
        r.order.noise = order.at("noise").get<double>();
        r.weights = json.at("weights").get<std::string>();
        for (const auto& [head, t] : json.at("teachers").items())
            r.teachers[head] = {t.at("weights").get<std::string>(), t.at("record_id").get<std::string>()};
        r.fetch_seconds = json.at("fetch_seconds").get<double>();
        r.bytes_received = json.at("bytes_received").get<std::int64_t>();
        r.bytes_sent = json.at("bytes_sent").get<std::int64_t>();
        if (json.contains("before")) r.before = validation_from(json.at("before"));
        if (json.contains("after")) r.after = validation_from(json.at("after"));
        const Json& training = json.at("training");
        r.trained = training.at("trained").get<std::string>();
        r.labelled = training.at("labelled").get<std::map<std::string, std::int64_t>>();
        r.unlabelled = training.at("unlabelled").get<std::int64_t>();
        r.patients = training.at("patients").get<std::int64_t>();
        r.steps = training.at("steps").get<std::int64_t>();
        r.loss = number(training.at("loss"));
        r.train_seconds = training.at("seconds").get<double>();
        const Json& update = json.at("update");
        r.update = update.at("file").get<std::string>();
        r.update_sha256 = update.at("sha256").get<std::string>();
        r.update_bytes = update.at("bytes").get<std::int64_t>();
        r.norm_before = map_of<double>(update.at("norm_before"));
        r.norm_after = map_of<double>(update.at("norm_after"));
        r.withheld = update.at("withheld").get<std::vector<std::string>>();
        r.noised = update.at("noised").get<bool>();
        r.booked_multiplier = update.at("booked_multiplier").get<double>();
        r.answered_from = update.at("answered_from").get<std::string>();
        r.reply_id = update.at("reply_id").get<std::string>();
        r.reason = json.at("reason").get<std::string>();
        return {};
    } catch (const nlohmann::json::exception& e) {
        return bug_error(std::string("a row of the rounds is damaged: ") + e.what());
    }
}

}  // namespace cardionode::fed
