// cardionode simulate: a federation on one machine, on phantoms (fedclient/simulate).
#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/compare_plot.h"
#include "conf/command/shapes_folder.h"
#include "fedclient/simulate/simulation.h"

namespace cardionode {
namespace {

/// A picture a head: held-out hospitals beside those that train.
Result<void> draw_heads(const nlohmann::json& results, const std::filesystem::path& out) {
    const std::vector<std::string> arms = fed::simulated_arms(results);
    if (arms.empty()) return {};
    for (const auto& head : results["heads"]) {
        const std::string name = head["name"];
        const bool points = head["points"];
        const std::string measure = name + (points ? "_hit" : "_dice");
        const std::string unit = points ? fmt::format("share of points within {:g} mm", results["hit_mm"].get<double>())
                                        : "Dice of all voxels";
        const std::vector<PlotPanel> panels = {
            {"other_" + measure, fmt::format("{}, held-out hospitals: {}", name, unit)},
            {"train_" + measure, fmt::format("{}, hospitals that train", name)}};
        if (Result<void> drawn = write_arms_plot(results["seeds"], arms, panels, out / (name + ".png")); !drawn)
            return drawn;
    }
    return {};
}

Result<void> run_simulation(const fed::SimulationRun& run) {
    const Result<nlohmann::json> results = fed::simulate(run);
    if (!results) return results.error();
    if (Result<void> drawn = draw_heads(*results, run.out); !drawn) return drawn;
    fmt::print("\n{}\nresults.json, results.md and a picture for each head are in {}\n",
               fed::simulation_markdown(*results), run.out.string());
    return {};
}

}  // namespace

void register_simulate_commands(CLI::App& app) {
    CLI::App* command = app.add_subcommand(
        "simulate", "A federation of hospitals on this machine, on phantoms: local, federated, with teachers");
    auto run = std::make_shared<fed::SimulationRun>();
    run->shapes = default_shapes_folder();
    command->add_option("--config", run->config, "Federation (YAML), for example fedclient/simulate/paper-unet.yaml")
        ->required();
    command->add_option("--out", run->out, "Folder for weights, results.json, results.md and pictures")->required();
    command->add_option("--first-seed", run->first_seed, "Number of the first seed (default 1)")
        ->check(CLI::Range(0, 1'000'000'000));
    command->add_option("--seeds", run->seeds, "How many seeds from there on (default 5)")->check(CLI::Range(1, 20));
    command->add_option("--threads", run->threads, "CPU threads (default 1)")->check(CLI::Range(1, 256));
    command->add_option("--shapes", run->shapes, "Folder of the phantoms' sources");
    add_example(
        *command,
        "cardionode simulate --config fedclient/simulate/paper-unet.yaml --seeds 6 --out /tmp/federation\n"
        "  Ctrl-C ends it; the same line goes on where it was. Processes may share --out, each with seeds of its "
        "own.");
    command->callback([run] {
        run->stop = stop_on_signal();
        run->print = [](const std::string& line) {
            fmt::print("{}\n", line);
            std::fflush(stdout);
        };
        finish(run_simulation(*run));
    });
}

}  // namespace cardionode
