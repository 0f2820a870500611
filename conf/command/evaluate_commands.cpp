// cardionode evaluate.
#include <memory>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/evaluate_compare.h"
#include "conf/command/evaluate_phantoms.h"
#include "conf/command/evaluate_reference.h"
#include "conf/command/shapes_folder.h"

namespace cardionode {
namespace {

void print_line(const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
}

void add_shifts(CLI::App& command, std::string& word) {
    command
        .add_option(
            "--tta", word,
            "The second look sees the root several times, a little shifted (and scaled): none, shift (default, as "
            "the node) or shift_scale")
        ->check(CLI::IsMember({"none", "shift", "shift_scale"}));
}

void add_phantoms(CLI::App& evaluate) {
    CLI::App* command = evaluate.add_subcommand(
        "phantoms", "A bundle on phantoms that no training draws: landmarks, structures, measurements");
    auto options = std::make_shared<EvaluatePhantomsOptions>();
    options->shapes = default_shapes_folder();
    command->add_option("--bundle", options->bundle, "Folder of the bundle")->required();
    command->add_option("--out", options->out, "Folder for cases.jsonl, summary.json, table.md and pictures")
        ->required();
    command->add_option("--count", options->count, "Phantoms (default 200)")->check(CLI::Range(1, 100000));
    command->add_option("--edition", options->edition, "Of the phantoms: 1 to 4 (default)")->check(CLI::Range(1, 4));
    command
        ->add_option("--profiles", options->profiles,
                     "Scanner profiles from edition 2 on: training (default), held_out (never seen in training) or all")
        ->check(CLI::IsMember({"training", "held_out", "all"}));
    command->add_option("--non-contrast", options->non_contrast, "Share of phantoms without contrast agent (0.06)")
        ->check(CLI::Range(0.0, 1.0));
    command->add_option("--first-seed", options->first_seed, "Number of the first one (default 0)");
    command
        ->add_option("--size", options->size_mm,
                     "Of the scan in mm: left-right, front-back, head-foot "
                     "(default 160 160 144: the whole heart)")
        ->expected(3)
        ->check(CLI::Range(48.0, 400.0));
    command->add_option("--spacing", options->spacing_mm, "Voxel side in mm (default 1)")->check(CLI::Range(0.4, 4.0));
    command->add_option("--jobs", options->jobs, "Cases at once, each on one CPU thread (default 1)")
        ->check(CLI::Range(1, 64));
    command->add_option("--worst", options->worst, "Pictures of so many worst cases (default 3)")
        ->check(CLI::Range(0, 100));
    add_shifts(*command, options->test_time_shifts);
    command->add_option("--device", options->device, "cpu (default), cuda or cuda:N");
    command->add_option("--shapes", options->shapes, "Folder of the phantoms' sources");
    add_example(*command,
                "cardionode evaluate phantoms --bundle models/bundles/heart-root-unet16 --count 200 --jobs 2 --out "
                "/tmp/evaluation\n"
                "  Ctrl-C ends after the case at hand; the same line goes on where it stopped.");
    command->callback([options] {
        options->stop = stop_on_signal();
        options->print = print_line;
        finish(evaluate_phantoms(*options));
    });
}

void add_compare(CLI::App& evaluate) {
    CLI::App* command = evaluate.add_subcommand(
        "compare", "Results of `cardionode predict` against the truth, as `cardionode phantom` writes it");
    auto options = std::make_shared<EvaluateCompareOptions>();
    command->add_option("predicted", options->predicted, "A folder of results, or a folder of such folders")
        ->required();
    command->add_option("truth", options->truth, "The same of the truth; cases belong together by folder name")
        ->required();
    command->add_option("--out", options->out, "Folder for cases.jsonl, summary.json, table.md and distribution.png");
    add_example(*command,
                "cardionode phantom --seed 7 --out /tmp/truth\n"
                "  cardionode predict /tmp/truth/ct.nii.gz -o /tmp/result\n"
                "  cardionode evaluate compare /tmp/result /tmp/truth");
    command->callback([options] {
        options->print = print_line;
        finish(evaluate_compare(*options));
    });
}

void add_reference(CLI::App& evaluate) {
    CLI::App* command =
        evaluate.add_subcommand("reference", "A bundle on one real CTA, against a silver standard that lies beside it");
    auto options = std::make_shared<EvaluateReferenceOptions>();
    command->add_option("--bundle", options->bundle, "Folder of the bundle")->required();
    command->add_option("--ct", options->ct, "The CTA as NIfTI")->required();
    command->add_option("--truth,--masks", options->truth, "Folder with masks/aorta.nii.gz and ground_truth_lps.json")
        ->required();
    add_shifts(*command, options->test_time_shifts);
    command->add_option("--device", options->device, "cpu (default), cuda or cuda:N");
    command->add_option("--threads", options->threads, "CPU threads; 0 (default): all cores")
        ->check(CLI::Range(0, 256));
    add_example(*command,
                "cardionode evaluate reference --bundle models/bundles/heart-root-unet16 --ct cta/cta.nii.gz --truth "
                "cta");
    command->callback([options] { finish(evaluate_reference(*options)); });
}

}  // namespace

void register_evaluate_commands(CLI::App& app) {
    CLI::App* evaluate = app.add_subcommand("evaluate", "How good a model is: errors, overlaps, distances");
    evaluate->require_subcommand(1);
    add_phantoms(*evaluate);
    add_compare(*evaluate);
    add_reference(*evaluate);
}

}  // namespace cardionode
