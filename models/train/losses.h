// The loss of one head and of a whole multi-head network: cross entropy plus soft Dice (facts: FedKD paper, 1.5).
//
// dice_ce = CE + (-mean over classes of dc), dc_c = (2 TP + 1) / (2 TP + FP + FN + 1), with TP, FP and FN summed over
// batch and space on the softmax, background left out.
// A target is hard (a label a voxel: the paper's loss, to the last bit) or soft (a probability a class and voxel, from
// a teacher): then CE is against the probabilities, and TP = sum p t. Of both kinds some voxels may not count. Thread
// safety: pure functions. torch's exceptions pass through.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "models/network.h"

namespace cardionode::train {

/// @param logits   float [N, C, D, H, W]
/// @param target   hard: int64 [N, D, H, W], 0..C-1; soft: floating [N, C, D, H, W], sums to 1 over C
/// @param weights  of the classes in the cross entropy, float [C]; undefined: all 1 (the paper's loss). A soft voxel
///                 weighs as the mean of the classes' weights under its probabilities.
/// @param counts   bool [N, D, H, W]: what is false takes part in neither sum; undefined: all voxels count
/// @return         scalar; 0, with gradients of 0, where no voxel counts
torch::Tensor dice_ce(const torch::Tensor& logits, const torch::Tensor& target, const torch::Tensor& weights = {},
                      const torch::Tensor& counts = {});

/// Targets of several windows as one batch: hard if all are hard, else probabilities (of a hard one 0 and 1).
/// @param windows  each int64 [D, H, W] or floating [C, D, H, W]
/// @param channels C
torch::Tensor stack_targets(const std::vector<torch::Tensor>& windows, std::int64_t channels);
/// Which voxels of several windows count: undefined if all do.
/// @param windows  each bool [D, H, W], or undefined where the whole window counts
/// @param like     a target of the same windows: gives D, H, W
torch::Tensor stack_counts(const std::vector<torch::Tensor>& windows, const torch::Tensor& like);

struct HeadLossOptions {
    double weight = 1;             ///< of the head in the sum
    double foreground_weight = 1;  ///< of all classes but the background in the cross entropy
};

/// Weighted sum over the heads that have a target and over their levels; coarser levels compare with the target taken
/// at the nearest voxel. A head without a target costs nothing and learns nothing.
/// @param outputs         of Network::forward
/// @param targets         by head, as for dice_ce
/// @param level_weights   of the levels from fine to coarse: 1, 0.5, 0.25
/// @param per_head        if given, receives each head's own loss
/// @param counts          by head, as for dice_ce; a head that is not in it counts everywhere
torch::Tensor multi_head_loss(const std::vector<HeadLogits>& outputs,
                              const std::map<std::string, torch::Tensor>& targets,
                              const std::map<std::string, HeadLossOptions>& options,
                              const std::vector<double>& level_weights,
                              std::map<std::string, double>* per_head = nullptr,
                              const std::map<std::string, torch::Tensor>& counts = {});

}  // namespace cardionode::train
