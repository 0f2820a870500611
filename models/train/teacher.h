// The two steps of the FedKD paper for whoever trains here: alone, or as one client of a federation.
//
//   step 1  train_teacher: a network for one label type, on the studies that have it
//   step 2  make_pseudo_labels (pseudo_labels.h): the teachers label what nobody labelled, once
//           train_student: one network for all heads, on own labels and pseudo-labels
//   then    fine_tune: each head once more on the labels of people
// A federated client calls the same with the round's weights as `start` and returns state_of(network).
// Thread safety: one call belongs to one thread (samples are drawn ahead on another one). torch's exceptions do not
// leave these functions. Errors: those of Trainer; Config for weights or a checkpoint that do not fit the recipe.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/train/pseudo_labels.h"
#include "models/train/recipe.h"
#include "models/train/teacher_samples.h"
#include "models/train/trainer.h"

namespace cardionode::train {

/// How a training is run, beside what decides its weights.
struct TrainingCall {
    torch::Device device = torch::kCPU;
    /// Written every recipe.checkpoint_every steps and at the end; read first if it is there. Empty: none.
    std::filesystem::path checkpoint;
    /// After each step; false stops: the checkpoint is written and the call returns Retry.
    OnStep on_step;
};

/// Trains the recipe to its last step; gives the averaged weights.
/// Retry: on_step stopped it (the same call goes on from the checkpoint).
Result<std::shared_ptr<Network>> train_network(const Recipe& recipe, const SampleSource& samples,
                                               const TrainingCall& call = {});

/// The recipe with its one head of that name. Config: it has no such head.
Result<Recipe> recipe_for_head(const Recipe& recipe, const std::string& head);

/// Step 1. Samples without the label of the recipe's heads teach nothing, but cost a step: leave them out.
/// @param window  of the prediction; its size is usually the recipe's or larger
Result<Teacher> train_teacher(const Recipe& recipe, const SampleSource& labelled, const WindowManifest& window,
                              const TrainingCall& call = {});

/// What a student learns from.
struct StudentSamples {
    std::vector<Sample> labelled;  ///< people's labels, completed by pseudo-labels where a head was missing
    std::vector<Sample> pseudo;    ///< pseudo-labels alone; may be empty
    double labelled_share = 0.25;  ///< of the windows
    Jitter jitter;
};

/// Step 2.
Result<std::shared_ptr<Network>> train_student(const Recipe& recipe, const StudentSamples& samples,
                                               const TrainingCall& call = {});

/// Trains one head of a trained network further, on labels of people; the other heads stay, bit for bit.
/// @param start        weights of the student, safetensors
/// @param body_frozen  true: only the head's last layer learns
Result<std::shared_ptr<Network>> fine_tune(const Recipe& recipe, const std::filesystem::path& start,
                                           const std::string& head, bool body_frozen, const SampleSource& labelled,
                                           const TrainingCall& call = {});

}  // namespace cardionode::train
