// cardionode-pipeline: analyses the studies of the queue and sends the results.
#include <exception>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "pipeline/runner/service.h"

int main(int argc, char** argv) {
    CLI::App app("Analyses the studies of the queue and sends the results to the PACS. Stops with SIGTERM.",
                 "cardionode-pipeline");
    std::string config = "/etc/cardionode/node.yaml";
    app.add_option("--config", config, "Settings; cardionode check explains them")->capture_default_str();
    app.set_version_flag("--version", CARDIONODE_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : 2;
    }
    try {
        return cardionode::run_pipeline_service(config);
    } catch (const std::exception& e) {
        fmt::print(stderr, "cardionode-pipeline: {}\n", e.what());
        return 1;
    }
}
