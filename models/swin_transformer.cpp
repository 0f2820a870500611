#include "models/swin_transformer.h"

#include <algorithm>

namespace cardionode {
namespace {

namespace nn = torch::nn;
using Sides = std::array<std::int64_t, 3>;

constexpr std::int64_t kWindow = 7, kShift = 3;
constexpr std::array<std::int64_t, 4> kHeads = {3, 6, 12, 24};
constexpr std::int64_t kScoresOnCpu = 8 << 20, kScoresOnGpu = 512 << 20;  // bytes of attention scores at a time
constexpr double kMasked = -100.0;  // not -inf: the published weights were trained with it

struct Windows {
    Sides side, shift;
    bool shifted() const { return shift[0] + shift[1] + shift[2] > 0; }
    std::int64_t volume() const { return side[0] * side[1] * side[2]; }
};

/// An axis with no more tokens than a window gets one window and no shift.
Windows windows_for(const Sides& tokens, std::int64_t shift) {
    Windows w{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const bool small = tokens[axis] <= kWindow;
        w.side[axis] = small ? tokens[axis] : kWindow;
        w.shift[axis] = small ? 0 : shift;
    }
    return w;
}

/// [N, D, H, W, C] -> [N * windows, tokens of a window, C]
torch::Tensor partition(const torch::Tensor& x, const Sides& w) {
    const std::int64_t n = x.size(0), c = x.size(4);
    return x.view({n, x.size(1) / w[0], w[0], x.size(2) / w[1], w[1], x.size(3) / w[2], w[2], c})
        .permute({0, 1, 3, 5, 2, 4, 6, 7})
        .reshape({-1, w[0] * w[1] * w[2], c});
}

/// The inverse, for a padded grid of `sides`.
torch::Tensor join(const torch::Tensor& windows, const Sides& w, std::int64_t n, const Sides& sides) {
    return windows.view({n, sides[0] / w[0], sides[1] / w[1], sides[2] / w[2], w[0], w[1], w[2], -1})
        .permute({0, 1, 4, 2, 5, 3, 6, 7})
        .reshape({n, sides[0], sides[1], sides[2], -1});
}

/// After the cyclic shift a window may hold tokens from opposite ends; those may not see each other.
/// [windows, n, n]: 0 or kMasked.
torch::Tensor shift_mask(const Sides& padded, const Windows& w, const torch::TensorOptions& options) {
    std::vector<torch::Tensor> region;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        torch::Tensor ids = torch::zeros({padded[axis]}, options);
        if (w.shift[axis] > 0) {
            ids.slice(0, padded[axis] - w.side[axis], padded[axis] - w.shift[axis]).fill_(1);
            ids.slice(0, padded[axis] - w.shift[axis]).fill_(2);
        }
        region.push_back(ids);
    }
    const torch::Tensor ids =
        region[0].view({-1, 1, 1}) * 9 + region[1].view({1, -1, 1}) * 3 + region[2].view({1, 1, -1});
    const torch::Tensor by_window = partition(ids.unsqueeze(0).unsqueeze(-1), w.side).squeeze(-1);
    return (by_window.unsqueeze(1) != by_window.unsqueeze(2)).to(options.dtype()) * kMasked;
}

/// In the precision of the norm's own weights: under autocast x may be narrower, and torch 1.13 has no layer norm for
/// both at once on the CPU.
torch::Tensor normalised(nn::LayerNorm& norm, const torch::Tensor& x) {
    return norm->forward(x.to(norm->weight.scalar_type()));
}

struct WindowAttention final : nn::Module {
    WindowAttention(std::int64_t channels, std::int64_t head_count) : heads(head_count) {
        constexpr std::int64_t span = 2 * kWindow - 1;
        table = register_parameter("relative_position_bias_table", torch::randn({span * span * span, heads}) * 0.02);
        index = register_buffer("relative_position_index", relative_position_index());
        qkv = register_module("qkv", nn::Linear(channels, 3 * channels));
        proj = register_module("proj", nn::Linear(channels, channels));
    }

