// nnU-Net's PlainConvUNet with one or more heads (Isensee et al., Nature Methods 18, 2021; names as in
// dynamic-network-architectures): stages of convolutions 3^3 -> instance norm -> leaky ReLU 0.01, strides at each
// stage's first convolution, transposed convolutions with kernel = stride on the way up, a 1^3 convolution per head and
// level. Weights start as nnU-Net's: He normal with slope 0.01, biases 0.
#pragma once

#include "models/network.h"

namespace cardionode {

class PlainConvUnet final : public Network {
public:
    /// @param architecture  features: two stages or more; strides: as many; the first stage's is usually 1
    PlainConvUnet(const ArchitectureManifest& architecture, std::int64_t input_channels,
                  std::vector<HeadChannels> heads, double dropout = 0);

    std::vector<HeadLogits> forward(const torch::Tensor& x, std::int64_t levels = 1) override;
    std::array<std::int64_t, 3> multiple() const override;
    std::int64_t max_levels() const override;

private:
    std::vector<std::array<std::int64_t, 3>> strides_;
    torch::nn::ModuleList encoder_stages_{nullptr};  ///< each a list of one stack of convolutions
    torch::nn::ModuleList decoder_stages_{nullptr};  ///< lowest resolution first
    torch::nn::ModuleList transposed_{nullptr};
    std::vector<torch::nn::ModuleList> head_layers_;  ///< by head; lowest resolution first
};

}  // namespace cardionode
