// The loss of one head and of a whole multi-head network: cross entropy plus soft Dice (facts: FedKD paper, 1.5).
//
// dice_ce = CE + (-mean over classes of dc), dc_c = (2 TP + 1) / (2 TP + FP + FN + 1), with TP, FP and FN summed over
// batch and space on the softmax, background left out. Thread safety: pure functions. torch's exceptions pass through.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "models/network.h"

namespace cardionode::train {

/// @param logits   float [N, C, D, H, W]
/// @param target   int64 [N, D, H, W], 0..C-1
/// @param weights  of the classes in the cross entropy, float [C]; undefined: all 1 (the paper's loss)
/// @return         scalar
torch::Tensor dice_ce(const torch::Tensor& logits, const torch::Tensor& target, const torch::Tensor& weights = {});

struct HeadLossOptions {
    double weight = 1;             ///< of the head in the sum
    double foreground_weight = 1;  ///< of all classes but the background in the cross entropy
};

/// Weighted sum over the heads that have a target and over their levels; coarser levels compare with the target taken
/// at the nearest voxel. A head without a target costs nothing and learns nothing.
/// @param outputs         of Network::forward
/// @param targets         by head: int64 [N, D, H, W]
/// @param level_weights   of the levels from fine to coarse: 1, 0.5, 0.25
/// @param per_head        if given, receives each head's own loss
torch::Tensor multi_head_loss(const std::vector<HeadLogits>& outputs,
                              const std::map<std::string, torch::Tensor>& targets,
                              const std::map<std::string, HeadLossOptions>& options,
                              const std::vector<double>& level_weights,
                              std::map<std::string, double>* per_head = nullptr);

}  // namespace cardionode::train
