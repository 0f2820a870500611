// cardionode train.
#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/shapes_folder.h"
#include "conf/command/train_curves.h"
#include "conf/command/train_tool_commands.h"
#include "models/train/train_run.h"

namespace cardionode {
namespace {

void add_train(CLI::App& app) {
    CLI::App* command = app.add_subcommand("train", "Train a network on phantoms and studies");
    auto options = std::make_shared<train::TrainRunOptions>();
    options->shapes = default_shapes_folder();
    command->add_option("--config", options->config, "Recipe (YAML); a bundle's recipe.yaml shows its keys");
    command->add_option("--out", options->out, "Folder for checkpoint, weights, metrics.jsonl and curves.png");
    command->add_flag("--resume", options->resume, "Go on from the folder's checkpoint");
    command->add_option(
        "--from", options->from,
        "Weights to start from (safetensors, .pt, or a bundle's folder): the body and the heads it has");
    command->add_flag("--freeze-backbone", options->freeze_backbone,
                      "Train last layers alone; all else stays as it is, bit for bit");
    command->add_option("--head", options->heads,
                        "Head that learns, more than once for several (default: all); a new one gets one class");
    command->add_option("--device", options->device, "cpu (default), cuda or cuda:N");
    command->add_option("--threads", options->threads, "CPU threads (default 1)")->check(CLI::Range(1, 256));
    command->add_option("--shapes", options->shapes, "Folder of the phantoms' sources");
    command->add_option("--bundle", options->bundle, "Bundle folder with a manifest.yaml: a finished run goes into it");
    command->add_option("--record", options->record, "KEY VALUE pairs for the bundle's training record");
    add_example(*command,
                "cardionode train --config models/bundles/heart-root-unet16/recipe.yaml --out /tmp/run\n"
                "  Ctrl-C writes a checkpoint and ends; the same line with --resume goes on.\n"
                "  cardionode train --config RECIPE --out /tmp/calc --from models/bundles/heart-root-unet16 \\\n"
                "      --freeze-backbone --head calc");
    add_train_tools(*command);
    command->require_subcommand(0, 1);
    command->callback([command, options] {
        if (!command->get_subcommands().empty()) return;
        if (options->config.empty()) throw CLI::RequiredError("--config");
        if (options->out.empty()) throw CLI::RequiredError("--out");
        options->validated = [out = options->out] {
            const Result<RunMetrics> metrics = read_metrics(out / "metrics.jsonl");
            const Result<void> drawn = metrics ? draw_curves(*metrics, out / "curves.png") : metrics.error();
            if (!drawn) fmt::print(stderr, "cardionode: no curves: {}\n", drawn.error().message);
        };
        options->stop = stop_on_signal();
        options->print = [](const std::string& line) {
            fmt::print("{}\n", line);
            std::fflush(stdout);
        };
        finish(train::train_run(*options));
    });
}

}  // namespace

void register_train_commands(CLI::App& app) { add_train(app); }

}  // namespace cardionode
