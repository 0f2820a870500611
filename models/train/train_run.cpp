#include "models/train/train_run.h"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "conf/base/files.h"
#include "models/device.h"
#include "models/train/bundle_export.h"
#include "models/train/study_source.h"
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

/// Config: a head that learns, but neither phantoms nor studies show it.
Result<void> every_head_is_labelled(const Recipe& recipe, const std::optional<StudySource>& studies) {
    std::set<std::string> labelled;
    if (studies) labelled = studies->labelled_heads();
    if (!studies || recipe.data.share < 1) {
        for (const PhantomHead& head : phantom_heads()) labelled.insert(head.name);
        int edition = recipe.phantoms.edition;
        for (const auto& [step, part] : recipe.later_phantoms) edition = std::max(edition, part.edition);
        if (edition < 3 && !(studies && studies->labelled_heads().count("coronaries") > 0))
            labelled.erase("coronaries");
    }
    for (const HeadRecipe& head : recipe.heads) {
        if (recipe.learns(head.name) && labelled.count(head.name) == 0)
            return config_error("no phantom of this recipe and no study is labelled for head " + head.name);
    }
    return {};
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
        set_cpu_threads(std::max(1, options.threads));
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
    std::optional<StudySource> training, held_out;
    if (!recipe->data.studies.empty()) {
        for (auto* part : {&training, &held_out}) {
            Result<StudySource> opened = StudySource::open(
                *recipe, part == &training ? StudySource::Part::Training : StudySource::Part::HeldOut);
            if (!opened) return std::move(opened).error();
            part->emplace(*std::move(opened));
            for (const std::string& remark : (*part)->remarks()) print(remark);
        }
        print(text("%zu studies of %zu patients to train on, %zu of %zu held out", training->size(),
                   training->patients(), held_out->size(), held_out->patients()));
        if (training->size() == 0)
            return config_error("data.studies: no study to train on in " + recipe->data.studies.string());
    }
    if (Result<void> labelled = every_head_is_labelled(*recipe, training); !labelled) return labelled;
    std::optional<MixedSource> mixed;
    if (training) mixed.emplace(source, *training, recipe->data.share, recipe->seed);
    const SampleSource& samples = mixed ? static_cast<const SampleSource&>(*mixed) : source;
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
            const auto report = [&](const char* key, const char* title, const ValidationResult& result) {
                metrics.line({{"step", trainer.step()}, {key, result.to_json()}});
                std::string line = text("step %lld  %s:", static_cast<long long>(trainer.step()), title);
                for (const HeadRecipe& head : recipe->heads) {
                    if (result.has(head.name))
                        line += text(" %s Dice %.3f", head.name.c_str(), result.mean_dice(head.name));
                }
                for (const auto& [name, score] : result.landmarks)
                    line +=
                        text(", %s %.1f mm (%d of %d)", name.c_str(), score.median_mm(), score.found, score.present);
                print(line);
            };
            if (!training || recipe->data.share < 1)
                report("validation", "on phantoms", validate(**averaged, source, recipe->validation_phantoms, device));
            if (held_out && held_out->size() > 0)
                report("holdout", "on held-out studies", validate(**averaged, *held_out, *recipe, device));
            if (options.validated) options.validated();
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
    if (const Result<void> ran = trainer.run(samples, on_step); !ran) return ran.error();
    if (!failure) return failure.error();
    if (const Result<void> saved = save(); !saved) return saved.error();
    if (Result<void> checked = check(); !checked) return checked;
    if (options.bundle.empty() || trainer.step() < recipe->steps) return {};
    return export_bundle(options.out, options.out / "recipe.yaml", options.bundle, options.record);
}

}  // namespace cardionode::train
