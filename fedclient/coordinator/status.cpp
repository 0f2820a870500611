#include "fedclient/coordinator/status.h"

#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace cardionode::fed {
namespace {

using Json = nlohmann::json;

Result<Json> results_json(CoordinatorStore& store, std::int64_t round, const std::string& phase) {
    const auto rows = store.results(round, phase);
    if (!rows) return rows.error();
    Json list = Json::array();
    for (const auto& row : *rows)
        list.push_back({{"site", row.site},
                        {"state", row.state},
                        {"reason", row.reason},
                        {"issues", row.issues},
                        {"metrics", Json::parse(row.metrics, nullptr, false)}});
    return list;
}

double number_of(const Json& value) {
    return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string label_counts(const Json& metrics) {
    std::string text;
    for (const auto& [key, value] : metrics.items())
        if (key.starts_with("n/") && value.is_number() && value.get<double>() > 0)
            text += fmt::format("{}{} {:g}", text.empty() ? "" : ", ", key.substr(2), value.get<double>());
    return text;
}

}  // namespace

Result<std::string> status_json(CoordinatorStore& store, Moment now, const Faults* faults) {
    Json status;
    const auto run = store.run();
    if (!run) return run.error();
    status["model"] = *run ? (*run)->model_id : "";
    status["method"] = *run ? (*run)->method : "";
    status["run"] = *run ? (*run)->status : "not begun";
    const auto rounds = store.rounds();
    if (!rounds) return rounds.error();
    status["round"] = rounds->empty() ? 0 : rounds->back().round;
    status["state"] = rounds->empty() ? "not begun" : rounds->back().state;
    status["global"] = {{"round", 0},
                        {"record", rounds->empty() ? "" : rounds->front().base_record},
                        {"file", rounds->empty() ? "" : rounds->front().base_file}};
    const auto nodes = store.nodes();
    if (!nodes) return nodes.error();
    status["sites"] = Json::array();
    for (const auto& node : *nodes)
        status["sites"].push_back(
            {{"site", node.site}, {"online", node.online(now)}, {"last_seen", to_iso8601(node.last_seen)}});
    status["rounds"] = Json::array();
    for (const auto& round : *rounds) {
        Json item = Json::parse(round.report, nullptr, false);
        if (!item.is_object()) item = Json::object();
        item["round"] = round.round;
        item["state"] = round.state;
        item["reason"] = round.reason;
        item["started"] = to_iso8601(round.started);
        item["ended"] = round.ended ? Json(to_iso8601(*round.ended)) : Json();
        item["base"] = round.base_record;
        item["record"] = round.candidate_record;
        for (const char* phase : {"train", "evaluate"}) {
            auto list = results_json(store, round.round, phase);
            if (!list) return std::move(list).error();
            item[phase] = std::move(*list);
        }
        if (round.state == "done")
            status["global"] = {
                {"round", round.round}, {"record", round.candidate_record}, {"file", round.candidate_file}};
        status["rounds"].push_back(std::move(item));
    }
    if (faults) status["faults"] = {{"happened", faults->happened()}, {"due", faults->due()}};
    return status.dump(1, ' ', false, Json::error_handler_t::replace);
}

std::string status_table(const std::string& text) {
    const Json status = Json::parse(text);
    std::string out =
        fmt::format("{}, {}: {}, round {} ({}); global model of round {}, {:.12}\n", status["model"].get<std::string>(),
                    status["method"].get<std::string>(), status["run"].get<std::string>(),
                    status["round"].get<std::int64_t>(), status["state"].get<std::string>(),
                    status["global"]["round"].get<std::int64_t>(), status["global"]["record"].get<std::string>());
    for (const auto& site : status["sites"])
        out += fmt::format("  {:<20} {}  last heard {}\n", site["site"].get<std::string>(),
                           site["online"].get<bool>() ? "online " : "offline", site["last_seen"].get<std::string>());
    for (const auto& round : status["rounds"]) {
        out += fmt::format("round {}: {}{}{}\n", round["round"].get<std::int64_t>(), round["state"].get<std::string>(),
                           round["reason"].get<std::string>().empty() ? "" : ", ", round["reason"].get<std::string>());
        for (const auto& site : round["train"]) {
            const auto name = site["site"].get<std::string>();
            std::string words = label_counts(site["metrics"]);
            if (const auto reason = site["reason"].get<std::string>(); !reason.empty()) words += " " + reason;
            for (const auto& dropped : round.value("dropped", Json::array()))
                if (dropped["site"] == name) words += " DROPPED: " + dropped["reason"].get<std::string>();
            out += fmt::format("  {:<20} {:<9} {}\n", name, site["state"].get<std::string>(), words);
        }
        const Json none = Json::object();
        for (const auto& [head, v] : round.value("validation", none).items())
            out += fmt::format("  validation {:<12} {:.4f} -> {:.4f} ({} sites)\n", head, number_of(v["before"]),
                               number_of(v["after"]), v["sites"].get<int>());
    }
    return out;
}

}  // namespace cardionode::fed
