// cardionode models promote, rollback, history.
#include <cstdlib>

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include "conf/command/fed_reports.h"
#include "conf/command/fed_support.h"
#include "conf/command/operator_support.h"
#include "conf/command/table.h"
#include "fedclient/round/night.h"
#include "fedclient/round/store_json.h"

namespace cardionode {
namespace {

Result<const fed::ModelSettings*> model_of(const fed::FederatedSettings& settings, const std::string& id) {
    if (!id.empty()) {
        const fed::ModelSettings* model = settings.model(id);
        if (model == nullptr) return reject_error("\"" + printable(id) + "\" is no model of federated.models");
        return model;
    }
    if (settings.models.size() == 1) return &settings.models.front();
    if (settings.models.empty()) return reject_error("federated.models is empty: there is no model to promote");
    std::string ids;
    for (const fed::ModelSettings& m : settings.models) ids += (ids.empty() ? "" : ", ") + m.id;
    return reject_error("which model? --model with one of " + ids);
}

}  // namespace

std::string account() {
    const char* sudo = std::getenv("SUDO_USER");
    if (sudo != nullptr && *sudo != '\0') return printable(sudo);
    const passwd* entry = ::getpwuid(::geteuid());
    return entry == nullptr ? std::to_string(::geteuid()) : printable(entry->pw_name);
}

Result<Report> promote_report(const FedOptions& options, const FedTools& tools, const Clock& clock) {
    auto node = settings_of(options);
    if (!node) return std::move(node).error();
    const fed::FederatedSettings& s = node->federated;
    auto model = model_of(s, options.model);
    if (!model) return std::move(model).error();
    auto store = fed::RoundStore::open(fed::store_file(s), fed::RoundStore::Mode::ReadOnly, clock);
    if (!store) return std::move(store).error();
    auto accepted = store->accepted((*model)->id);
    if (!accepted) return std::move(accepted).error();
    fed::PromotionRequest request;
    request.by = account(), request.record = options.version, request.insist = options.insist;
    auto line = fed::promote(
        s, **model, *accepted, request,
        [&](const fed::ModelSettings& m, const std::filesystem::path& weights, const std::filesystem::path& target,
            const std::map<std::string, std::string>& record) {
            return tools.put_weights(s, m, weights, target, record);
        },
        clock);
    if (!line) return std::move(line).error();
    const std::filesystem::path current = fed::promotion_folder(s, **model) / "current";
    Json json = {{"model", (*model)->id},
                 {"version", line->version},
                 {"weights", line->weights_sha256},
                 {"bundle", current.string()}};
    if (options.json) return json_report(json);
    std::string text =
        fmt::format("{}: version {} is live ({})\n", (*model)->id, line->version, in_words(line->validation));
    std::error_code no_matter;
    if (node->node.pipeline.bundle.lexically_normal() == current.lexically_normal()) {
        text += "The pipeline takes it up when it starts: systemctl restart cardionode-pipeline\n";
    } else {
        text += fmt::format(
            "The pipeline runs another bundle. To use this one, set\n  pipeline: {{bundle: {}}}\n"
            "and restart it: systemctl restart cardionode-pipeline\n",
            current.string());
    }
    text += "Back: cardionode models rollback\n";
    return Report{text};
}

Result<Report> rollback_report(const FedOptions& options, const Clock& clock) {
    auto node = settings_of(options);
    if (!node) return std::move(node).error();
    auto model = model_of(node->federated, options.model);
    if (!model) return std::move(model).error();
    auto line = fed::roll_back(node->federated, **model, options.version, account(), clock);
    if (!line) return std::move(line).error();
    if (options.json)
        return json_report({{"model", (*model)->id}, {"version", line->version}, {"weights", line->weights_sha256}});
    return Report{
        fmt::format("{}: version {} is live again ({})\nThe pipeline takes it up when it starts: systemctl "
                    "restart cardionode-pipeline\n",
                    (*model)->id, line->version, line->note)};
}

Result<Report> promotions_report(const FedOptions& options, const Clock&) {
    auto node = settings_of(options);
    if (!node) return std::move(node).error();
    auto model = model_of(node->federated, options.model);
    if (!model) return std::move(model).error();
    auto lines = fed::promotions(node->federated, **model);
    if (!lines) return std::move(lines).error();
    const std::string current = fed::current_version(node->federated, **model);
    if (options.json) {
        Json json = Json::array();
        for (const fed::PromotionLine& l : *lines) {
            json.push_back({{"at", json_moment(l.at)},
                            {"action", l.action},
                            {"by", l.by},
                            {"version", l.version},
                            {"live", l.version == current},
                            {"round", l.round},
                            {"weights_sha256", l.weights_sha256},
                            {"record", l.record_id},
                            {"note", l.note}});
            if (l.validation) json.back()["validation"] = fed::to_json(*l.validation);
        }
        return json_report(json);
    }
    if (lines->empty()) return Report{(*model)->id + ": nothing was promoted yet.\n"};
    Table table({"WHEN", "WHAT", "BY", "VERSION", ">ROUND", "WEIGHTS", "VALIDATION", "NOTE"});
    for (const fed::PromotionLine& l : *lines) {
        table.add({date_and_time(l.at), l.action, l.by, l.version, std::to_string(l.round),
                   short_hash(l.weights_sha256), in_words(l.validation), l.note});
    }
    return Report{table.text() + "Live: " + (current.empty() ? "none" : current) + "\n"};
}

}  // namespace cardionode