    /// @param x     [B, n, C]
    /// @param mask  [windows, n, n], B a multiple of windows; or undefined
    torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask) {
        const std::int64_t b = x.size(0), n = x.size(1), c = x.size(2), width = c / heads;
        const torch::Tensor parts = qkv->forward(x).view({b, n, 3, heads, width}).permute({2, 0, 3, 1, 4});
        const torch::Tensor query = parts[0] * (1.0 / std::sqrt(static_cast<double>(width)));
        // For a window smaller than 7^3 the published networks take the top-left block of the full index.
        const torch::Tensor block = index.slice(0, 0, n).slice(1, 0, n).reshape({-1});
        const torch::Tensor bias = table.index_select(0, block).view({n, n, heads}).permute({2, 0, 1}).contiguous();
        // The scores of all windows together leave every cache and, on the CPU, are fresh pages at each step.
        const std::int64_t bytes = heads * n * n * query.element_size();
        const std::int64_t chunk = std::max<std::int64_t>(1, (x.is_cuda() ? kScoresOnGpu : kScoresOnCpu) / bytes);
        const std::int64_t windows = mask.defined() ? mask.size(0) : b;
        std::vector<torch::Tensor> mixed;
        for (std::int64_t image = 0; image < b; image += windows) {
            for (std::int64_t at = 0; at < windows; at += chunk) {
                const std::int64_t count = std::min(chunk, windows - at);
                const auto rows = [&](const torch::Tensor& t) { return t.narrow(0, image + at, count); };
                torch::Tensor scores = torch::matmul(rows(query), rows(parts[1]).transpose(-2, -1));
                scores.add_(bias);
                if (mask.defined()) scores.add_(mask.narrow(0, at, count).unsqueeze(1));
                mixed.push_back(torch::matmul(torch::softmax(scores, -1).to(parts.scalar_type()), rows(parts[2])));
            }
        }
        return proj->forward(torch::cat(mixed).transpose(1, 2).reshape({b, n, c}));
    }

    std::int64_t heads;
    torch::Tensor table, index;
    nn::Linear qkv{nullptr}, proj{nullptr};
};

struct Mlp final : nn::Module {
    explicit Mlp(std::int64_t channels) {
        linear1 = register_module("linear1", nn::Linear(channels, 4 * channels));
        linear2 = register_module("linear2", nn::Linear(4 * channels, channels));
    }
    torch::Tensor forward(const torch::Tensor& x) { return linear2->forward(torch::gelu(linear1->forward(x))); }
    nn::Linear linear1{nullptr}, linear2{nullptr};
};

struct SwinBlock final : nn::Module {
    SwinBlock(std::int64_t channels, std::int64_t heads, std::int64_t window_shift) : shift(window_shift) {
        norm1 = register_module("norm1", nn::LayerNorm(nn::LayerNormOptions({channels})));
        attn = register_module("attn", std::make_shared<WindowAttention>(channels, heads));
        norm2 = register_module("norm2", nn::LayerNorm(nn::LayerNormOptions({channels})));
        mlp = register_module("mlp", std::make_shared<Mlp>(channels));
    }
    /// x [N, D, H, W, C]
    torch::Tensor forward(const torch::Tensor& x) {
        const torch::Tensor y = x + attend(normalised(norm1, x));
        return y + mlp->forward(normalised(norm2, y));
    }
    torch::Tensor attend(torch::Tensor x) {
        const Sides tokens = {x.size(1), x.size(2), x.size(3)};
        const Windows w = windows_for(tokens, shift);
        Sides padded{};
        for (std::size_t axis = 0; axis < 3; ++axis) {
            padded[axis] = (tokens[axis] + w.side[axis] - 1) / w.side[axis] * w.side[axis];
        }
        // Padded tokens take part in the attention, without a mask, as in the published networks.
        x = torch::constant_pad_nd(
            x, {0, 0, 0, padded[2] - tokens[2], 0, padded[1] - tokens[1], 0, padded[0] - tokens[0]});
        torch::Tensor mask;
        if (w.shifted()) {
            x = torch::roll(x, {-w.shift[0], -w.shift[1], -w.shift[2]}, {1, 2, 3});
            mask = shift_mask(padded, w, x.options().requires_grad(false));
        }
        x = join(attn->forward(partition(x, w.side), mask), w.side, x.size(0), padded);
        if (w.shifted()) x = torch::roll(x, {w.shift[0], w.shift[1], w.shift[2]}, {1, 2, 3});
        return x.slice(1, 0, tokens[0]).slice(2, 0, tokens[1]).slice(3, 0, tokens[2]);
    }
    std::int64_t shift;
    nn::LayerNorm norm1{nullptr}, norm2{nullptr};
    std::shared_ptr<WindowAttention> attn;
    std::shared_ptr<Mlp> mlp;
};

