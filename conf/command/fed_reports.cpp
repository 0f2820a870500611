#include "conf/command/fed_reports.h"

#include <cmath>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "conf/command/fed_support.h"
#include "conf/command/operator_support.h"
#include "conf/command/table.h"
#include "fedclient/round/consent.h"
#include "fedclient/round/night.h"
#include "fedclient/round/store_json.h"

namespace cardionode {
namespace {

using fed::MessageRow;
using fed::RoundState;

std::string_view answer_of(fed::ConsentState state) {
    switch (state) {
        case fed::ConsentState::NeverAsked: return "nobody was asked yet: `cardionode fed consent`";
        case fed::ConsentState::Refused: return "refused: nothing is pulled or pushed";
        case fed::ConsentState::Outdated: return "the settings changed since: read it again, `cardionode fed consent`";
        case fed::ConsentState::Given: return "given";
    }
    return "";
}

std::string_view meaning_of(RoundState state) {
    switch (state) {
        case RoundState::Pulled: return "pulled, not fetched yet";
        case RoundState::Fetched: return "fetched, to be checked";
        case RoundState::Checked: return "genuine, to be validated";
        case RoundState::Validated: return "validated and staged, to be learned from";
        case RoundState::Trained: return "trained, to be filtered";
        case RoundState::Filtered: return "filtered: nothing was sent yet";
        case RoundState::Booked: return "in the ledger, to be sent";
        case RoundState::Declined: return "declined, to be said";
        case RoundState::Prepared: return "reply ready, to be sent";
        case RoundState::Pushed: return "sent, not taken yet";
        case RoundState::Taken: return "answered";
        case RoundState::Refused: return "the server wanted no reply any more";
        case RoundState::Failed: return "not answered";
    }
    return "";
}

std::string outcome_of(const MessageRow& row) {
    if (!row.reason.empty()) return row.reason;
    return std::string(meaning_of(row.state));
}

Json norms(const std::map<std::string, double>& map) {
    Json json = Json::object();
    for (const auto& [group, norm] : map) json[group] = norm;
    return json;
}

Json json_of(const MessageRow& r) {
    Json json = {{"message", r.incoming.message_id},
                 {"type", r.incoming.type},
                 {"model", r.order.plan.model_id},
                 {"round", r.order.plan.round},
                 {"state", to_string(r.state)},
                 {"pulled_at", json_moment(r.pulled_at)},
                 {"state_since", json_moment(r.since)},
                 {"pulled_record", r.record_id},
                 {"bytes_received", r.bytes_received},
                 {"steps", r.steps},
                 {"patients", r.patients},
                 {"labelled", r.labelled},
                 {"unlabelled", r.unlabelled},
                 {"train_seconds", r.train_seconds},
                 {"update_sha256", r.update_sha256},
                 {"update_bytes", r.update_bytes},
                 {"bytes_sent", r.bytes_sent},
                 {"norm_before_clip", norms(r.norm_before)},
                 {"norm_after_clip", norms(r.norm_after)},
                 {"withheld", r.withheld},
                 {"noised", r.noised},
                 {"repeats", r.answered_from},
                 {"reason", r.reason}};
    if (r.before) json["before"] = fed::to_json(*r.before);
    if (r.after) json["after"] = fed::to_json(*r.after);
    return json;
}

std::string details_of(const MessageRow& r) {
    std::string text;
    const auto line = [&](std::string_view name, const std::string& value) {
        if (!value.empty()) text += fmt::format("{:<14} {}\n", name, printable(value));
    };
    line("Message", r.incoming.message_id);
    line("Asked for", r.incoming.type);
    line("Model", fmt::format("{}, round {}", r.order.plan.model_id, r.order.plan.round));
    line("State", fmt::format("{}: {}", to_string(r.state), outcome_of(r)));
    line("Pulled", fmt::format("{} ({})", r.record_id.empty() ? "-" : r.record_id, in_bytes(r.bytes_received)));
    line("Before", in_words(r.before));
    line("After", in_words(r.after));
    if (r.steps > 0) {
        std::string labels;
        for (const auto& [head, count] : r.labelled) labels += fmt::format(", {} {}", head, count);
        line("Learned", fmt::format("{} steps in {}, {} patients; studies by label{}; without {}", r.steps,
                                    in_words(Milliseconds(static_cast<std::int64_t>(r.train_seconds * 1000))),
                                    r.patients, labels, r.unlabelled));
    }
    if (!r.update_sha256.empty()) {
        line("Update", fmt::format("{} ({})", r.update_sha256, in_bytes(r.update_bytes)));
        line("File", r.update.string());
        std::string clipped;
        for (const auto& [group, norm] : r.norm_before) {
            const auto after = r.norm_after.find(group);
            clipped += fmt::format("{}{} {:.3g} -> {:.3g}", clipped.empty() ? "" : ", ", group, norm,
                                   after == r.norm_after.end() ? 0.0 : after->second);
        }
        line("Norms", clipped + (r.noised ? ", with noise" : ", without noise"));
        if (!r.withheld.empty()) line("Withheld", fmt::format("{} tensors, sent as pulled", r.withheld.size()));
    }
    if (!r.answered_from.empty()) line("Repeats", "the result of message " + short_hash(r.answered_from));
    if (r.bytes_sent > 0) line("Sent", in_bytes(r.bytes_sent));
    return text;
}

Result<std::vector<MessageRow>> newest_of(const fed::FederatedSettings& settings, int most, const Clock& clock) {
    auto store = fed::RoundStore::open(fed::store_file(settings), fed::RoundStore::Mode::ReadOnly, clock);
    if (!store) {
        std::error_code no_matter;
        if (!std::filesystem::exists(fed::store_file(settings), no_matter) && !no_matter)
            return std::vector<MessageRow>();
        return std::move(store).error();
    }
    return store->newest(most);
}

}  // namespace

Result<Report> fed_status_report(const FedOptions& options, const FedTools& tools, const Clock& clock) {
    auto node = settings_of(options);
    if (!node) return std::move(node).error();
    const fed::FederatedSettings& s = node->federated;
    auto consent = fed::consent_state(s);
    if (!consent) return std::move(consent).error();
    auto rows = newest_of(s, 1, clock);
    if (!rows) return std::move(rows).error();
    auto spent = tools.spent_epsilon(s);
    if (!spent) return std::move(spent).error();
    const Moment now = clock.now();
    const auto window = fed::end_of_window(s.window, now);
    const auto free = free_bytes(s.state);

    Json json = {{"enabled", s.enabled},
                 {"consent", answer_of(*consent)},
                 {"may_send", s.enabled && *consent == fed::ConsentState::Given},
                 {"transport", s.transport.kind},
                 {"address", s.transport.address},
                 {"in_window", window.has_value()},
                 {"epsilon_spent", std::isfinite(*spent) ? Json(*spent) : Json("without bound")},
                 {"epsilon_budget", s.privacy.epsilon},
                 {"state_free_bytes", free ? Json(*free) : Json(nullptr)},
                 {"models", Json::array()}};
    std::string text = fmt::format("Federation   {}\n", s.enabled ? "on" : "off (federated.enabled is false)");
    text += fmt::format("Consent      {}\n", answer_of(*consent));
    text +=
        fmt::format("Server       {} ({})\n",
                    s.transport.kind == "dir" ? s.transport.folder.string() : s.transport.address, s.transport.kind);
    text += fmt::format("Window       {} to {}{}\n", s.window.from, s.window.until, window ? ", open now" : "");
    std::string privacy = "nothing was sent yet";
    if (!std::isfinite(*spent)) privacy = "updates were sent without noise: no formal guarantee";
    else if (*spent > 0)
        privacy = fmt::format("epsilon {:.2f} spent at delta {}{}", *spent, s.privacy.delta,
                              s.privacy.epsilon > 0 ? fmt::format(" of {}", s.privacy.epsilon) : ", no budget is set");
    text += "Privacy      " + privacy + "\n";
    text += fmt::format(
        "Disk         {}\n",
        free ? in_bytes(static_cast<std::int64_t>(*free)) + " free in " + s.state.string() : free.error().message);
    if (rows->empty()) text += "Last round   none yet\n";
    else {
        const MessageRow& last = rows->front();
        text += fmt::format("Last round   {} {} of {}, {}: {}\n", last.incoming.type, last.order.plan.round,
                            last.order.plan.model_id.empty() ? "?" : last.order.plan.model_id, ago(last.since, now),
                            outcome_of(last));
        json["last"] = json_of(last);
    }
    for (const fed::ModelSettings& model : s.models) {
        auto data = tools.local_data(s, model);
        const std::string studies = data ? *data : data.error().message;
        std::string staged = "none";
        int count = 0;
        if (auto store = fed::RoundStore::open(fed::store_file(s), fed::RoundStore::Mode::ReadOnly, clock)) {
            auto accepted = store->accepted(model.id);
            if (!accepted) return std::move(accepted).error();
            for (const fed::AcceptedModel& m : *accepted) count += m.weights.empty() ? 0 : 1;
            if (!accepted->empty()) {
                const fed::AcceptedModel& m = accepted->back();
                const std::string below = fed::below_thresholds(m.validation, s.promotion);
                staged =
                    fmt::format("{}, newest {} of round {}: {}; {}", count, short_hash(m.record_id), m.version,
                                in_words(m.validation), below.empty() ? "may go live" : "not to go live: " + below);
            }
        }
        const std::string live = fed::current_version(s, model);
        text += fmt::format("\nModel        {}\n  studies    {}\n  staged     {}\n  live       {}\n", model.id, studies,
                            staged, live.empty() ? "nothing was promoted" : live);
        json["models"].push_back({{"id", model.id}, {"studies", studies}, {"staged", count}, {"live", live}});
    }
    if (options.json) return json_report(json);
    return Report{text};
}

Result<Report> fed_history_report(const FedOptions& options, const Clock& clock) {
    auto node = settings_of(options);
    if (!node) return std::move(node).error();
    auto rows = newest_of(node->federated, options.message.empty() ? options.newest : 1'000'000, clock);
    if (!rows) return std::move(rows).error();
    if (!options.message.empty()) {
        const MessageRow* chosen = nullptr;
        for (const MessageRow& row : *rows) {
            if (row.incoming.message_id.starts_with(options.message)) chosen = &row;
        }
        if (chosen == nullptr) return reject_error("no message begins with " + printable(options.message));
        auto store = fed::RoundStore::open(fed::store_file(node->federated), fed::RoundStore::Mode::ReadOnly, clock);
        if (!store) return std::move(store).error();
        auto steps = store->transitions(chosen->incoming.message_id);
        if (!steps) return std::move(steps).error();
        Table table({"WHEN", "STATE", "DETAIL"});
        Json json = json_of(*chosen);
        json["transitions"] = Json::array();
        for (const fed::TransitionRow& t : *steps) {
            table.add({date_and_time(t.at), t.state, t.detail});
            json["transitions"].push_back({{"at", json_moment(t.at)}, {"state", t.state}, {"detail", t.detail}});
        }
        if (options.json) return json_report(json);
        return Report{details_of(*chosen) + "\n" + table.text()};
    }
    if (options.json) {
        Json json = Json::array();
        for (const MessageRow& row : *rows) json.push_back(json_of(row));
        return json_report(json);
    }
    if (rows->empty()) return Report{"No round has run yet.\n"};
    Table table(
        {"WHEN", "MESSAGE", "ASKED FOR", "MODEL", ">ROUND", "PULLED", "SENT", ">BYTES", "BEFORE", "AFTER", "OUTCOME"});
    for (const MessageRow& r : *rows) {
        const bool left = r.bytes_sent > 0 && r.state != RoundState::Refused;
        table.add({date_and_time(r.pulled_at), short_hash(r.incoming.message_id), r.incoming.type,
                   r.order.plan.model_id, std::to_string(r.order.plan.round), short_hash(r.record_id),
                   left && r.reason.empty() ? short_hash(r.update_sha256) : "-",
                   r.bytes_sent > 0 ? in_bytes(r.bytes_sent) : "-", in_words(r.before), in_words(r.after),
                   outcome_of(r)});
    }
    return Report{table.text() + "Every step of one: cardionode fed history MESSAGE\n"};
}

Result<Report> fed_consent_report(const FedOptions& options, const Clock& clock) {
    auto node = settings_of(options);
    if (!node) return std::move(node).error();
    const fed::FederatedSettings& s = node->federated;
    const std::string words = fed::what_would_leave(s);
    if (!options.answer.empty()) {
        if (auto made = make_folder(s.state); !made) return std::move(made).error();
        fed::Consent consent;
        consent.given = options.answer == "yes";
        consent.by = account();
        consent.at = clock.now();
        consent.text_sha256 = sha256_hex(words);
        if (auto written = fed::write_consent(s.state, consent); !written) return std::move(written).error();
    }
    auto state = fed::consent_state(s);
    if (!state) return std::move(state).error();
    auto consent = fed::read_consent(s.state);
    if (!consent) return std::move(consent).error();
    if (options.json) {
        Json json = {{"text", words}, {"state", answer_of(*state)}, {"given", *state == fed::ConsentState::Given}};
        if (*consent) json["by"] = (*consent)->by, json["at"] = json_moment((*consent)->at);
        return json_report(json);
    }
    std::string text = words + fmt::format("\nConsent      {}", answer_of(*state));
    if (*consent)
        text += fmt::format("\n             {} by {} on {}", (*consent)->given ? "yes" : "no", (*consent)->by,
                            date_and_time((*consent)->at));
    text += "\n";
    if (options.answer.empty()) text += "To answer: cardionode fed consent --yes, or --no\n";
    return Report{text};
}

}  // namespace cardionode
