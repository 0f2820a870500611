// cardionode train, cardionode phantom.
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/shapes_folder.h"
#include "models/train/phantom_files.h"
#include "models/train/train_run.h"

namespace cardionode {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

void add_train(CLI::App& app) {
    CLI::App* command = app.add_subcommand("train", "Train a network on phantoms");
    auto options = std::make_shared<train::TrainRunOptions>();
    options->shapes = default_shapes_folder();
    command->add_option("--config", options->config, "Recipe (YAML); a bundle's recipe.yaml shows every key")
        ->required();
    command->add_option("--out", options->out, "Folder for checkpoint, weights and metrics.jsonl")->required();
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
                "cardionode train --config models/bundles/heart-unet12-2mm/recipe.yaml --out /tmp/run\n"
                "  Ctrl-C writes a checkpoint and ends; the same line with --resume goes on.\n"
                "  cardionode train --config RECIPE --out /tmp/calc --from models/bundles/heart-unet12-2mm \\\n"
                "      --freeze-backbone --head calc");
    command->callback([options] {
        stop_asked = 0;
        std::signal(SIGINT, [](int) { stop_asked = 1; });
        std::signal(SIGTERM, [](int) { stop_asked = 1; });
        options->stop = [] { return stop_asked != 0; };
        options->print = [](const std::string& line) {
            fmt::print("{}\n", line);
            std::fflush(stdout);
        };
        finish(train::train_run(*options));
    });
}

struct PhantomCommand {
    std::uint64_t seed = 1;
    int count = 1, size = 96;
    double spacing = 2;
    std::filesystem::path out, shapes;
};

Result<void> run_phantom(const PhantomCommand& options) {
    Result<train::PhantomAtlas> atlas = train::PhantomAtlas::load(options.shapes);
    if (!atlas) return std::move(atlas).error();
    for (int i = 0; i < options.count; ++i) {
        const std::uint64_t seed = options.seed + static_cast<std::uint64_t>(i);
        const train::PhantomGrid grid = train::PhantomGrid::around(
            {0, 8, -5}, {options.size, options.size, options.size}, static_cast<float>(options.spacing));
        const std::filesystem::path folder = options.count == 1 ? options.out : options.out / std::to_string(seed);
        if (Result<void> written = train::write_phantom(train::draw_phantom(*atlas, seed, grid), seed, folder);
            !written)
            return written;
        fmt::print("phantom {} in {}\n", seed, folder.string());
    }
    return {};
}

void add_phantom(CLI::App& app) {
    CLI::App* command = app.add_subcommand("phantom", "Draw a cardiac CT phantom with exact labels and points");
    auto options = std::make_shared<PhantomCommand>();
    options->shapes = default_shapes_folder();
    command->add_option("--out", options->out, "Folder for ct.nii.gz, label maps, phantom.json and phantom.png")
        ->required();
    command->add_option("--seed", options->seed, "One seed, one phantom (default 1)");
    command->add_option("--count", options->count, "Phantoms of this and the following seeds, a folder each")
        ->check(CLI::Range(1, 100000));
    command->add_option("--size", options->size, "Voxels a side (default 96)")->check(CLI::Range(16, 512));
    command->add_option("--spacing", options->spacing, "Voxel side in mm (default 2)")->check(CLI::Range(0.3, 8.0));
    command->add_option("--shapes", options->shapes, "Folder of the phantoms' sources");
    add_example(*command, "cardionode phantom --seed 7 --out /tmp/phantom7");
    command->callback([options] { finish(run_phantom(*options)); });
}

}  // namespace

void register_train_commands(CLI::App& app) {
    add_train(app);
    add_phantom(app);
}

}  // namespace cardionode
