// The steps of one round on one site, from the weights that were pulled: what a hospital and a simulation have in
// common. Internal to fedclient/methods (torch in the signature).
//
// A round is a run of the trainer of its own: moments start at zero, the rate is constant after a short rise (its fall
// over the rounds is the coordinator's), nothing is averaged over the steps. Thread safety, errors: as Trainer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/train/trainer.h"

namespace cardionode::fed {

struct RoundTraining {
    train::Recipe recipe;              ///< architecture, input, heads, window, optimiser
    std::vector<std::string> heads;    ///< that learn; empty: all of the recipe
    std::filesystem::path pulled;      ///< safetensors
    std::filesystem::path checkpoint;  ///< read first if it is there, written as the recipe says; empty: none
    std::int64_t steps = 1;            ///< of this round
    double learning_rate = 0;          ///< 0: the recipe's
    double proximal_mu = 0;            ///< FedProx
    std::uint64_t seed = 1;            ///< of the samples' order, if the source was made from this
    torch::Device device = torch::kCPU;
    std::function<bool()> stop;    ///< asked after each step; true: checkpoint, Retry
    std::function<bool()> enough;  ///< asked after each step; true ends the training as if done
    std::function<void(const train::StepReport&)> on_step;
};

struct RoundTrained {
    std::shared_ptr<Network> network;  ///< in training mode, on the device
    std::int64_t steps = 0;            ///< done
    double loss = 0;                   ///< mean of the steps of this process
};

/// The recipe of a round's trainer: it starts from `pulled`, and its length is the round's.
train::Recipe recipe_of_round(const RoundTraining& round);

/// A network with the weights of a file that must hold exactly the recipe's floating tensors. Config: it does not.
Result<std::shared_ptr<Network>> network_with(const train::Recipe& recipe, const std::filesystem::path& weights,
                                              torch::Device device);

/// Config: the pulled weights are not exactly those of the recipe. Retry: stopped, or memory or disk are full.
Result<RoundTrained> train_round(const RoundTraining& round, const train::SampleSource& samples);

}  // namespace cardionode::fed
