#include "models/sliding_window.h"

#include <algorithm>
#include <cmath>

namespace cardionode {
namespace {

constexpr double kLeastWeight = 1e-3;

torch::Tensor crop(const torch::Tensor& x, const std::array<std::int64_t, 3>& start,
                   const std::array<std::int64_t, 3>& size) {
    torch::Tensor part = x;
    for (int axis = 0; axis < 3; ++axis) {
        const auto a = static_cast<std::size_t>(axis);
        part = part.narrow(x.dim() - 3 + axis, start[a], size[a]);
    }
    return part;
}

}  // namespace

std::vector<std::array<std::int64_t, 3>> window_starts(const std::array<std::int64_t, 3>& image,
                                                       const std::array<std::int64_t, 3>& window, double overlap) {
    std::array<std::vector<std::int64_t>, 3> axes;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        TORCH_CHECK(window[axis] > 0 && image[axis] >= window[axis], "the image is smaller than the window");
        const auto step =
            std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(window[axis]) * (1.0 - overlap)));
        for (std::int64_t start = 0;; start += step) {
            axes[axis].push_back(std::min(start, image[axis] - window[axis]));
            if (start + window[axis] >= image[axis]) break;
        }
    }
    std::vector<std::array<std::int64_t, 3>> starts;
    for (const std::int64_t d : axes[0]) {
        for (const std::int64_t h : axes[1]) {
            for (const std::int64_t w : axes[2]) starts.push_back({d, h, w});
        }
    }
    return starts;
}

torch::Tensor window_weights(const WindowManifest& window) {
    if (window.blending == "constant") return torch::ones(torch::IntArrayRef(window.size), torch::kFloat32);
    TORCH_CHECK(window.blending == "gaussian" && window.sigma > 0, "unknown blending '", window.blending, "'");
    torch::Tensor weights = torch::ones({1, 1, 1}, torch::kFloat32);
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const double side = static_cast<double>(window.size[axis]), sigma = side * window.sigma;
        torch::Tensor x = torch::arange(window.size[axis], torch::kFloat32) - (side - 1) / 2;
        std::array<std::int64_t, 3> shape = {1, 1, 1};
        shape[axis] = window.size[axis];
        weights = weights * torch::exp(x * x / (-2 * sigma * sigma)).view(torch::IntArrayRef(shape));
    }
    return weights.clamp_min(kLeastWeight);
}

SlidingWindow::SlidingWindow(torch::Tensor image, const WindowManifest& window,
                             const std::vector<std::int64_t>& channels, torch::Device device)
    : image_(std::move(image)), window_(window.size) {
    TORCH_CHECK(image_.dim() == 4 && image_.scalar_type() == torch::kFloat32, "expected a float32 image [C, D, H, W]");
    std::array<std::int64_t, 3> padded{}, high{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        original_[axis] = image_.size(static_cast<std::int64_t>(axis) + 1);
        const std::int64_t lacking = std::max<std::int64_t>(0, window_[axis] - original_[axis]);
        low_padding_[axis] = lacking / 2;
        high[axis] = lacking - lacking / 2;
        padded[axis] = original_[axis] + lacking;
    }
    image_ =
        torch::constant_pad_nd(image_, {low_padding_[2], high[2], low_padding_[1], high[1], low_padding_[0], high[0]});
    starts_ = window_starts(padded, window_, window.overlap);
    weights_ = window_weights(window).to(device);
    weight_sum_ = torch::zeros(torch::IntArrayRef(padded), torch::dtype(torch::kFloat32).device(device));
    for (const std::int64_t count : channels) {
        sums_.push_back(torch::zeros({count, padded[0], padded[1], padded[2]}, weight_sum_.options()));
    }
}

torch::Tensor SlidingWindow::next(std::int64_t batch) const {
    std::vector<torch::Tensor> parts;
    for (std::int64_t i = done_; i < std::min(count(), done_ + batch); ++i) {
        parts.push_back(crop(image_, starts_[static_cast<std::size_t>(i)], window_));
    }
    TORCH_CHECK(!parts.empty(), "no window is left");
    return torch::stack(parts);
}

void SlidingWindow::add(const std::vector<torch::Tensor>& outputs) {
    TORCH_CHECK(outputs.size() == sums_.size() && !outputs.empty(), "expected ", sums_.size(), " outputs");
    const std::int64_t n = outputs[0].size(0);
    TORCH_CHECK(done_ + n <= count(), "more outputs than windows");
    // Everything that can fail for want of memory comes before the first sum changes: a failed add can be repeated.
    std::vector<torch::Tensor> weighted;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const auto expected = std::vector<std::int64_t>{n, sums_[i].size(0), window_[0], window_[1], window_[2]};
        TORCH_CHECK(outputs[i].sizes() == torch::IntArrayRef(expected), "output ", i, " has the shape ",
                    outputs[i].sizes());
        weighted.push_back(outputs[i].to(weights_.device(), torch::kFloat32) * weights_);
    }
    for (std::int64_t k = 0; k < n; ++k) {
        const auto& start = starts_[static_cast<std::size_t>(done_ + k)];
        crop(weight_sum_, start, window_).add_(weights_);
        for (std::size_t i = 0; i < sums_.size(); ++i) crop(sums_[i], start, window_).add_(weighted[i][k]);
    }
    done_ += n;
}

void SlidingWindow::move_to(torch::Device device) {
    weights_ = weights_.to(device);
    weight_sum_ = weight_sum_.to(device);
    for (torch::Tensor& sum : sums_) sum = sum.to(device);
}

torch::Tensor SlidingWindow::take(std::size_t i) {
    TORCH_CHECK(done_ == count(), "only ", done_, " of ", count(), " windows are there");
    torch::Tensor sum = std::exchange(sums_.at(i), torch::Tensor());
    sum.div_(weight_sum_.unsqueeze(0));
    return crop(sum, low_padding_, original_);
}

std::optional<std::vector<torch::Tensor>> slide(
    const torch::Tensor& image, const WindowManifest& window, const std::vector<std::int64_t>& channels,
    std::int64_t batch, const std::function<std::vector<torch::Tensor>(const torch::Tensor&)>& network,
    const std::function<bool(std::int64_t, std::int64_t)>& progress) {
    SlidingWindow windows(image, window, channels);
    while (windows.done() < windows.count()) {
        windows.add(network(windows.next(batch)));
        if (progress && !progress(windows.done(), windows.count())) return std::nullopt;
    }
    std::vector<torch::Tensor> results;
    for (std::size_t i = 0; i < channels.size(); ++i) results.push_back(windows.take(i));
    return results;
}

}  // namespace cardionode