struct PatchMerging final : nn::Module {
    PatchMerging(std::int64_t channels, const std::string& word) : order(merging_order(word)) {
        reduction = register_module("reduction", nn::Linear(nn::LinearOptions(8 * channels, 2 * channels).bias(false)));
        norm = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({8 * channels})));
    }
    torch::Tensor forward(torch::Tensor x) {
        x = torch::constant_pad_nd(x, {0, 0, 0, x.size(3) % 2, 0, x.size(2) % 2, 0, x.size(1) % 2});
        std::vector<torch::Tensor> parts;
        for (const auto& offset : order) {
            torch::Tensor part = x;
            for (int axis = 0; axis < 3; ++axis) {
                part = part.slice(axis + 1, offset[static_cast<std::size_t>(axis)], c10::nullopt, 2);
            }
            parts.push_back(part);
        }
        return reduction->forward(normalised(norm, torch::cat(parts, -1)));
    }
    std::array<std::array<int, 3>, 8> order;
    nn::Linear reduction{nullptr};
    nn::LayerNorm norm{nullptr};
};

}  // namespace

/// "layersN.0": two blocks and the merging after them.
struct SwinStage final : nn::Module {
    SwinStage(std::int64_t channels, std::int64_t heads, const std::string& word) {
        blocks = register_module("blocks", nn::ModuleList());
        blocks->push_back(std::make_shared<SwinBlock>(channels, heads, 0));
        blocks->push_back(std::make_shared<SwinBlock>(channels, heads, kShift));
        downsample = register_module("downsample", std::make_shared<PatchMerging>(channels, word));
    }
    torch::Tensor forward(const torch::Tensor& x) {
        return downsample->forward(blocks->ptr<SwinBlock>(1)->forward(blocks->ptr<SwinBlock>(0)->forward(x)));
    }
    nn::ModuleList blocks{nullptr};
    std::shared_ptr<PatchMerging> downsample;
};

const std::array<std::array<int, 3>, 8>& merging_order(const std::string& word) {
    using Order = std::array<std::array<int, 3>, 8>;
    // MONAI 0.9 to 1.4 took two of the eight slices twice and two never (its pull request 8285 mends that).
    static const Order until_1_4 = {
        {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 0, 1}, {0, 1, 0}, {0, 0, 1}, {1, 1, 1}}};
    static const Order from_1_5 = {
        {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 0}, {1, 0, 1}, {0, 1, 1}, {1, 1, 1}}};
    static const Order v2 = {{{0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, 1, 1}, {1, 0, 0}, {1, 0, 1}, {1, 1, 0}, {1, 1, 1}}};
    if (word == "monai_0_9") return until_1_4;
    if (word == "v2") return v2;
    TORCH_CHECK(word == "monai_1_5", "unknown patch merging order '", word, "'");
    return from_1_5;
}

torch::Tensor relative_position_index() {
    constexpr std::int64_t n = kWindow * kWindow * kWindow, span = 2 * kWindow - 1;
    torch::Tensor index = torch::empty({n, n}, torch::kInt64);
    auto* out = index.data_ptr<std::int64_t>();
    const auto digit = [](std::int64_t token, int axis) {
        return axis == 0 ? token / (kWindow * kWindow) : axis == 1 ? token / kWindow % kWindow : token % kWindow;
    };
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
            std::int64_t value = 0;
            for (int axis = 0; axis < 3; ++axis) value = value * span + digit(i, axis) - digit(j, axis) + kWindow - 1;
            *out++ = value;
        }
    }
    return index;
}

SwinTransformer::SwinTransformer(std::int64_t input_channels, std::int64_t feature_size,
                                 const std::string& patch_merging) {
    auto embedding = register_module("patch_embed", std::make_shared<nn::Module>("patch_embed"));
    patch_embedding =
        embedding->register_module("proj", nn::Conv3d(nn::Conv3dOptions(input_channels, feature_size, 2).stride(2)));
    for (std::size_t i = 0; i < kHeads.size(); ++i) {
        auto layer = register_module("layers" + std::to_string(i + 1), nn::ModuleList());
        stages.push_back(std::make_shared<SwinStage>(feature_size << i, kHeads[i], patch_merging));
        layer->push_back(stages.back());
    }
}

std::vector<torch::Tensor> SwinTransformer::forward(const torch::Tensor& input) {
    // Only the copy handed out is normalised; the next stage gets the tensor as it is.
    const auto handed_out = [&](const torch::Tensor& x) {
        return torch::layer_norm(x.to(patch_embedding->weight.scalar_type()), {x.size(4)})
            .permute({0, 4, 1, 2, 3})
            .contiguous();
    };
    // In mixed precision the running sum of the blocks stays in the input's precision, as the norms need it.
    torch::Tensor x = patch_embedding->forward(input).permute({0, 2, 3, 4, 1}).to(input.scalar_type()).contiguous();
    std::vector<torch::Tensor> result = {handed_out(x)};
    for (const auto& stage : stages) {
        x = stage->forward(x).to(input.scalar_type());
        result.push_back(handed_out(x));
    }
    return result;
}

}  // namespace cardionode
