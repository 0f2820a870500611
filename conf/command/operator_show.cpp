// `cardionode show STUDY`: everything the queue knows about one study.
#include <algorithm>
#include <initializer_list>
#include <map>

#include <fmt/format.h>

#include "conf/command/operator_support.h"
#include "conf/command/table.h"

namespace cardionode {
namespace {

/// All that is read in one go.
struct Known {
    StudyRow study;
    std::vector<InstanceRow> instances;
    std::vector<OutputRow> outputs;
    std::vector<EventRow> events;
    Json result;  ///< null: none yet; a text: it cannot be read
};

// The result is JSON that the pipeline wrote; an older or newer pipeline may have written it otherwise. What is not
// there, or of another type, is left out instead of failing the whole report.
std::string text_in(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}
std::optional<double> number_in(const Json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end() || !found->is_number()) return std::nullopt;
    return found->get<double>();
}
const Json& list_in(const Json& object, const char* name) {
    static const Json empty = Json::array();
    const auto found = object.find(name);
    return found != object.end() && found->is_array() ? *found : empty;
}
std::string title_of(const Json& object) {
    const std::string title = text_in(object, "title");
    return title.empty() ? text_in(object, "name") : title;
}

/// A reason that several lines share, or that is too long for a column, stands once below the table.
class Reasons {
public:
    /// @param lists  of the result, whose entries have a "reason"
    Reasons(const Json& result, std::initializer_list<const char*> lists) {
        for (const char* list : lists) {
            for (const Json& entry : list_in(result, list)) {
                if (entry.is_object()) ++uses_[text_in(entry, "reason")];
            }
        }
    }
    /// What stands in the column.
    std::string cell(const std::string& reason) {
        constexpr std::size_t kFits = 60;
        if (reason.empty() || (uses_[reason] < 2 && reason.size() <= kFits)) return reason;
        const auto found = std::find(notes_.begin(), notes_.end(), reason);
        const auto number = found - notes_.begin() + 1;
        if (found == notes_.end()) notes_.push_back(reason);
        return fmt::format("see [{}]", number);
    }
    std::string text() const {
        std::string out;
        for (std::size_t n = 0; n < notes_.size(); ++n) out += fmt::format("[{}] {}\n", n + 1, printable(notes_[n]));
        return out.empty() ? "" : "\n" + out;
    }

private:
    std::map<std::string, int> uses_;
    std::vector<std::string> notes_;
};

Result<Known> read_known(Queue& queue, const std::string& key, int events) {
    auto study = queue.study(key);
    if (!study) return std::move(study).error();
    if (!*study) {
        return reject_error(fmt::format("there is no study {} in the queue: `cardionode studies` shows them", key));
    }
    auto instances = queue.instances_of(key);
    if (!instances) return std::move(instances).error();
    auto outputs = queue.outputs_of(key);
    if (!outputs) return std::move(outputs).error();
    auto told = queue.events_of(key, events);
    if (!told) return std::move(told).error();
    auto text = queue.result_json_of(key);
    if (!text) return std::move(text).error();
    Json result;
    if (!text->empty()) {
        result = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
        if (!result.is_object()) result = "unreadable";
    }
    return Known{**std::move(study), *std::move(instances), *std::move(outputs), *std::move(told), std::move(result)};
}

std::string head_text(const Known& known, const OperatorOptions& options, Moment now) {
    const StudyRow& s = known.study;
    std::string out;
    const auto line = [&](std::string_view name, const std::string& value) {
        if (!value.empty()) out += fmt::format("{:<12} {}\n", name, printable(value));
    };
    line("Study", s.study_key);
    if (options.uids) line("Study UID", s.study_instance_uid);
    line("State", s.revision > 1 ? fmt::format("{}, revision {}", word_for(s.state), s.revision) : word_for(s.state));
    line("From", s.calling_ae_title);
    line("First image", fmt::format("{} ({})", date_and_time(s.first_received), ago(s.first_received, now)));
    line("Last image", fmt::format("{} ({})", date_and_time(s.last_received), ago(s.last_received, now)));
    line("Series", std::to_string(s.series));
    line("Images", fmt::format("{} ({}){}", s.instances, in_bytes(s.bytes),
                               s.conflicts > 0 ? fmt::format("; {} more not used, see below", s.conflicts) : ""));
    if (s.late > 0) line("Late images", fmt::format("{}, in no result yet: cardionode retry {}", s.late, s.study_key));
    if (s.other_patient > 0)
        line("Patient", fmt::format("{} images have another Patient ID than the first one", s.other_patient));
    line("Tries", std::to_string(s.attempts));
    if (s.next_try) line("Next try", due(*s.next_try, now));
    line("Outputs sent", s.outputs_total > 0 ? outputs_in_words(s) : "");
    line("Outcome", s.outcome == s.last_error ? "" : s.outcome);
    line("Last error", s.last_error);
    return out;
}

std::string result_text(const Json& result) {
    if (result.is_null()) return "";
    if (!result.is_object()) return "\nThe stored result cannot be read.\n";
    std::string out;
    const auto line = [&](std::string_view name, const std::string& value) {
        if (value.empty()) return;
        if (out.empty()) out = "\n";
        out += fmt::format("{:<12} {}\n", name, printable(value));
    };
    line("Model", text_in(result, "model"));
    line("Series read", text_in(result, "series"));
    for (const Json& warning : list_in(result, "warnings")) {
        if (warning.is_string()) line("Warning", warning.get<std::string>());
    }
    std::string seconds;
    if (const auto found = result.find("seconds"); found != result.end() && found->is_object()) {
        for (const auto& [stage, value] : found->items()) {
            if (value.is_number())
                seconds += fmt::format("{}{} {:.1f}", seconds.empty() ? "" : ", ", stage, value.get<double>());
        }
    }
    line("Seconds", seconds);
    Reasons reasons(result, {"landmarks", "measurements"});
    Table landmarks({"LANDMARK", "FOUND", ">L MM", ">P MM", ">S MM", ">CONFIDENCE", "REASON"});
    for (const Json& l : list_in(result, "landmarks")) {
        if (!l.is_object()) continue;
        const auto found = l.find("found");
        std::vector<std::string> cells = {title_of(l), found != l.end() && *found == true ? "yes" : "no"};
        const Json& point = list_in(l, "lps_mm");
        for (std::size_t axis = 0; axis < 3; ++axis) {
            cells.push_back(axis < point.size() && point[axis].is_number()
                                ? fmt::format("{:.1f}", point[axis].get<double>())
                                : "-");
        }
        const auto confidence = number_in(l, "confidence");
        cells.push_back(confidence ? fmt::format("{:.2f}", *confidence) : "-");
        cells.push_back(reasons.cell(text_in(l, "reason")));
        landmarks.add(std::move(cells));
    }
    if (!landmarks.empty()) out += "\n" + landmarks.text();
    Table measurements({"MEASUREMENT", ">VALUE", ">1 SD", "UNIT", "REASON"});
    for (const Json& m : list_in(result, "measurements")) {
        if (!m.is_object()) continue;
        const auto value = number_in(m, "value"), sd = number_in(m, "uncertainty");
        const std::string unit = text_in(m, "unit");
        // A ratio below one would lose itself in one digit.
        const int digits = unit == "1" ? 3 : 1;
        measurements.add({title_of(m), value ? fmt::format("{:.{}f}", *value, digits) : "-",
                          sd ? fmt::format("{:.{}f}", *sd, digits) : "-", unit, reasons.cell(text_in(m, "reason"))});
    }
    if (!measurements.empty()) out += "\n" + measurements.text();
    return out + reasons.text();
}

std::string state_in_words(const OutputRow& output) {
    if (output.state == "set_aside") return "set aside";
    if (output.state == "kept") return "work folder";
    if (output.commitment == "committed") return "committed";
    if (output.commitment == "wanted" || output.commitment == "asked") return output.state + ", not committed yet";
    return output.state;
}

std::string outputs_text(const Known& known, const OperatorOptions& options, Moment now) {
    std::vector<std::string> headings = {"OUTPUT", ">REV", "DESTINATION", "STATE",
                                         ">TRIES", "SENT", "NEXT TRY",    "LAST ERROR OR NOTE"};
    if (options.uids) headings.insert(headings.begin() + 1, "SOP INSTANCE UID");
    Table table(headings);
    for (const OutputRow& o : known.outputs) {
        std::vector<std::string> cells = {o.output.kind,
                                          std::to_string(o.revision),
                                          o.destination.empty() ? "none" : o.destination,
                                          state_in_words(o),
                                          std::to_string(o.attempts),
                                          o.sent_at ? ago(*o.sent_at, now) : "-",
                                          o.next_try ? due(*o.next_try, now) : "-",
                                          o.last_error.empty() ? o.note : o.last_error};
        if (options.uids) cells.insert(cells.begin() + 1, o.output.sop_instance_uid);
        table.add(std::move(cells));
    }
    return table.empty() ? "" : "\n" + table.text();
}

std::string instances_text(const Known& known, const OperatorOptions& options) {
    std::vector<std::string> headings = {"IMAGE FILE (IN THE SPOOL)", "MODALITY", ">SIZE", "USED"};
    if (options.uids) headings.insert(headings.end(), {"SERIES INSTANCE UID", "SOP INSTANCE UID"});
    Table table(headings);
    for (const InstanceRow& i : known.instances) {
        if (!i.conflict && !options.uids) continue;
        std::vector<std::string> cells = {i.file, i.modality, in_bytes(i.bytes),
                                          !i.conflict       ? "yes"
                                          : i.other_patient ? "no: another Patient ID than the first image"
                                                            : "no: its UID was there with other content"};
        if (options.uids) cells.insert(cells.end(), {i.series_instance_uid, i.sop_instance_uid});
        table.add(std::move(cells));
    }
    return table.empty() ? "" : "\n" + table.text();
}

std::string events_text(const Known& known) {
    Table table({"WHEN (UTC)", "EVENT", "DETAIL"});
    for (const EventRow& e : known.events) table.add({date_and_time(e.at).substr(0, 19), e.event, e.detail});
    return "\n" + table.text();
}

Report show_json(const Known& known, const OperatorOptions& options) {
    Json json = json_of(known.study);
    if (options.uids) json["study_instance_uid"] = known.study.study_instance_uid;
    json["result"] = known.result.is_object() ? known.result : Json(nullptr);
    json["outputs_list"] = Json::array();
    for (const OutputRow& o : known.outputs) {
        Json row{{"kind", o.output.kind},
                 {"revision", o.revision},
                 {"file", o.output.file},
                 {"destination", o.destination},
                 {"state", o.state},
                 {"commitment", o.commitment},
                 {"attempts", o.attempts},
                 {"sent_at", json_moment(o.sent_at)},
                 {"next_try", json_moment(o.next_try)},
                 {"last_error", o.last_error},
                 {"note", o.note}};
        if (options.uids) row["sop_instance_uid"] = o.output.sop_instance_uid;
        json["outputs_list"].push_back(std::move(row));
    }
    json["instances_list"] = Json::array();
    for (const InstanceRow& i : known.instances) {
        Json row{{"file", i.file},
                 {"modality", i.modality},
                 {"bytes", i.bytes},
                 {"conflict", i.conflict},
                 {"other_patient", i.other_patient}};
        if (options.uids) {
            row["series_instance_uid"] = i.series_instance_uid;
            row["sop_instance_uid"] = i.sop_instance_uid;
        }
        json["instances_list"].push_back(std::move(row));
    }
    json["events"] = Json::array();
    for (const EventRow& e : known.events)
        json["events"].push_back({{"at", to_iso8601(e.at)}, {"event", e.event}, {"detail", e.detail}});
    return json_report(json);
}

}  // namespace

Result<Report> show_report(const OperatorOptions& options, const std::string& study, const Clock& clock) {
    auto settings = settings_for(options);
    if (!settings) return std::move(settings).error();
    auto key = key_from(study);
    if (!key) return std::move(key).error();
    auto queue = open_queue(*settings, QueueOptions::Mode::ReadOnly, clock);
    if (!queue) return std::move(queue).error();
    auto known = read_known(*queue, *key, options.newest);
    if (!known) return std::move(known).error();
    if (options.json) return show_json(*known, options);
    const Moment now = clock.now();
    return Report{head_text(*known, options, now) + result_text(known->result) + outputs_text(*known, options, now) +
                  instances_text(*known, options) + events_text(*known)};
}

}  // namespace cardionode
