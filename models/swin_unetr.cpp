#include "models/swin_unetr.h"

#include "models/swin_transformer.h"

namespace cardionode {
namespace {

namespace nn = torch::nn;

constexpr double kSlope = 0.01;

/// "<name>.conv": the published networks wrap each convolution once.
struct WrappedConv final : nn::Module {
    WrappedConv(std::int64_t in, std::int64_t out, std::int64_t kernel, bool bias) {
        conv = register_module("conv", nn::Conv3d(nn::Conv3dOptions(in, out, kernel).padding(kernel / 2).bias(bias)));
    }
    nn::Conv3d conv{nullptr};
};

torch::Tensor normalised(const torch::Tensor& x) {
    return torch::instance_norm(x, {}, {}, {}, {}, /*use_input_stats=*/true, 0.1, 1e-5,
                                at::globalContext().userEnabledCuDNN());
}

/// A module that only gives its child a common prefix.
struct Folder final : nn::Module {};

}  // namespace

/// conv3 -> norm -> leaky ReLU -> conv3 -> norm, plus the input (through a 1^3 convolution and norm where the channels
/// differ), then leaky ReLU.
struct ResidualBlock final : nn::Module {
    ResidualBlock(std::int64_t in, std::int64_t out) {
        conv1 = register_module("conv1", std::make_shared<WrappedConv>(in, out, 3, false));
        conv2 = register_module("conv2", std::make_shared<WrappedConv>(out, out, 3, false));
        if (in != out) conv3 = register_module("conv3", std::make_shared<WrappedConv>(in, out, 1, false));
    }
    torch::Tensor forward(const torch::Tensor& x) {
        torch::Tensor y = torch::leaky_relu(normalised(conv1->conv->forward(x)), kSlope);
        y = normalised(conv2->conv->forward(y));
        y = y + (conv3 ? normalised(conv3->conv->forward(x)) : x);
        return torch::leaky_relu(y, kSlope);
    }
    std::shared_ptr<WrappedConv> conv1, conv2, conv3;
};

/// Twice the resolution, joined with the skip connection.
struct UpBlock final : nn::Module {
    UpBlock(std::int64_t in, std::int64_t out) {
        auto folder = register_module("transp_conv", std::make_shared<Folder>());
        transposed = folder->register_module(
            "conv", nn::ConvTranspose3d(nn::ConvTranspose3dOptions(in, out, 2).stride(2).bias(false)));
        block = register_module("conv_block", std::make_shared<ResidualBlock>(2 * out, out));
    }
    torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& skip) {
        return block->forward(torch::cat({transposed->forward(x), skip}, 1));
    }
    nn::ConvTranspose3d transposed{nullptr};
    std::shared_ptr<ResidualBlock> block;
};

SwinUnetr::SwinUnetr(const ArchitectureManifest& architecture, std::int64_t input_channels,
                     std::vector<HeadChannels> heads)
    : Network(std::move(heads), input_channels) {
    const std::int64_t f = architecture.feature_size;
    TORCH_CHECK(f > 0 && f % 12 == 0, "SwinUnetr: feature_size must be a multiple of 12");
    auto body = register_module("swin_unetr", std::make_shared<Folder>());
    transformer_ = body->register_module(
        "swinViT", std::make_shared<SwinTransformer>(input_channels, f, architecture.patch_merging));
    const auto encoder = [&](const std::string& name, std::int64_t in, std::int64_t out) {
        auto folder = body->register_module(name, std::make_shared<Folder>());
        encoders_.push_back(folder->register_module("layer", std::make_shared<ResidualBlock>(in, out)));
    };
    encoder("encoder1", input_channels, f);
    encoder("encoder2", f, f);
    encoder("encoder3", 2 * f, 2 * f);
    encoder("encoder4", 4 * f, 4 * f);
    encoder("encoder10", 16 * f, 16 * f);
    const auto decoder = [&](const std::string& name, std::int64_t in, std::int64_t out) {
        decoders_.push_back(body->register_module(name, std::make_shared<UpBlock>(in, out)));
    };
    decoder("decoder5", 16 * f, 8 * f);
    decoder("decoder4", 8 * f, 4 * f);
    decoder("decoder3", 4 * f, 2 * f);
    decoder("decoder2", 2 * f, f);
    decoder("decoder1", f, f);
    // The published multi-head network keeps the single head it was built with, unused; it stands here, frozen, so
    // that names and number of parameters are the same.
    auto unused = body->register_module("out", std::make_shared<Folder>());
    auto unused_conv = unused->register_module("conv", std::make_shared<WrappedConv>(f, 1, 1, true));
    for (torch::Tensor& parameter : unused_conv->parameters()) parameter.requires_grad_(false);
    auto outs = register_module("outs", std::make_shared<Folder>());
    for (const HeadChannels& head : this->heads()) {
        auto folder = outs->register_module(head.name, std::make_shared<Folder>());
        outputs_.push_back(
            folder->register_module("conv", std::make_shared<WrappedConv>(f, head.channels, 1, true))->conv);
    }
}

std::vector<torch::Tensor> SwinUnetr::hidden_states(const torch::Tensor& x) {
    check_input(x);
    return transformer_->forward(x);
}

std::vector<HeadLogits> SwinUnetr::forward(const torch::Tensor& x, std::int64_t levels) {
    TORCH_CHECK(levels == 1, "SwinUnetr has one level");
    std::vector<torch::Tensor> hidden = hidden_states(x);
    torch::Tensor y = encoders_[4]->forward(hidden[4]);
    y = decoders_[0]->forward(y, hidden[3]);
    for (std::size_t i = 1; i <= 3; ++i) {
        hidden[4 - i] = encoders_[4 - i]->forward(hidden[3 - i]);
        y = decoders_[i]->forward(y, hidden[4 - i]);
    }
    y = decoders_[4]->forward(y, encoders_[0]->forward(x));
    std::vector<HeadLogits> result;
    for (std::size_t i = 0; i < outputs_.size(); ++i) result.push_back({heads()[i].name, {outputs_[i]->forward(y)}});
    return result;
}

}  // namespace cardionode
