// cardionode-fedclient: one night of the federation. Started by a systemd timer, ends by itself.
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "conf/base/log.h"
#include "fedclient/round/night.h"
#include "fedclient/round/parts.h"
#include "fedclient/round/settings.h"

namespace {
volatile std::sig_atomic_t stop_asked = 0;
constexpr int kConfig = static_cast<int>(cardionode::fed::NightEnd::Config);
}  // namespace

int main(int argc, char** argv) {
    using namespace cardionode;
    CLI::App app(
        "Takes part in the rounds of a federation: pulls a model, learns on the node's own studies, sends what the "
        "hospital allows, and ends. Exit codes: 0 done or nothing to do, 75 try again later, 78 settings, keys or "
        "consent, else somebody should look.",
        "cardionode-fedclient");
    std::string config = "/etc/cardionode/node.yaml";
    fed::NightOptions options;
    app.add_option("--config", config, "Settings; cardionode check explains them")->capture_default_str();
    app.add_flag("--now", options.now, "Outside the window of federated.window too");
    app.add_flag("--dry-run", options.dry_run, "Everything but sending");
    app.set_version_flag("--version", CARDIONODE_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : kConfig;
    }
    try {
        auto settings = fed::load_federated(config);
        if (settings) {
            if (auto files = fed::check_federated_files(settings->federated); !files)
                settings = std::move(files).error();
        }
        if (!settings) {
            fmt::print(stderr, "cardionode-fedclient: the settings are wrong:\n{}\n", settings.error().message);
            return kConfig;
        }
        if (auto level = log_level_from(settings->node.node.log_level)) set_log_level(*level);
        for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { stop_asked = 1; });
        std::signal(SIGPIPE, SIG_IGN);
        // Only ever lower: whoever started this process may have chosen less.
        const int nice = settings->federated.compute.nice;
        if (::getpriority(PRIO_PROCESS, 0) < nice) ::setpriority(PRIO_PROCESS, 0, nice);
        std::setvbuf(stdout, nullptr, _IOLBF, 0);
        const auto parts = fed::real_parts(
            *settings, [] { return stop_asked != 0; }, [](const std::string& line) { fmt::print("{}\n", line); });
        return static_cast<int>(fed::run_night(settings->federated, parts, options));
    } catch (const std::exception& e) {
        fmt::print(stderr, "cardionode-fedclient: {}\n", e.what());
        return static_cast<int>(fed::NightEnd::Alarm);
    }
}
