#include "models/plain_conv_unet.h"

namespace cardionode {
namespace {

namespace nn = torch::nn;
using Stride = std::array<std::int64_t, 3>;

constexpr double kSlope = 0.01;
constexpr int kConvolutionsPerStage = 2;

torch::ExpandingArray<3> expand(const Stride& s) { return torch::ExpandingArray<3>({s[0], s[1], s[2]}); }

struct ConvBlock final : nn::Module {
    ConvBlock(std::int64_t in, std::int64_t out, const Stride& stride, double dropout) : dropout_probability(dropout) {
        conv = register_module("conv", nn::Conv3d(nn::Conv3dOptions(in, out, 3).stride(expand(stride)).padding(1)));
        norm = register_module("norm", nn::InstanceNorm3d(nn::InstanceNorm3dOptions(out).eps(1e-5).affine(true)));
    }
    torch::Tensor forward(const torch::Tensor& x) {
        torch::Tensor y = conv->forward(x);
        if (dropout_probability > 0) y = torch::feature_dropout(y, dropout_probability, is_training());
        return torch::leaky_relu(norm->forward(y), kSlope);
    }
    double dropout_probability;
    nn::Conv3d conv{nullptr};
    nn::InstanceNorm3d norm{nullptr};
};

struct ConvStack final : nn::Module {
    ConvStack(std::int64_t in, std::int64_t out, const Stride& stride, double dropout) {
        convs = register_module("convs", nn::ModuleList());
        for (int j = 0; j < kConvolutionsPerStage; ++j) {
            convs->push_back(
                std::make_shared<ConvBlock>(j == 0 ? in : out, out, j == 0 ? stride : Stride{1, 1, 1}, dropout));
        }
    }
    torch::Tensor forward(torch::Tensor x) {
        for (std::size_t j = 0; j < convs->size(); ++j) x = convs->ptr<ConvBlock>(j)->forward(x);
        return x;
    }
    nn::ModuleList convs{nullptr};
};

/// A module that only gives its children a common prefix.
struct Folder final : nn::Module {
    template <class Child>
    auto add(const std::string& name, Child child) {
        return register_module(name, std::move(child));
    }
};

void initialise_as_nnunet(nn::Module& network) {
    torch::NoGradGuard no_grad;
    const auto fill = [](torch::Tensor& weight, torch::Tensor& bias) {
        nn::init::kaiming_normal_(weight, kSlope, torch::kFanIn, torch::kLeakyReLU);
        bias.zero_();
    };
    for (const auto& module : network.modules(/*include_self=*/false)) {
        if (auto* conv = module->as<nn::Conv3dImpl>()) fill(conv->weight, conv->bias);
        if (auto* conv = module->as<nn::ConvTranspose3dImpl>()) fill(conv->weight, conv->bias);
    }
}

}  // namespace

PlainConvUnet::PlainConvUnet(const ArchitectureManifest& architecture, std::int64_t input_channels,
                             std::vector<HeadChannels> heads, double dropout)
    : Network(std::move(heads), input_channels), strides_(architecture.strides) {
    const std::vector<std::int64_t>& features = architecture.features;
    TORCH_CHECK(features.size() >= 2 && strides_.size() == features.size(),
                "PlainConvUnet: features and strides need the same number of stages, two or more");
    auto model = register_module("model", std::make_shared<Folder>());
    auto encoder = model->add("encoder", std::make_shared<Folder>());
    auto decoder = model->add("decoder", std::make_shared<Folder>());
    encoder_stages_ = encoder->add("stages", nn::ModuleList());
    for (std::size_t i = 0; i < features.size(); ++i) {
        nn::ModuleList stage;
        stage->push_back(
            std::make_shared<ConvStack>(i == 0 ? input_channels : features[i - 1], features[i], strides_[i], dropout));
        encoder_stages_->push_back(stage);
    }
    decoder_stages_ = decoder->add("stages", nn::ModuleList());
    transposed_ = decoder->add("transpconvs", nn::ModuleList());
    const std::size_t ups = features.size() - 1;
    for (std::size_t i = 0; i < ups; ++i) {
        const std::int64_t below = features[ups - i], here = features[ups - i - 1];
        const auto kernel = expand(strides_[ups - i]);
        transposed_->push_back(nn::ConvTranspose3d(nn::ConvTranspose3dOptions(below, here, kernel).stride(kernel)));
        decoder_stages_->push_back(std::make_shared<ConvStack>(2 * here, here, Stride{1, 1, 1}, dropout));
    }
    auto layers = register_module("seg_layers", std::make_shared<Folder>());
    for (const HeadChannels& head : this->heads()) {
        auto list = layers->add(head.name, nn::ModuleList());
        for (std::size_t i = 0; i < ups; ++i) {
            list->push_back(nn::Conv3d(nn::Conv3dOptions(features[ups - i - 1], head.channels, 1)));
        }
        head_layers_.push_back(list);
    }
    initialise_as_nnunet(*this);
}

std::vector<HeadLogits> PlainConvUnet::forward(const torch::Tensor& input, std::int64_t levels) {
    check_input(input);
    TORCH_CHECK(levels >= 1 && levels <= max_levels(), "PlainConvUnet: expected 1 to ", max_levels(), " levels");
    std::vector<torch::Tensor> skips;
    torch::Tensor x = input;
    for (std::size_t i = 0; i < encoder_stages_->size(); ++i) {
        x = encoder_stages_->ptr<nn::ModuleListImpl>(i)->ptr<ConvStack>(0)->forward(x);
        skips.push_back(x);
    }
    std::vector<HeadLogits> result;
    for (const HeadChannels& head : heads()) result.push_back({head.name, {}});
    const std::int64_t ups = max_levels();
    for (std::int64_t i = 0; i < ups; ++i) {
        const auto at = static_cast<std::size_t>(i);
        skips.pop_back();
        x = transposed_->ptr<nn::ConvTranspose3dImpl>(at)->forward(x);
        x = decoder_stages_->ptr<ConvStack>(at)->forward(torch::cat({x, skips.back()}, 1));
        if (i < ups - levels) continue;
        for (std::size_t h = 0; h < result.size(); ++h) {
            auto& outputs = result[h].levels;
            outputs.insert(outputs.begin(), head_layers_[h]->ptr<nn::Conv3dImpl>(at)->forward(x));
        }
    }
    return result;
}

std::array<std::int64_t, 3> PlainConvUnet::multiple() const {
    std::array<std::int64_t, 3> product = {1, 1, 1};
    for (const auto& stride : strides_) {
        for (std::size_t axis = 0; axis < 3; ++axis) product[axis] *= stride[axis];
    }
    return product;
}

std::int64_t PlainConvUnet::max_levels() const { return static_cast<std::int64_t>(transposed_->size()); }

}  // namespace cardionode
