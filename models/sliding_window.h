// Large images through a network of fixed window size: overlapping windows whose outputs are blended.
//
// Windows, padding and weights as in MONAI's sliding_window_inference: the step is int(side * (1 - overlap)); the last
// window of an axis is moved back to end with the image; an image smaller than the window is padded with 0, half low,
// the rest high; Gaussian weights have their peak at the window's centre and are at least 0.001.
// Windows are added in their own order, in float32, so that the result does not depend on the batch size beyond the
// rounding of the network itself.
// Thread safety: one object belongs to one thread. torch's exceptions pass through.
#pragma once

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "models/bundle.h"

namespace cardionode {

/// First voxel (D, H, W) of each window, W fastest. `image` must be at least `window` on each axis.
std::vector<std::array<std::int64_t, 3>> window_starts(const std::array<std::int64_t, 3>& image,
                                                       const std::array<std::int64_t, 3>& window, double overlap);

/// Weights of a window's voxels, float32 [D, H, W]: Gaussian of sigma = `sigma` * side, or ones for constant blending.
torch::Tensor window_weights(const WindowManifest& window);

/// Takes windows out of one image and puts the outputs together.
class SlidingWindow {
public:
    /// @param image     float32 [C, D, H, W], CPU
    /// @param channels  of each output
    /// @param device    where the sums are kept
    SlidingWindow(torch::Tensor image, const WindowManifest& window, const std::vector<std::int64_t>& channels,
                  torch::Device device = torch::kCPU);

    std::int64_t count() const { return static_cast<std::int64_t>(starts_.size()); }
    /// How many windows were added: the next one to take.
    std::int64_t done() const { return done_; }
    /// The next windows: float32 [min(batch, left), C, d, h, w], CPU.
    torch::Tensor next(std::int64_t batch) const;
    /// Adds the outputs for the windows that next() gave: one tensor [n, channels, d, h, w] an output.
    void add(const std::vector<torch::Tensor>& outputs);
    /// Moves the sums elsewhere, for example off a full GPU.
    void move_to(torch::Device device);
    /// The blended output `i`, float32 [channels, D, H, W] on the sums' device, and frees its sum. All windows must
    /// have been added.
    torch::Tensor take(std::size_t i);

private:
    torch::Tensor image_;  ///< padded
    std::array<std::int64_t, 3> window_{}, low_padding_{}, original_{};
    std::vector<std::array<std::int64_t, 3>> starts_;
    torch::Tensor weights_, weight_sum_;
    std::vector<torch::Tensor> sums_;
    std::int64_t done_ = 0;
};

/// Runs all windows. `network` gets [n, C, d, h, w] and returns one tensor an output; `progress` gets done and total
/// and returns false to cancel: then nothing is returned.
std::optional<std::vector<torch::Tensor>> slide(
    const torch::Tensor& image, const WindowManifest& window, const std::vector<std::int64_t>& channels,
    std::int64_t batch, const std::function<std::vector<torch::Tensor>(const torch::Tensor&)>& network,
    const std::function<bool(std::int64_t, std::int64_t)>& progress = {});

}  // namespace cardionode
