// cardionode-scp: the DICOM receiver.
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "conf/base/log.h"
#include "conf/base/node_settings.h"
#include "scp/server/supervisor.h"

namespace {

int stop_with(const cardionode::Error& error) {
    fmt::print(stderr, "cardionode-scp: {}\n", error.message);
    return error.kind == cardionode::ErrorKind::Config ? 2 : 1;
}

int run(const std::string& config) {
    using namespace cardionode;
    auto settings = load_node_settings(config);
    if (!settings) return stop_with(settings.error());
    auto level = log_level_from(settings->node.log_level);
    if (!level) return stop_with(level.error());
    set_log_level(*level);
    auto supervisor = Supervisor::create(*settings, config);
    if (!supervisor) return stop_with(supervisor.error());
    return supervisor->run();
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Receives DICOM objects and keeps them for the pipeline. Ends at SIGTERM, reads its settings again at SIGHUP.");
    std::string config = "/etc/cardionode/node.yaml";
    app.add_option("--config", config, "settings")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    // A reload that is asked for too early waits until the supervisor looks; by default it would end this process.
    sigset_t reload;
    sigemptyset(&reload);
    sigaddset(&reload, SIGHUP);
    sigprocmask(SIG_BLOCK, &reload, nullptr);
    try {
        return run(config);
    } catch (const std::exception& error) {
        fmt::print(stderr, "cardionode-scp: {}\n", error.what());
        return 1;
    }
}
