#include "fedclient/methods/round_training.h"

#include <algorithm>

#include "fedclient/methods/cpu_threads.h"
#include "models/device.h"

namespace cardionode::fed {
namespace {

constexpr std::int64_t kRiseShare = 10;  // the rate rises over at most a tenth of the round

/// Config: a tensor is missing or too many. Shapes and types are load_state's to check.
Result<void> holds_exactly(const Network& network, const NamedTensors& stored, const std::filesystem::path& file) {
    const NamedTensors own = state_of(network);
    for (const auto& [name, tensor] : own) {
        const auto found = stored.find(name);
        if (found == stored.end())
            return config_error(file.string() + ": tensor " + name +
                                " is missing: the weights are of another architecture or other heads");
        if (found->second.sizes() != tensor.sizes())
            return config_error(file.string() + ": tensor " + name + " has another shape than the recipe's network");
    }
    for (const auto& [name, tensor] : stored) {
        if (!own.count(name))
            return config_error(file.string() + ": tensor " + name + " is not of the recipe's network");
    }
    return {};
}

Error torch_error(const std::string& doing, const std::exception& e) {
    const std::string what = e.what();
    // LibTorch has no type of its own for this on the CPU; CUDA's says "out of memory".
    const bool memory = dynamic_cast<const std::bad_alloc*>(&e) != nullptr ||
                        what.find("out of memory") != std::string::npos ||
                        what.find("can't allocate memory") != std::string::npos;
    return memory ? retry_error(doing + ": memory is full") : bug_error(doing + ": " + what);
}

}  // namespace

Result<void> set_threads(int threads) {
    if (threads < 1) return config_error("threads: expected a whole number from 1 on");
    set_cpu_threads(threads);
    return {};
}

train::Recipe recipe_of_round(const RoundTraining& round) {
    train::Recipe recipe = round.recipe;
    recipe.seed = round.seed;
    recipe.init_weights = round.pulled;
    recipe.freeze_backbone = false;
    recipe.train_heads = round.heads;
    recipe.steps = round.steps;
    if (round.learning_rate > 0) recipe.learning_rate = round.learning_rate;
    recipe.warm_up = std::min(recipe.warm_up, round.steps / kRiseShare);
    recipe.schedule = "constant";
    recipe.fine_tune.clear();
    recipe.ema_decay = 0;
    return recipe;
}

Result<std::shared_ptr<Network>> network_with(const train::Recipe& recipe, const std::filesystem::path& weights,
                                              torch::Device device) {
    Result<Safetensors> stored = read_safetensors(weights);
    if (!stored) return std::move(stored).error();
    NetworkOptions options;
    options.architecture = recipe.architecture;
    options.input_channels = recipe.input.channels;
    for (const train::HeadRecipe& h : recipe.heads) options.heads.push_back({h.name, h.classes + 1});
    try {
        Result<std::shared_ptr<Network>> network = make_network(options);
        if (!network) return network;
        if (Result<void> fits = holds_exactly(**network, stored->tensors, weights); !fits) return fits.error();
        if (Result<void> loaded = load_state(**network, stored->tensors); !loaded)
            return std::move(loaded).error().in(weights.string());
        (*network)->to(device);
        return network;
    } catch (const std::exception& e) {
        return torch_error("loading weights", e);
    }
}

Result<RoundTrained> train_round(const RoundTraining& round, const train::SampleSource& samples) {
    const train::Recipe recipe = recipe_of_round(round);
    Result<Safetensors> pulled = read_safetensors(round.pulled);
    if (!pulled) return std::move(pulled).error();
    Result<train::Trainer> created = train::Trainer::create(recipe, round.device);
    if (!created) return std::move(created).error();
    train::Trainer trainer = *std::move(created);
    if (Result<void> fits = holds_exactly(trainer.network(), pulled->tensors, round.pulled); !fits) return fits.error();
    pulled->tensors.clear();
    trainer.stay_near_start(round.proximal_mu);
    std::error_code no_matter;
    const bool keeps = !round.checkpoint.empty();
    if (keeps && std::filesystem::exists(round.checkpoint, no_matter)) {
        if (Result<void> loaded = trainer.load_checkpoint(round.checkpoint); !loaded) return loaded.error();
    }
    RoundTrained trained;
    Result<void> saved;
    bool stopped = false;
    std::int64_t here = 0;
    const auto on_step = [&](const train::StepReport& report) {
        trained.loss += (report.loss - trained.loss) / static_cast<double>(++here);
        if (round.on_step) round.on_step(report);
        stopped = round.stop && round.stop();
        const bool done = !stopped && round.enough && round.enough();
        if (keeps && (stopped || done || report.step % recipe.checkpoint_every == 0 || report.step == recipe.steps))
            saved = trainer.save_checkpoint(round.checkpoint);
        return saved.ok() && !stopped && !done;
    };
    try {
        if (Result<void> ran = trainer.run(samples, on_step); !ran) {
            const std::string& why = ran.error().message;
            if (ran.error().kind == ErrorKind::Bug && (why.find("out of memory") != std::string::npos ||
                                                       why.find("can't allocate memory") != std::string::npos))
                return retry_error("training: memory is full");
            return ran.error();
        }
    } catch (const std::exception& e) {
        return torch_error("training", e);
    }
    if (!saved) return saved.error();
    if (stopped) return retry_error("stopped at step " + std::to_string(trainer.step()));
    trained.steps = trainer.step();
    // The trainer owns the network through a pointer that outlives it.
    trained.network = std::static_pointer_cast<Network>(trainer.network().shared_from_this());
    return trained;
}

}  // namespace cardionode::fed
