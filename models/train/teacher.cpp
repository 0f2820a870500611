#include "models/train/teacher.h"

#include <algorithm>

namespace cardionode::train {

Result<std::shared_ptr<Network>> train_network(const Recipe& recipe, const SampleSource& samples,
                                               const TrainingCall& call) {
    Result<Trainer> created = Trainer::create(recipe, call.device);
    if (!created) return std::move(created).error();
    Trainer trainer = *std::move(created);
    const bool keeps = !call.checkpoint.empty();
    std::error_code no_matter;
    if (keeps && std::filesystem::exists(call.checkpoint, no_matter)) {
        if (Result<void> loaded = trainer.load_checkpoint(call.checkpoint); !loaded) return loaded.error();
    }
    Result<void> saved;
    bool stopped = false;
    const auto on_step = [&](const StepReport& report) {
        stopped = call.on_step && !call.on_step(report);
        const bool due = stopped || report.step % recipe.checkpoint_every == 0 || report.step == recipe.steps;
        if (keeps && due) saved = trainer.save_checkpoint(call.checkpoint);
        return saved.ok() && !stopped;
    };
    if (Result<void> ran = trainer.run(samples, on_step); !ran) return ran.error();
    if (!saved) return saved.error();
    if (stopped) return retry_error("stopped at step " + std::to_string(trainer.step()));
    Result<std::shared_ptr<Network>> network = trainer.averaged();
    if (network) (*network)->to(call.device);
    return network;
}

Result<Recipe> recipe_for_head(const Recipe& recipe, const std::string& head) {
    Recipe one = recipe;
    one.heads.clear();
    std::copy_if(recipe.heads.begin(), recipe.heads.end(), std::back_inserter(one.heads),
                 [&](const HeadRecipe& h) { return h.name == head; });
    if (one.heads.empty()) return config_error("the recipe has no head " + head);
    return one;
}

Result<Teacher> train_teacher(const Recipe& recipe, const SampleSource& labelled, const WindowManifest& window,
                              const TrainingCall& call) {
    Result<std::shared_ptr<Network>> network = train_network(recipe, labelled, call);
    if (!network) return std::move(network).error();
    return make_teacher(*std::move(network), pseudo_heads(recipe), window, recipe.precision);
}

Result<std::shared_ptr<Network>> train_student(const Recipe& recipe, const StudentSamples& samples,
                                               const TrainingCall& call) {
    try {
        const StudyWindows windows(samples.labelled, samples.pseudo, samples.labelled_share, recipe.window, recipe.seed,
                                   samples.jitter);
        return train_network(recipe, windows, call);
    } catch (const std::invalid_argument& e) {
        return config_error(std::string("training a student: ") + e.what());
    }
}

Result<std::shared_ptr<Network>> fine_tune(const Recipe& recipe, const std::filesystem::path& start,
                                           const std::string& head, bool body_frozen, const SampleSource& labelled,
                                           const TrainingCall& call) {
    Recipe tuned = recipe;
    tuned.init_weights = start;
    tuned.freeze_backbone = body_frozen;
    tuned.train_heads = {head};
    const auto named = [&](const HeadRecipe& h) { return h.name == head; };
    if (std::none_of(tuned.heads.begin(), tuned.heads.end(), named))
        return config_error("the recipe has no head " + head);
    return train_network(tuned, labelled, call);
}

}  // namespace cardionode::train
