// cardionode-fedcoord: a coordinator for tests, demonstrations and simulation on one machine.
//
// Exit codes: 0 stopped or finished, 78 settings, 1 anything else.
#include <signal.h>

#include <cstdio>
#include <iostream>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "conf/base/log.h"
#include "conf/base/time.h"
#include "fedclient/coordinator/coordinator.h"
#include "fedclient/coordinator/coordinator_store.h"
#include "fedclient/coordinator/status.h"

namespace {

using namespace cardionode;       // NOLINT: a program
using namespace cardionode::fed;  // NOLINT

constexpr int kConfigExit = 78;

constexpr const char* kWhatFor =
    "cardionode-fedcoord: the server side of federated rounds, for tests, demonstrations and simulation on one "
    "machine.\n"
    "It speaks the part of Flower's Fleet protocol that hospitals' nodes use, and can inject faults.\n"
    "It is NOT for a consortium: hospitals that train together run a Flower SuperLink behind a proxy with mutual TLS\n"
    "(fedclient/flower/serverapp).";

int failed(const Error& error) {
    std::cerr << "cardionode-fedcoord: " << error.message << "\n";
    return error.kind == ErrorKind::Config ? kConfigExit : 1;
}

std::string fault_help() {
    std::string text = "inject a fault, name=times or name=times:argument; may be repeated or joined by commas:";
    for (const auto& name : Faults::names()) text += " " + name;
    return text;
}

int serve(const std::string& settings_file, const std::string& folder, std::vector<std::string> faults,
          bool until_done) {
    // Before any thread starts, so that all of them leave these signals to sigtimedwait.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    signal(SIGPIPE, SIG_IGN);

    auto settings = load_run_settings(settings_file);
    if (!settings) return failed(settings.error());
    CoordinatorOptions options;
    options.settings = std::move(*settings);
    options.folder = folder;
    options.faults = std::move(faults);
    auto coordinator = Coordinator::start(std::move(options));
    if (!coordinator) return failed(coordinator.error());
    std::cout << (*coordinator)->url() << std::endl;  // whoever started it waits for this line
    const timespec pause{0, 200'000'000};
    while (sigtimedwait(&signals, nullptr, &pause) < 0)
        if (until_done && (*coordinator)->finished()) break;
    log_info("coordinator_stopped");
    return 0;
}

int show(const std::string& folder, bool json) {
    auto store = CoordinatorStore::open_read_only(coordinator_database(folder));
    if (!store) return failed(store.error());
    const auto status = status_json(**store, system_clock().now(), nullptr);
    if (!status) return failed(status.error());
    std::cout << (json ? *status + "\n" : status_table(*status));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        CLI::App app(kWhatFor, "cardionode-fedcoord");
        app.require_subcommand(1);
        std::string settings, folder;
        std::vector<std::string> faults;
        bool until_finished = false, json = false;
        auto* const run = app.add_subcommand("run", "serve the rounds of a settings file; prints its URL when ready");
        run->add_option("settings", settings, "YAML, see fedcoord.example.yaml")->required();
        run->add_option("--state", folder, "folder for database, objects and models; a run goes on from it")
            ->required();
        run->add_option("--fault", faults, fault_help())->delimiter(',');
        run->add_flag("--until-finished", until_finished, "end with exit code 0 after the last round");
        auto* const status = app.add_subcommand("status", "rounds, sites, dropped updates and validation of a folder");
        status->add_option("--state", folder, "the folder of `run`")->required();
        status->add_flag("--json", json, "for programs");
        CLI11_PARSE(app, argc, argv);
        return *run ? serve(settings, folder, faults, until_finished) : show(folder, json);
    } catch (const std::exception& e) {
        std::cerr << "cardionode-fedcoord: " << e.what() << "\n";
        return 1;
    }
}
