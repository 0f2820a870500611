#include "models/train/pseudo_labels_decode.h"

#include <algorithm>
#include <cmath>

namespace cardionode::train {
namespace {

using Index = std::array<std::int64_t, 3>;

/// Walks the components of one label map.
class Components {
public:
    explicit Components(const torch::Tensor& labels)
        : labels_(labels.contiguous()),
          values_(labels_.data_ptr<std::uint8_t>()),
          size_{labels_.size(0), labels_.size(1), labels_.size(2)},
          seen_(static_cast<std::size_t>(labels_.numel()), false) {}

    /// Takes each component once: its label, its voxels and the sum of their indices.
    template <class Take>
    void each(Take take) {
        for (std::int64_t start = 0; start < labels_.numel(); ++start) {
            if (values_[start] == 0 || seen_[static_cast<std::size_t>(start)]) continue;
            std::array<double, 3> sum{};
            std::int64_t count = 0;
            seen_[static_cast<std::size_t>(start)] = true;
            open_.assign(1, start);
            while (!open_.empty()) {
                const std::int64_t here = open_.back();
                open_.pop_back();
                const Index at = {here / (size_[1] * size_[2]), here / size_[2] % size_[1], here % size_[2]};
                for (std::size_t axis = 0; axis < 3; ++axis) sum[axis] += static_cast<double>(at[axis]);
                ++count;
                visit_neighbours(at, values_[start]);
            }
            take(values_[start], count, sum);
        }
    }

private:
    void visit_neighbours(const Index& at, std::uint8_t label) {
        const auto low = [&](std::size_t axis) { return std::max<std::int64_t>(0, at[axis] - 1); };
        const auto high = [&](std::size_t axis) { return std::min(size_[axis] - 1, at[axis] + 1); };
        for (std::int64_t z = low(0); z <= high(0); ++z) {
            for (std::int64_t y = low(1); y <= high(1); ++y) {
                for (std::int64_t x = low(2); x <= high(2); ++x) {
                    const std::int64_t next = (z * size_[1] + y) * size_[2] + x;
                    if (values_[next] != label || seen_[static_cast<std::size_t>(next)]) continue;
                    seen_[static_cast<std::size_t>(next)] = true;
                    open_.push_back(next);
                }
            }
        }
    }
    torch::Tensor labels_;
    const std::uint8_t* values_;
    Index size_;
    std::vector<bool> seen_;
    std::vector<std::int64_t> open_;
};

}  // namespace

std::vector<DecodedPoint> decode_points(const torch::Tensor& labels, int classes) {
    TORCH_CHECK(labels.dim() == 3 && labels.scalar_type() == torch::kByte, "expected uint8 labels [D, H, W]");
    std::vector<DecodedPoint> points(static_cast<std::size_t>(classes));
    Components(labels).each([&](std::uint8_t label, std::int64_t voxels, const std::array<double, 3>& sum) {
        if (label > classes || voxels <= points[label - 1U].voxels) return;
        const auto n = static_cast<double>(voxels);
        points[label - 1U] = {voxels, {sum[0] / n, sum[1] / n, sum[2] / n}};
    });
    return points;
}

torch::Tensor draw_balls(const std::vector<DecodedPoint>& points, const std::array<std::int64_t, 3>& size,
                         const std::array<double, 3>& spacing_mm, double radius_mm) {
    torch::Tensor labels = torch::zeros({size[0], size[1], size[2]}, torch::kLong);
    auto values = labels.accessor<std::int64_t, 3>();
    for (std::size_t i = 0; i < points.size(); ++i) {
        if (!points[i].found()) continue;
        const std::array<double, 3>& c = points[i].at;
        const auto low = [&](std::size_t axis) {
            return std::max<std::int64_t>(0,
                                          static_cast<std::int64_t>(std::ceil(c[axis] - radius_mm / spacing_mm[axis])));
        };
        const auto high = [&](std::size_t axis) {
            return std::min(size[axis] - 1,
                            static_cast<std::int64_t>(std::floor(c[axis] + radius_mm / spacing_mm[axis])));
        };
        for (std::int64_t z = low(0); z <= high(0); ++z) {
            for (std::int64_t y = low(1); y <= high(1); ++y) {
                for (std::int64_t x = low(2); x <= high(2); ++x) {
                    const std::array<double, 3> at = {static_cast<double>(z), static_cast<double>(y),
                                                      static_cast<double>(x)};
                    if (distance_mm(at, c, spacing_mm) <= radius_mm) values[z][y][x] = static_cast<std::int64_t>(i + 1);
                }
            }
        }
    }
    return labels;
}

double distance_mm(const std::array<double, 3>& a, const std::array<double, 3>& b,
                   const std::array<double, 3>& spacing_mm) {
    double square = 0;
    for (std::size_t axis = 0; axis < 3; ++axis) square += std::pow((a[axis] - b[axis]) * spacing_mm[axis], 2);
    return std::sqrt(square);
}

}  // namespace cardionode::train
