#include "models/train/train_run.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "models/train/bundle_export.h"
#include "models/train/trainer.h"
#include "models/train/validation.h"

namespace cardionode::train {
namespace {

double now_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string text(const char* format, auto... values) {
    char buffer[400];
    std::snprintf(buffer, sizeof buffer, format, values...);
    return buffer;
}

/// Keeps the lines of steps up to `step`: what a killed run wrote after its last checkpoint happens again.
Result<void> trim_metrics(const std::filesystem::path& file, std::int64_t step) {
    std::ifstream in(file);
    std::string kept, line;
    while (std::getline(in, line)) {
        const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
        if (!json.is_discarded() && json.value("step", std::int64_t{0}) <= step) kept += line + "\n";
    }
    return write_file_durably(file, kept);
}

/// The recipe's text with the options' keys at its end. Config: the recipe has such a key already.
Result<std::string> recipe_text(const TrainRunOptions& options) {
    Result<std::string> text = read_file(options.config);
    if (!text) return text;
    std::string added;
    if (!options.from.empty()) {
        std::error_code none;
        const std::filesystem::path whole = std::filesystem::absolute(options.from, none);
        added += "init: {weights: " + nlohmann::json(whole.lexically_normal().string()).dump() + "}\n";
    }
    if (options.freeze_backbone) added += "freeze_backbone: true\n";
    if (!options.heads.empty()) added += "train_heads: " + nlohmann::json(options.heads).dump() + "\n";
    if (added.empty()) return text;
    const std::pair<bool, const char*> keys[] = {{!options.from.empty(), "init"},
                                                 {options.freeze_backbone, "freeze_backbone"},
                                                 {!options.heads.empty(), "train_heads"}};
    for (const auto& [given, key] : keys) {
        if (given && ("\n" + *text).find("\n" + std::string(key) + ":") != std::string::npos) {
            return config_error(options.config.string() + " says " + key +
                                " already: change it there, or leave the option away");
        }
    }
    return *text + (text->empty() || text->back() == '\n' ? "" : "\n") + "# from the command's options\n" + added;
}

class Metrics {
public:
    explicit Metrics(const std::filesystem::path& file) : out_(file, std::ios::app) {}
    bool good() const { return out_.good(); }
    void line(const nlohmann::json& json) { out_ << json.dump() << "\n" << std::flush; }

private:
    std::ofstream out_;
};

}  // namespace

Result<void> train_run(const TrainRunOptions& options) {
    const auto print = [&](const std::string& line) {
        if (options.print) options.print(line);
    };
    Result<std::string> yaml = recipe_text(options);
    if (!yaml) return std::move(yaml).error();
    Result<Recipe> recipe = parse_recipe(*yaml, options.config.string(), options.config.parent_path());
    if (!recipe) return std::move(recipe).error();
    Result<PhantomAtlas> atlas = PhantomAtlas::load(options.shapes);
    if (!atlas) return std::move(atlas).error().in("loading the heart shape");
    if (const Result<void> made = make_folder(options.out); !made) return made.error();
    const std::filesystem::path checkpoint = options.out / "checkpoint.safetensors",
                                metrics_file = options.out / "metrics.jsonl";
    const std::filesystem::path weights = options.out / "weights.safetensors";
    if (!options.resume && std::filesystem::exists(checkpoint))
        return config_error(options.out.string() + " holds a run already; use --resume or another folder");

    torch::Device device = torch::kCPU;
    try {
        device = torch::Device(options.device);
        at::set_num_threads(std::max(1, options.threads));
    } catch (const std::exception& e) {
        return config_error("device " + options.device + ": " + e.what());
    }
    Result<Trainer> created = Trainer::create(*recipe, device);
    if (!created) return std::move(created).error();
    Trainer trainer = *std::move(created);
    if (!trainer.start_note().empty()) print(trainer.start_note());
    if (options.resume) {
        if (const Result<void> loaded = trainer.load_checkpoint(checkpoint); !loaded) return loaded.error();
        if (const Result<void> trimmed = trim_metrics(metrics_file, trainer.step()); !trimmed) return trimmed.error();
        print("resumed at step " + std::to_string(trainer.step()));
    }
    if (Result<void> kept = write_file_durably(options.out / "recipe.yaml", *yaml); !kept) return kept;
    const PhantomSource source(std::make_shared<const PhantomAtlas>(*std::move(atlas)), *recipe);
    Metrics metrics(metrics_file);
    if (!metrics.good()) return retry_error("cannot write " + metrics_file.string());

    Result<void> failure;
    const auto save = [&]() -> Result<void> {
        if (Result<void> saved = trainer.save_checkpoint(checkpoint); !saved) return saved;
        const auto averaged = trainer.averaged();
        if (!averaged) return averaged.error();
        return save_weights(**averaged, weights, {{"step", std::to_string(trainer.step())}});
    };
    const auto check = [&]() -> Result<void> {
        const auto averaged = trainer.averaged();
        if (!averaged) return averaged.error();
        try {
            (*averaged)->to(device);
            const ValidationResult result = validate(**averaged, source, recipe->validation_phantoms, device);
            metrics.line({{"step", trainer.step()}, {"validation", result.to_json()}});
            std::string line =
                text("step %lld  validation: heart Dice %.3f, calcium %.3f", static_cast<long long>(trainer.step()),
                     result.mean_dice("heart"), result.mean_dice("calc"));
            for (const auto& [name, score] : result.landmarks)
                line += text(", %s %.1f mm (%d of %d)", name.c_str(), score.median_mm(), score.found, score.present);
            print(line);
            return {};
        } catch (const std::exception& e) {
            return bug_error(std::string("validating: ") + e.what());
        }
    };
    const double started = now_seconds();
    const std::int64_t first = trainer.step();
    double smooth_loss = 0;
    const auto on_step = [&](const StepReport& r) {
        const double share = r.step - first < 50 ? 1.0 / static_cast<double>(r.step - first) : 0.02;
        smooth_loss += share * (r.loss - smooth_loss);
        nlohmann::json line = {{"step", r.step},
                               {"loss", r.loss},
                               {"rate", r.learning_rate},
                               {"norm", r.gradient_norm},
                               {"seconds", r.seconds}};
        for (const auto& [head, loss] : r.head_loss) line["heads"][head] = loss;
        metrics.line(line);
        if (r.step % 20 == 0 || r.step == recipe->steps) {
            const double left = (now_seconds() - started) / static_cast<double>(r.step - first) *
                                static_cast<double>(recipe->steps - r.step);
            print(text("step %lld of %lld  loss %.3f  rate %.2e  norm %.2f  %.2f s a step  %dh%02dm left",
                       static_cast<long long>(r.step), static_cast<long long>(recipe->steps), smooth_loss,
                       r.learning_rate, r.gradient_norm, r.seconds, static_cast<int>(left / 3600),
                       static_cast<int>(left / 60) % 60));
        }
        if (r.step % recipe->checkpoint_every == 0) failure = save();
        if (failure.ok() && r.step % recipe->validate_every == 0 && r.step < recipe->steps) failure = check();
        return failure.ok() && !(options.stop && options.stop());
    };
    if (const Result<void> ran = trainer.run(source, on_step); !ran) return ran.error();
    if (!failure) return failure.error();
    if (const Result<void> saved = save(); !saved) return saved.error();
    if (Result<void> checked = check(); !checked) return checked;
    if (options.bundle.empty() || trainer.step() < recipe->steps) return {};
    return export_bundle(options.out, options.out / "recipe.yaml", options.bundle, options.record);
}

}  // namespace cardionode::train
