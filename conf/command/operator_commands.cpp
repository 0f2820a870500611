// cardionode status, studies, show, retry, check.
#include <memory>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/operator_reports.h"

namespace cardionode {
namespace {

using Options = std::shared_ptr<OperatorOptions>;

Options add_common(CLI::App& command) {
    auto options = std::make_shared<OperatorOptions>();
    command.add_option("--config", options->config, "The node's settings (default /etc/cardionode/node.yaml)");
    command.add_flag("--json", options->json, "JSON instead of text");
    return options;
}

void print(const Report& report) {
    fmt::print("{}", report.text);
    if (report.exit_code != 0) throw CLI::RuntimeError(report.exit_code);
}

void print(Result<Report> report) {
    if (!report) fail(report.error());
    print(*report);
}

}  // namespace

void register_operator_commands(CLI::App& app) {
    CLI::App* status = app.add_subcommand("status", "How the node is doing: studies by state, destinations, disk");
    const Options status_options = add_common(*status);
    add_example(*status, "cardionode status");
    status->callback([status_options] { print(status_report(*status_options)); });

    CLI::App* studies = app.add_subcommand("studies", "The studies in the queue, newest first");
    const Options studies_options = add_common(*studies);
    studies->add_option("--newest", studies_options->newest, "How many (default 100)")->check(CLI::Range(1, 1'000'000));
    add_example(*studies, "cardionode studies --newest 20");
    studies->callback([studies_options] { print(studies_report(*studies_options)); });

    CLI::App* show = app.add_subcommand("show", "Everything about one study: result, outputs, what happened");
    const Options show_options = add_common(*show);
    const auto study = std::make_shared<std::string>();
    show->add_option("study", *study, "Key of the study, as `cardionode studies` shows it")->required();
    show->add_flag("--uids", show_options->uids, "Show UIDs and every image too");
    show->add_option("--events", show_options->newest, "How many of the newest events (default 100)")
        ->check(CLI::Range(1, 1'000'000));
    add_example(*show, "cardionode show S00AM");
    show->callback([show_options, study] { print(show_report(*show_options, *study)); });

    CLI::App* retry =
        app.add_subcommand("retry", "Work on studies again that were set aside or wait for their next try");
    const Options retry_options = add_common(*retry);
    const auto keys = std::make_shared<std::vector<std::string>>();
    const auto all = std::make_shared<bool>(false);
    CLI::Option* named = retry->add_option("study", *keys, "Keys of the studies, as `cardionode studies` shows them");
    CLI::Option* every = retry->add_flag("--all", *all, "Every study that was set aside");
    named->excludes(every);
    add_example(*retry, "cardionode retry S00AM");
    retry->callback([retry_options, keys, all] {
        if (keys->empty() && !*all) throw CLI::RequiredError("The key of a study, or --all,");
        print(retry_report(*retry_options, *keys));
    });

    CLI::App* check = app.add_subcommand("check", "Read the settings, name every mistake by line, start nothing");
    const Options check_options = add_common(*check);
    add_example(*check, "cardionode check --config /etc/cardionode/node.yaml");
    check->callback([check_options] { print(check_report(*check_options)); });
}

}  // namespace cardionode
