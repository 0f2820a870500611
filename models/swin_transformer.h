// The Swin transformer inside SwinUnetr. Internal to this folder.
#pragma once

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace cardionode {

/// Offsets (d, h, w) of the eight slices that patch merging joins, in order. Throws c10::Error for an unknown word.
const std::array<std::array<int, 3>, 8>& merging_order(const std::string& word);

/// Relative position index of a window of 7^3: int64 [343, 343].
torch::Tensor relative_position_index();

struct SwinStage;

/// x [N, C, D, H, W] -> five maps, each normalised over channels without affine.
struct SwinTransformer final : torch::nn::Module {
    SwinTransformer(std::int64_t input_channels, std::int64_t feature_size, const std::string& patch_merging);
    std::vector<torch::Tensor> forward(const torch::Tensor& x);

    torch::nn::Conv3d patch_embedding{nullptr};
    std::vector<std::shared_ptr<SwinStage>> stages;
};

}  // namespace cardionode
