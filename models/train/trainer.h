// One training run: recipe and samples in, weights out; killed and resumed it ends at the same weights, bit for bit on
// the CPU with the same number of threads.
//
// AdamW as in torch (decoupled weight decay, bias-corrected moments), written out here because its state must travel
// through safetensors and torch's own differs between the releases that we build against.
// Thread safety: one Trainer belongs to one thread; it draws samples ahead on a thread of its own while it runs.
// torch's exceptions do not leave it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "conf/base/result.h"
#include "models/network.h"
#include "models/train/losses.h"
#include "models/train/recipe.h"
#include "models/train/samples.h"

namespace cardionode::train {

struct StepReport {
    std::int64_t step = 0;  ///< steps done
    double loss = 0, learning_rate = 0, gradient_norm = 0, seconds = 0;
    std::map<std::string, double> head_loss;
};

/// Called after each step; false stops the run (a checkpoint can be written then).
using OnStep = std::function<bool(const StepReport&)>;

class Trainer {
public:
    /// A network from the recipe's seed and, if it names them, from weights. Config: an architecture that does not
    /// exist or does not fit, weights that cannot be read or whose body is another.
    static Result<Trainer> create(const Recipe& recipe, torch::Device device = torch::kCPU);
    Trainer(Trainer&&) noexcept;
    Trainer& operator=(Trainer&&) noexcept;
    ~Trainer();

    /// From here on mu/2 |w - w_start|^2 is part of what is minimised, w_start being the weights of create(): FedProx
    /// (Li et al., MLSys 2020). Before the first step and before load_checkpoint; else throws std::logic_error. What
    /// has no gradient (a head without labels) stays as it is.
    void stay_near_start(double mu);

    /// Trains until recipe.steps, until `until`, or until on_step says stop. Bug: the loss is not finite (the weights
    /// are those before that step).
    Result<void> run(const SampleSource& samples, const OnStep& on_step, std::int64_t until = -1);

    /// For people: what was taken from the recipe's init_weights, and which heads learn; empty for a fresh start.
    const std::string& start_note() const;
    std::int64_t step() const;
    Network& network();
    /// A copy of the network with the averaged weights (the trained ones where the recipe averages nothing).
    Result<std::shared_ptr<Network>> averaged() const;

    /// Weights, moments, averages and step, durably and atomically in one file.
    Result<void> save_checkpoint(const std::filesystem::path& file) const;
    /// Config: the file is damaged or of another network, or its recipe differs in what decides the weights so far.
    Result<void> load_checkpoint(const std::filesystem::path& file);

private:
    struct State;
    explicit Trainer(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode::train
