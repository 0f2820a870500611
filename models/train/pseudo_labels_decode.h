// From a label map that a network drew to points, and from points back to the balls that a network is taught.
//
// As the FedKD code has it (facts 1.2): per class the largest 26-connected component, its centre of mass as a
// continuous index; balls by index distance in mm, later classes over earlier ones. Each class on its own: a missing
// point shifts no other. Thread safety: pure functions. torch's exceptions pass through.
#pragma once

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace cardionode::train {

struct DecodedPoint {
    std::int64_t voxels = 0;     ///< of the largest component; 0: not found, `at` means nothing
    std::array<double, 3> at{};  ///< continuous index (D, H, W)
    bool found() const { return voxels > 0; }
};

/// One entry a class, from value 1 on. Of two equally large components the first in memory order.
/// @param labels  uint8 [D, H, W]
std::vector<DecodedPoint> decode_points(const torch::Tensor& labels, int classes);

/// @param points      what is not found is not drawn
/// @param size        D, H, W
/// @param spacing_mm  along D, H, W
/// @return            int64 [D, H, W]: 0, or the number of the point from 1 on
torch::Tensor draw_balls(const std::vector<DecodedPoint>& points, const std::array<std::int64_t, 3>& size,
                         const std::array<double, 3>& spacing_mm, double radius_mm);

double distance_mm(const std::array<double, 3>& a, const std::array<double, 3>& b,
                   const std::array<double, 3>& spacing_mm);

}  // namespace cardionode::train
