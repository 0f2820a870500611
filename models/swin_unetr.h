// Multi-head SwinUNETR (Hatamizadeh et al., arXiv 2201.01266; wiring, names and quirks as MONAI computes them): a Swin
// transformer of four stages (2 blocks each, window 7, shift 3, heads 3, 6, 12, 24) over patches of 2^3, five residual
// encoders, five decoders, and a 1^3 convolution per head. Weights start as MONAI's (torch's defaults; bias tables
// normal with sd 0.02). No dropout, no drop path.
#pragma once

#include "models/network.h"

namespace cardionode {

struct SwinTransformer;
struct ResidualBlock;
struct UpBlock;

class SwinUnetr final : public Network {
public:
    /// @param architecture  feature_size: a multiple of 12; patch_merging: monai_0_9 (the order of MONAI 0.9 to 1.4),
    ///                      monai_1_5 or v2
    SwinUnetr(const ArchitectureManifest& architecture, std::int64_t input_channels, std::vector<HeadChannels> heads);

    std::vector<HeadLogits> forward(const torch::Tensor& x, std::int64_t levels = 1) override;
    std::array<std::int64_t, 3> multiple() const override { return {32, 32, 32}; }
    std::int64_t max_levels() const override { return 1; }

    /// The transformer's five outputs, normalised over channels: at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input.
    std::vector<torch::Tensor> hidden_states(const torch::Tensor& x);

private:
    std::shared_ptr<SwinTransformer> transformer_;
    std::vector<std::shared_ptr<ResidualBlock>> encoders_;  ///< encoder1, 2, 3, 4, 10
    std::vector<std::shared_ptr<UpBlock>> decoders_;        ///< decoder5, 4, 3, 2, 1
    std::vector<torch::nn::Conv3d> outputs_;                ///< by head
};

}  // namespace cardionode
