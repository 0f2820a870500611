#include <algorithm>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "conf/command/command.h"
#include "conf/command/fed_commands.h"
#include "conf/command/models_files.h"
#include "conf/command/models_forward.h"
#include "models/bundle.h"
#include "models/train/bundle_export.h"

namespace cardionode {
namespace {

/// The numbers of "1 2 2 2", "1,1,1 2,2,2" or "[[1,1,1],[2,2,2]]".
std::vector<std::int64_t> numbers_in(const std::vector<std::string>& texts) {
    std::vector<std::int64_t> numbers;
    for (const std::string& text : texts) {
        if (text.find_first_not_of("0123456789,;x[]() ") != std::string::npos) {
            throw CLI::ValidationError("--strides", "expected whole numbers, found " + text);
        }
        for (std::size_t at = 0; (at = text.find_first_of("0123456789", at)) != std::string::npos;) {
            const std::size_t end = std::min(text.find_first_not_of("0123456789", at), text.size());
            if (end - at > 2) throw CLI::ValidationError("--strides", "expected numbers below 100");
            numbers.push_back(std::stoi(text.substr(at, end - at)));
            at = end;
        }
    }
    return numbers;
}

void add_forward(CLI::App& models) {
    CLI::App* command = models.add_subcommand("forward", "Run one network on a tensor file and write its logits");
    auto options = std::make_shared<ForwardOptions>();
    auto strides = std::make_shared<std::vector<std::string>>();
    command->add_option("--arch", options->architecture, "Architecture")
        ->required()
        ->check(CLI::IsMember({"swin_unetr", "plain_conv_unet"}));
    command->add_option("--weights", options->weights, "safetensors with the weights (state.*, or the tensors alone)")
        ->required();
    command->add_option("--input", options->input, "safetensors with the tensor 'input' [N, C, D, H, W]")->required();
    command->add_option("--output", options->output, "safetensors to write: output.<head>, or output.<level>")
        ->required();
    const std::map<std::string, std::string> orders = {
        {"monai_0_9", "monai_0_9"},         {"monai_1_5", "monai_1_5"},        {"v2", "v2"},
        {"merging_until_1.4", "monai_0_9"}, {"merging_from_1.5", "monai_1_5"}, {"mergingv2", "v2"}};
    command
        ->add_option("--merging", options->merging,
                     "Patch merging: monai_0_9 (MONAI 0.9 to 1.4), monai_1_5 (default) or v2; the names of the "
                     "reference file, merging_until_1.4, merging_from_1.5 and mergingv2, mean the same")
        ->transform(CLI::Transformer(orders))
        ->check(CLI::IsMember({"monai_0_9", "monai_1_5", "v2"}));
    command->add_option("--window", options->window, "Slide a window of this side over the input")
        ->check(CLI::Range(8, 1024));
    command->add_option("--overlap", options->overlap, "Of neighbouring windows (default 0.5)")
        ->check(CLI::Range(0.0, 0.9));
    command->add_option("--blending", options->blending, "gaussian (default) or constant")
        ->check(CLI::IsMember({"gaussian", "constant"}));
    command->add_option("--strides", *strides,
                        "plain_conv_unet: one or three a stage, like 1 2 2 or 1,1,1 2,2,2 2,2,1; "
                        "default: as the tensors tell");
    command->add_option("--device", options->device, "cpu (default), cuda, cuda:N or auto");
    command->add_option("--threads", options->threads, "CPU threads; 0 (default): all cores")
        ->check(CLI::Range(0, 256));
    add_example(*command,
                "cardionode models forward --arch swin_unetr --weights w.safetensors --input x.safetensors \\\n"
                "    --output y.safetensors --merging monai_1_5 --window 64 --overlap 0.5");
    command->callback([options, strides] {
        options->strides = numbers_in(*strides);
        finish(run_models_forward(*options));
    });
}

std::string three(const auto& values) { return fmt::format("{}", fmt::join(values, " x ")); }

void print_head(const HeadManifest& head) {
    fmt::print("\nhead {} ({})\n", head.name, head.kind == "points" ? "points" : "structures");
    for (const ClassManifest& c : head.classes) {
        fmt::print("  {:>3}  {:<28} {:<20} {}\n", c.value, c.name,
                   c.code.value.empty() ? "" : c.code.scheme + " " + c.code.value, c.title);
    }
}

std::string in_words(const ArchitectureManifest& a) {
    if (a.type == "swin_unetr") {
        return fmt::format("swin_unetr, feature size {}, patch merging {}", a.feature_size, a.patch_merging);
    }
    std::vector<std::string> strides;
    for (const auto& stride : a.strides) strides.push_back(fmt::format("{}", fmt::join(stride, "x")));
    return fmt::format("plain_conv_unet, features {}, strides {}", fmt::join(a.features, " "), fmt::join(strides, " "));
}

std::string in_words(const InputManifest& input) {
    return fmt::format("{} mm, {}, HU {} to {}, mean {}, sd {}, {} channel(s)", three(input.spacing_mm),
                       input.orientation, input.hu_low, input.hu_high, input.mean, input.sd, input.channels);
}

Result<void> show_bundle(const std::filesystem::path& folder) {
    auto bundle = load_bundle(folder);
    if (!bundle) return std::move(bundle).error();
    const BundleManifest& m = bundle->manifest;
    const auto row = [](const char* name, const std::string& value) { fmt::print("{:<22} {}\n", name, value); };
    row("model", m.name + " " + m.version);
    row("intended use", m.intended_use);
    row("content qualification", m.content_qualification);
    row("architecture", in_words(m.architecture));
    row("input", in_words(m.input));
    row("window", fmt::format("{} voxels, overlap {}, {}", three(m.window.size), m.window.overlap, m.window.blending));
    row("calcium",
        fmt::format("{}, {} HU, dilated by {} mm", m.calcium.rule, m.calcium.threshold_hu, m.calcium.dilate_mm));
    row("weights", bundle->weights_file().string());
    row("SHA-256", m.weights.sha256 + " (checked)");
    if (m.second_look) {
        const SecondLookManifest& second = *m.second_look;
        row("second look", in_words(second.architecture));
        row("  input", in_words(second.input));
        row("  window", three(second.window) + " voxels round the aortic root");
        row("  heads", fmt::format("{}", fmt::join(second.heads, ", ")));
        row("  weights", bundle->second_weights_file().string());
        row("  SHA-256", second.weights.sha256 + " (checked)");
    }
    for (const HeadManifest& head : m.heads) print_head(head);
    if (!m.training.empty()) fmt::print("\ntraining\n");
    for (const auto& [key, value] : m.training) fmt::print("  {:<20} {}\n", key, value);
    return {};
}

void add_show(CLI::App& models) {
    CLI::App* command =
        models.add_subcommand("show", "Show a model bundle and check its manifest and its weights' hash");
    auto folder = std::make_shared<std::string>();
    command->add_option("bundle", *folder, "Folder of the bundle")->required();
    add_example(*command, "cardionode models show models/bundles/heart-small");
    command->callback([folder] { finish(show_bundle(*folder)); });
}

struct RunExport {
    std::string run, recipe, bundle;
    bool second_look = false;
    std::vector<std::string> record;  ///< key, value, key, value
};

Result<void> export_run(const RunExport& options) {
    if (options.record.size() % 2 != 0) return config_error("--record: expected pairs of KEY VALUE");
    std::map<std::string, std::string> record;
    for (std::size_t i = 0; i < options.record.size(); i += 2) record[options.record[i]] = options.record[i + 1];
    const auto put = options.second_look ? train::export_second_look : train::export_bundle;
    if (auto done = put(options.run, options.recipe, options.bundle, record); !done) return done;
    return show_bundle(options.bundle);
}

void add_export(CLI::App& models) {
    CLI::App* command = models.add_subcommand(
        "export", "Put the averaged weights of a training run into a bundle; or write a bundle's weights for PyTorch");
    auto options = std::make_shared<RunExport>();
    auto weights = std::make_shared<ExportOptions>();
    CLI::Option* output = command->add_option("-o,--output", weights->output, "Out of a bundle: the file to write");
    CLI::Option* run = command->add_option("run", options->run,
                                           "Into a bundle: folder of the run (weights.safetensors, metrics.jsonl)");
    CLI::Option* config = command->add_option("--config", options->recipe, "Recipe of the run");
    command->add_option("--bundle", options->bundle, "Folder of the bundle, with its manifest.yaml")->required();
    command->add_flag("--second-look", options->second_look, "As the network that looks at the root once more")
        ->needs(run);
    command->add_option("--record", options->record, "KEY VALUE pairs for the bundle's training record")->needs(run);
    command
        ->add_option("--format", weights->format,
                     "Out of a bundle: pt (default: torch.load(..., weights_only=True) gives a state_dict) or "
                     "safetensors")
        ->check(CLI::IsMember({"pt", "safetensors"}))
        ->needs(output);
    run->needs(config)->excludes(output);
    config->needs(run);
    add_example(*command,
                "cardionode models export /tmp/root-run --config root.yaml --bundle models/bundles/NAME --second-look\n"
                "  cardionode models export --bundle models/bundles/NAME --format pt -o heart.pt");
    command->callback([options, weights] {
        if (!weights->output.empty()) {
            weights->bundle = options->bundle;
            finish(run_models_export(*weights));
        } else if (!options->run.empty()) {
            finish(export_run(*options));
        } else {
            throw CLI::RequiredError("the folder of a run, or -o FILE");
        }
    });
}

void add_import(CLI::App& models) {
    CLI::App* command =
        models.add_subcommand("import", "Read a PyTorch checkpoint, without running it, into a weights file");
    auto options = std::make_shared<ImportOptions>();
    command->add_option("file", options->file, "Checkpoint of torch.save (.pt, .pth), or safetensors")->required();
    command->add_option("--architecture", options->architecture, "Architecture")
        ->required()
        ->check(CLI::IsMember({"swin_unetr", "plain_conv_unet"}));
    command->add_option("--head", options->single_head,
                        "Name for the head of a checkpoint whose only head has none (default: out)");
    command->add_option("-o,--output", options->output, "safetensors to write")->required();
    add_example(*command,
                "cardionode models import teacher.pt --architecture plain_conv_unet --head calc -o calc.safetensors");
    command->callback([options] { finish(run_models_import(*options)); });
}

}  // namespace

void register_models_commands(CLI::App& app) {
    CLI::App* models = app.add_subcommand("models", "Networks and model bundles");
    models->require_subcommand(1);
    add_forward(*models);
    add_show(*models);
    add_export(*models);
    add_import(*models);
    add_promotion(*models);
}

}  // namespace cardionode
