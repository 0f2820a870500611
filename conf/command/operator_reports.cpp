#include "conf/command/operator_reports.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "conf/command/operator_support.h"
#include "conf/command/table.h"
#include "fedclient/round/settings.h"
#include "scp/dicom/tls.h"
#include "scp/queue/study_key.h"

namespace cardionode {
namespace {

std::string_view meaning_of(StudyState state) {
    switch (state) {
        case StudyState::Receiving: return "images still arrive";
        case StudyState::Ready: return "complete, waiting for the pipeline";
        case StudyState::Processing: return "being worked on";
        case StudyState::Sending: return "outputs on their way to the destinations";
        case StudyState::Done: return "";
        case StudyState::SetAside: return "need you: see `cardionode studies`, then `cardionode retry STUDY`";
    }
    return "";
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

std::vector<DestinationStatus> with_unused(std::vector<DestinationStatus> found, const NodeSettings& settings) {
    std::set<std::string> names;
    for (const auto& destination : found) names.insert(destination.destination);
    for (const auto& destination : settings.destinations) {
        if (names.insert(destination.name).second) found.push_back({.destination = destination.name});
    }
    return found;
}

bool is_set(const std::string& destination, const NodeSettings& settings) {
    return std::any_of(settings.destinations.begin(), settings.destinations.end(),
                       [&](const DestinationSettings& d) { return d.name == destination; });
}

Report status_json(const QueueStatus& status, const std::vector<DestinationStatus>& destinations,
                   const NodeSettings& settings, const Result<std::uint64_t>& free) {
    Json json;
    json["database"] = settings.node.database.string();
    json["schema_version"] = status.schema_version;
    for (const auto& [state, count] : status.studies_by_state) json["studies"][std::string(to_string(state))] = count;
    json["instances"] = status.instances;
    json["bytes"] = status.bytes;
    json["conflicts"] = status.conflicts;
    json["oldest_unfinished"] = json_moment(status.oldest_unfinished);
    json["spool_free_bytes"] = free ? Json(*free) : Json(nullptr);
    int uncommitted = 0;
    for (const DestinationStatus& d : destinations) uncommitted += d.uncommitted;
    json["outputs"] = {{"waiting", status.outputs_waiting},
                       {"sent", status.outputs_sent},
                       {"uncommitted", uncommitted},
                       {"set_aside", status.outputs_set_aside}};
    json["destinations"] = Json::array();
    for (const DestinationStatus& d : destinations) {
        json["destinations"].push_back({{"name", d.destination},
                                        {"in_settings", is_set(d.destination, settings)},
                                        {"waiting", d.waiting},
                                        {"sent", d.sent},
                                        {"uncommitted", d.uncommitted},
                                        {"set_aside", d.set_aside},
                                        {"next_try", json_moment(d.next_try)},
                                        {"last_sent", json_moment(d.last_sent)},
                                        {"last_error", d.last_error}});
    }
    return json_report(json);
}

std::string destinations_text(const std::vector<DestinationStatus>& destinations, const NodeSettings& settings,
                              Moment now) {
    if (destinations.empty()) return "No destination is set: outputs stay in the work folder.\n";
    Table table({"DESTINATION", ">WAITING", ">SENT", ">SET ASIDE", "LAST SENT", "NEXT TRY", "LAST ERROR"});
    bool unset = false;
    for (const DestinationStatus& d : destinations) {
        const bool known = is_set(d.destination, settings);
        unset = unset || (!known && d.waiting > 0);
        table.add({d.destination + (known ? "" : " (not in the settings)"), std::to_string(d.waiting),
                   std::to_string(d.sent), std::to_string(d.set_aside), d.last_sent ? ago(*d.last_sent, now) : "never",
                   d.next_try ? due(*d.next_try, now) : "-", or_dash(d.last_error)});
    }
    std::string text = table.text();
    if (unset) text += "Outputs wait for a destination that is not in the settings any more: put it back there.\n";
    return text;
}

}  // namespace

Report json_report(const Json& json) { return {json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"}; }

Json json_moment(std::optional<Moment> moment) { return moment ? Json(to_iso8601(*moment)) : Json(nullptr); }

Json json_of(const StudyRow& study) {
    return {{"study", study.study_key},
            {"state", to_string(study.state)},
            {"revision", study.revision},
            {"calling_ae_title", study.calling_ae_title},
            {"first_received", json_moment(study.first_received)},
            {"last_received", json_moment(study.last_received)},
            {"series", study.series},
            {"instances", study.instances},
            {"conflicts", study.conflicts},
            {"late", study.late},
            {"other_patient", study.other_patient},
            {"bytes", study.bytes},
            {"attempts", study.attempts},
            {"next_try", json_moment(study.next_try)},
            {"outputs",
             {{"total", study.outputs_total},
              {"sent", study.outputs_sent},
              {"uncommitted", study.outputs_uncommitted},
              {"set_aside", study.outputs_set_aside}}},
            {"outcome", study.outcome},
            {"last_error", study.last_error}};
}

Result<std::string> key_from(const std::string& typed) {
    if (auto key = read_study_key(typed)) return *std::move(key);
    return reject_error(
        fmt::format("\"{}\" is not the key of a study: `cardionode studies` shows the keys", printable(typed)));
}

Result<NodeSettings> settings_for(const OperatorOptions& options) {
    auto settings = load_node_settings(options.config);
    if (!settings) return config_error("the settings are wrong:\n" + settings.error().message);
    return settings;
}

Result<Queue> open_queue(const NodeSettings& settings, QueueOptions::Mode mode, const Clock& clock) {
    return Queue::open(settings.node.database, clock, {.mode = mode});
}

std::string word_for(StudyState state) {
    std::string word(to_string(state));
    std::replace(word.begin(), word.end(), '_', ' ');
    return word;
}

std::string outputs_in_words(const StudyRow& study) {
    if (study.outputs_total == 0) return "-";
    std::string text = fmt::format("{} of {}", study.outputs_sent, study.outputs_total);
    if (study.outputs_uncommitted > 0) text += fmt::format(", {} not committed yet", study.outputs_uncommitted);
    if (study.outputs_set_aside > 0) text += fmt::format(", {} set aside", study.outputs_set_aside);
    return text;
}

Report check_report(const OperatorOptions& options) {
    auto settings = fed::load_federated(options.config);  // the whole file
    if (settings) {
        if (auto files = check_tls_files(settings->node); !files) settings = std::move(files).error();
        else if (auto more = fed::check_federated_files(settings->federated); !more) settings = std::move(more).error();
    }
    if (!options.json) {
        if (settings) return {options.config.string() + ": ok\n"};
        return {settings.error().message + "\n", 2};
    }
    Json json{{"file", options.config.string()}, {"ok", settings.ok()}, {"problems", Json::array()}};
    if (!settings) {
        const std::string& lines = settings.error().message;
        for (std::size_t begin = 0; begin <= lines.size();) {
            const std::size_t end = std::min(lines.find('\n', begin), lines.size());
            json["problems"].push_back(lines.substr(begin, end - begin));
            begin = end + 1;
        }
    }
    Report report = json_report(json);
    report.exit_code = settings ? 0 : 2;
    return report;
}

Result<Report> status_report(const OperatorOptions& options, const Clock& clock) {
    auto settings = settings_for(options);
    if (!settings) return std::move(settings).error();
    auto queue = open_queue(*settings, QueueOptions::Mode::ReadOnly, clock);
    if (!queue) return std::move(queue).error();
    auto status = queue->status();
    if (!status) return std::move(status).error();
    const auto destinations = with_unused(status->destinations, *settings);
    const auto free = free_bytes(settings->node.spool);  // without the right to look, the rest is still worth reading
    if (options.json) return status_json(*status, destinations, *settings, free);

    const Moment now = clock.now();
    std::string text = fmt::format("Queue      {}\n", settings->node.database.string());
    text += fmt::format("Received   {}, {}", counted(status->instances, "image", "images"), in_bytes(status->bytes));
    if (status->conflicts > 0) {
        text += fmt::format("; {} more not used: other content under a UID that was there", status->conflicts);
    }
    text += fmt::format("\nSpool      {}, {}\n", settings->node.spool.string(),
                        free ? in_bytes(static_cast<std::int64_t>(*free)) + " free" : free.error().message);
    if (status->oldest_unfinished) {
        text += fmt::format("Oldest     the first image of the oldest unfinished study came {}\n",
                            ago(*status->oldest_unfinished, now));
    }
    Table states({"STATE", ">STUDIES", "MEANING"});
    for (const auto& [state, count] : status->studies_by_state) {
        states.add({word_for(state), std::to_string(count), count > 0 ? std::string(meaning_of(state)) : ""});
    }
    text += "\n" + states.text() + "\n" + destinations_text(destinations, *settings, now);
    return Report{text};
}

Result<Report> studies_report(const OperatorOptions& options, const Clock& clock) {
    auto settings = settings_for(options);
    if (!settings) return std::move(settings).error();
    auto queue = open_queue(*settings, QueueOptions::Mode::ReadOnly, clock);
    if (!queue) return std::move(queue).error();
    auto studies = queue->studies(options.newest);
    if (!studies) return std::move(studies).error();
    if (options.json) {
        Json json = Json::array();
        for (const StudyRow& study : *studies) json.push_back(json_of(study));
        return json_report(json);
    }
    if (studies->empty()) {
        return Report{fmt::format("No study has arrived yet. The node listens as {} on {} port {}.\n",
                                  settings->scp.ae_title, settings->scp.bind_address,
                                  settings->scp.tls.only ? settings->scp.tls.port : settings->scp.port)};
    }
    const Moment now = clock.now();
    Table table({"STUDY", "STATE", ">AGE", "FROM", ">REV", ">SERIES", ">IMAGES", "OUTPUTS SENT", ">TRIES", "NEXT TRY",
                 "LAST ERROR OR OUTCOME"});
    for (const StudyRow& s : *studies) {
        table.add({s.study_key, word_for(s.state), in_words(now - s.first_received), or_dash(s.calling_ae_title),
                   std::to_string(s.revision), std::to_string(s.series), std::to_string(s.instances),
                   outputs_in_words(s), std::to_string(s.attempts), s.next_try ? due(*s.next_try, now) : "-",
                   or_dash(s.last_error.empty() ? s.outcome : s.last_error)});
    }
    std::string text = table.text();
    if (static_cast<int>(studies->size()) == options.newest) {
        text += fmt::format("The newest {}; more with --newest.\n", options.newest);
    }
    return Report{text};
}

Result<Report> retry_report(const OperatorOptions& options, const std::vector<std::string>& studies,
                            const Clock& clock) {
    auto settings = settings_for(options);
    if (!settings) return std::move(settings).error();
    std::vector<std::string> keys;
    for (const std::string& typed : studies) {
        auto key = key_from(typed);
        if (!key) return std::move(key).error();
        keys.push_back(*std::move(key));
    }
    auto queue = open_queue(*settings, QueueOptions::Mode::MustExist, clock);
    if (!queue) return std::move(queue).error();
    if (studies.empty()) {
        auto all = queue->studies(1'000'000);
        if (!all) return std::move(all).error();
        for (const StudyRow& study : *all) {
            if (study.state == StudyState::SetAside) keys.push_back(study.study_key);
        }
    }
    Report report;
    Json json = Json::array();
    for (const std::string& key : keys) {
        auto done = queue->retry(key);
        if (!done && done.error().kind != ErrorKind::Reject) return std::move(done).error();
        auto study = done ? queue->study(key) : Result<std::optional<StudyRow>>(std::optional<StudyRow>());
        if (!study) return std::move(study).error();
        if (!done) report.exit_code = 1;
        const std::string outcome = done && *study ? word_for((*study)->state) : done.error().message;
        report.text += fmt::format("{}: {}\n", key, outcome);
        json.push_back({{"study", key},
                        {"ok", done.ok()},
                        {"state", done && *study ? Json(to_string((*study)->state)) : Json(nullptr)},
                        {"reason", done ? "" : done.error().message}});
    }
    if (keys.empty()) report.text = "No study was set aside.\n";
    if (options.json) report.text = json_report(json).text;
    return report;
}

}  // namespace cardionode
