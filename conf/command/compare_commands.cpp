// cardionode compare: the experiments of models/train/comparison.h.
#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/compare_plot.h"
#include "conf/command/shapes_folder.h"
#include "models/train/comparison.h"

namespace cardionode {
namespace {

Result<void> run_comparison(const train::ComparisonRun& run, bool frozen) {
    const Result<nlohmann::json> results = frozen ? train::compare_frozen_head(run) : train::compare_distillation(run);
    if (!results) return results.error();
    const std::filesystem::path picture = run.out / "results.png";
    if (Result<void> drawn = write_comparison_plot(*results, picture); !drawn) return drawn;
    fmt::print("\n{}\nresults.json, results.md and results.png are in {}\n", train::comparison_markdown(*results),
               run.out.string());
    return {};
}

void add_comparison(CLI::App& group, const std::filesystem::path& shapes, bool frozen) {
    CLI::App* command =
        frozen
            ? group.add_subcommand("frozen-head", "A new last layer on frozen bodies: SwinUNETR against UNet")
            : group.add_subcommand("distillation", "Few labels alone against few labels and teachers' pseudo-labels");
    auto run = std::make_shared<train::ComparisonRun>();
    run->shapes = shapes;
    command->add_option("--config", run->config, "Comparison (YAML), for example models/train/comparisons/root.yaml")
        ->required();
    command->add_option("--out", run->out, "Folder for weights, results.json, results.md and results.png")->required();
    command->add_option("--seeds", run->seeds, "How many seeds, paired (default 5)")->check(CLI::Range(1, 20));
    command->add_option("--threads", run->threads, "CPU threads (default 1)")->check(CLI::Range(1, 256));
    command->add_option("--shapes", run->shapes, "Folder of the phantoms' sources");
    if (frozen) {
        command->add_option("--bodies", run->bodies, "Folder of the finished `compare distillation`")->required();
        add_example(*command,
                    "cardionode compare frozen-head --config models/train/comparisons/coronaries.yaml --seeds 5 "
                    "--bodies /tmp/distillation --out /tmp/frozen-head");
    } else {
        add_example(*command,
                    "cardionode compare distillation --config models/train/comparisons/root.yaml --seeds 5 "
                    "--out /tmp/distillation\n"
                    "  Ctrl-C ends it; the same line goes on where it was.");
    }
    command->callback([run, frozen] {
        run->stop = stop_on_signal();
        run->print = [](const std::string& line) {
            fmt::print("{}\n", line);
            std::fflush(stdout);
        };
        finish(run_comparison(*run, frozen));
    });
}

}  // namespace

void register_compare_commands(CLI::App& app) {
    CLI::App* group = app.add_subcommand("compare", "Repeat the project's paired experiments on phantoms");
    group->require_subcommand(1);
    add_comparison(*group, default_shapes_folder(), false);
    add_comparison(*group, default_shapes_folder(), true);
}

}  // namespace cardionode
