// cardionode train prepare, cardionode train status.
#include "conf/command/train_tool_commands.h"

#include <memory>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/train_curves.h"
#include "pipeline/prepare/prepare_study.h"

namespace cardionode {
namespace {

void add_prepare(CLI::App& train) {
    CLI::App* command = train.add_subcommand("prepare", "Make study files for training out of CTs and their labels");
    auto options = std::make_shared<PrepareOptions>();
    command->add_option("--recipe", options->recipe, "Recipe that will train on them: grid, intensities, heads, balls")
        ->required();
    command->add_option("--out", options->out, "Folder for the study files")->required();
    command
        ->add_option("inputs", options->inputs,
                     "DICOM folder of one study, folder with ct.nii.gz, or NIfTI file; beside the images <head>.nii.gz "
                     "(labels), phantom.json or points.json, hps.mps and ms.mps (points)")
        ->required();
    command->add_option("--patient", options->patient,
                        "Whose images these are, for the split into training and hold-out (default: DICOM's patient; "
                        "of NIfTI, each folder is a patient). Only a hash of it is kept");
    command->add_flag("--half", options->half, "Images as float16: half the size, rounded to 11 bits");
    add_example(*command,
                "cardionode train prepare --recipe recipe.yaml --out studies /data/ct1 /data/ct2\n"
                "  then in the recipe:  data: {studies: studies, share: 0.5, holdout: 0.2}");
    command->callback([options] {
        options->print = [](const std::string& line) { fmt::print("{}\n", line); };
        finish(prepare_studies(*options));
    });
}

struct StatusCommand {
    std::filesystem::path folder, png;
};

Result<void> run_train_status(const StatusCommand& command) {
    Result<std::string> text = run_status(command.folder);
    if (!text) return std::move(text).error();
    fmt::print("{}", *text);
    if (command.png.empty()) return {};
    Result<RunMetrics> metrics = read_metrics(command.folder / "metrics.jsonl");
    if (!metrics) return std::move(metrics).error();
    return draw_curves(*metrics, command.png);
}

void add_status(CLI::App& train) {
    CLI::App* command = train.add_subcommand("status", "How far a training run is, and when it ends");
    auto options = std::make_shared<StatusCommand>();
    command->add_option("folder", options->folder, "Folder of the run (--out of `cardionode train`)")->required();
    command->add_option("--png", options->png, "Draw the curves into this file as well");
    add_example(*command, "cardionode train status /tmp/run --png /tmp/curves.png");
    command->callback([options] { finish(run_train_status(*options)); });
}

}  // namespace

void add_train_tools(CLI::App& train) {
    add_prepare(train);
    add_status(train);
}

}  // namespace cardionode
