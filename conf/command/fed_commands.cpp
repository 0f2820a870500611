#include "conf/command/fed_commands.h"

#include <memory>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/fed_reports.h"
#include "fedclient/round/local_data.h"
#include "fedclient/round/night.h"
#include "fedclient/round/parts.h"

namespace cardionode {
namespace {

using Options = std::shared_ptr<FedOptions>;

FedTools real() {
    FedTools tools;
    tools.spent_epsilon = fed::spent_epsilon;
    tools.local_data = [](const fed::FederatedSettings& s, const fed::ModelSettings& m) -> Result<std::string> {
        auto report = fed::local_data(s, m);
        if (!report) return std::move(report).error();
        return fed::in_words(*report);
    };
    tools.put_weights = fed::put_weights;
    return tools;
}

Options add_common(CLI::App& command) {
    auto options = std::make_shared<FedOptions>();
    command.add_option("--config", options->config, "The node's settings (default /etc/cardionode/node.yaml)");
    command.add_flag("--json", options->json, "JSON instead of text");
    return options;
}

void print(Result<Report> report) {
    if (!report) fail(report.error());
    fmt::print("{}", report->text);
    if (report->exit_code != 0) throw CLI::RuntimeError(report->exit_code);
}

void add_consent(CLI::App& app) {
    CLI::App* consent =
        app.add_subcommand("consent", "What would leave the hospital, in plain words; and say yes or no to it");
    const Options options = add_common(*consent);
    const auto yes = std::make_shared<bool>(false), no = std::make_shared<bool>(false);
    CLI::Option* agree = consent->add_flag("--yes", *yes, "Agree to exactly what is shown");
    consent->add_flag("--no", *no, "Refuse: the client pulls and pushes nothing")->excludes(agree);
    add_example(*consent, "cardionode fed consent\n  cardionode fed consent --yes");
    consent->callback([options, yes, no] {
        options->answer = *yes ? "yes" : *no ? "no" : "";
        print(fed_consent_report(*options));
    });
}

void add_dry_run(CLI::App& app) {
    CLI::App* command = app.add_subcommand(
        "dry-run", "Pull, check, learn and filter as in a real night, and stop before anything is sent");
    const Options options = add_common(*command);
    add_example(*command, "sudo -u cardionode-fedclient cardionode fed dry-run");
    command->callback([options] {
        auto settings = fed::load_federated(options->config);
        if (settings) {
            if (auto files = fed::check_federated_files(settings->federated); !files)
                settings = std::move(files).error();
        }
        if (!settings) fail(settings.error());
        const auto stop = stop_on_signal();
        const auto parts =
            fed::real_parts(*settings, stop, [](const std::string& line) { fmt::print(stderr, "{}\n", line); });
        fed::NightOptions night;
        night.now = night.dry_run = true;
        const fed::NightEnd end = fed::run_night(settings->federated, parts, night);
        if (end != fed::NightEnd::Done) throw CLI::RuntimeError(end == fed::NightEnd::Config ? 2 : 1);
        options->newest = 1;
        auto newest = fed_history_report(*options);
        if (!newest) fail(newest.error());
        fmt::print("{}", newest->text);
        fmt::print(
            stderr,
            "Nothing was sent. The message waits: a real run before its deadline answers it from this result.\n");
    });
}

}  // namespace

void register_fed_commands(CLI::App& app) {
    CLI::App* fed = app.add_subcommand("fed", "The federation: what was pulled and sent, and what may be");
    fed->require_subcommand(1);

    CLI::App* status = fed->add_subcommand("status", "How the federation stands: consent, last round, models, privacy");
    const Options status_options = add_common(*status);
    add_example(*status, "cardionode fed status");
    status->callback([status_options] { print(fed_status_report(*status_options, real())); });

    CLI::App* history = fed->add_subcommand("history", "The rounds, newest first: hashes, sizes, validation, outcome");
    const Options history_options = add_common(*history);
    history->add_option("message", history_options->message, "First characters of one message: every step of it");
    history->add_option("--newest", history_options->newest, "How many (default 20)")->check(CLI::Range(1, 1'000'000));
    add_example(*history, "cardionode fed history\n  cardionode fed history 3f9a");
    history->callback([history_options] { print(fed_history_report(*history_options)); });

    add_consent(*fed);
    add_dry_run(*fed);
}

void add_promotion(CLI::App& models) {
    CLI::App* promote =
        models.add_subcommand("promote", "Put a staged global model live for the pipeline, if the thresholds allow it");
    const Options promote_options = add_common(*promote);
    promote->add_option("--model", promote_options->model, "Which of federated.models (default: the only one)");
    promote->add_option("--record", promote_options->version, "First digits of its hash (default: the newest)");
    promote->add_flag("--insist", promote_options->insist, "Although the thresholds say no; the history says so");
    add_example(*promote, "cardionode models promote --model tavi-root");
    promote->callback([promote_options] { print(promote_report(*promote_options, real())); });

    CLI::App* rollback = models.add_subcommand("rollback", "Go back to the version that was live before");
    const Options rollback_options = add_common(*rollback);
    rollback->add_option("--model", rollback_options->model, "Which of federated.models (default: the only one)");
    rollback->add_option("--version", rollback_options->version,
                         "First characters of a version (default: the one before)");
    add_example(*rollback, "cardionode models rollback");
    rollback->callback([rollback_options] { print(rollback_report(*rollback_options)); });

    CLI::App* history = models.add_subcommand("history", "Which version went live when, by whom, validated how");
    const Options history_options = add_common(*history);
    history->add_option("--model", history_options->model, "Which of federated.models (default: the only one)");
    add_example(*history, "cardionode models history");
    history->callback([history_options] { print(promotions_report(*history_options)); });
}

}  // namespace cardionode
