// What every network of this project is: a torch module that turns CT windows into the logits of named heads.
//
// The names of its parameters are those of the published checkpoints, so that weights travel between both:
//   swin_unetr       swin_unetr.swinViT..., swin_unetr.encoder1..., outs.<head>.conv.conv.{weight,bias}
//   plain_conv_unet  model.encoder.stages.{i}.0.convs.{j}.{conv,norm}..., model.decoder..., seg_layers.<head>.{level}
// train(), eval(), to(device), parameters() as for any torch module.
// Thread safety: one object belongs to one thread at a time. Here torch's exceptions pass through (c10::Error for a
// shape that does not fit, out of memory); pipeline/infer and models/train catch them.
#pragma once

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "models/weights/safetensors.h"

namespace cardionode {

struct HeadChannels {
    std::string name;
    std::int64_t channels = 2;  ///< background included
};

/// All that decides a network's tensors and what they compute.
struct NetworkOptions {
    ArchitectureManifest architecture;
    std::int64_t input_channels = 1;
    std::vector<HeadChannels> heads;
    double dropout = 0;  ///< plain_conv_unet: of whole channels between convolution and norm, in training only
};

/// Logits of one head. levels[0] has the input's resolution; the rest, if asked for, are coarser deep-supervision
/// outputs in falling resolution.
struct HeadLogits {
    std::string head;
    std::vector<torch::Tensor> levels;  ///< [N, channels, D, H, W]
};

class Network : public torch::nn::Module {
public:
    /// @param x       float32 [N, input_channels, D, H, W] on the module's device; D, H, W multiples of multiple()
    /// @param levels  1..max_levels() outputs a head
    /// @return        one entry a head, in the order of heads()
    virtual std::vector<HeadLogits> forward(const torch::Tensor& x, std::int64_t levels = 1) = 0;
    /// Each side of the input must be a multiple of this (D, H, W).
    virtual std::array<std::int64_t, 3> multiple() const = 0;
    /// How many deep-supervision levels a head has; 1 where the architecture has none.
    virtual std::int64_t max_levels() const = 0;
    const std::vector<HeadChannels>& heads() const { return heads_; }
    std::int64_t input_channels() const { return input_channels_; }

protected:
    Network(std::vector<HeadChannels> heads, std::int64_t input_channels)
        : heads_(std::move(heads)), input_channels_(input_channels) {}
    /// Throws c10::Error unless x fits input_channels() and multiple().
    void check_input(const torch::Tensor& x) const;

private:
    std::vector<HeadChannels> heads_;
    std::int64_t input_channels_;
};

/// A network with fresh random weights (torch's generator: torch::manual_seed makes it repeatable), in training mode.
/// Config: unknown architecture or merging order, sizes that do not fit, no head, two heads of one name.
Result<std::shared_ptr<Network>> make_network(const NetworkOptions& options);

/// The options of a bundle: heads with one channel more than they have classes.
NetworkOptions network_options(const BundleManifest& manifest);
/// The same for the network of its second look, which the manifest must have.
NetworkOptions second_look_options(const BundleManifest& manifest);

/// Reads sizes, channels and heads from the tensors of a checkpoint, in any of the name forms that load_state takes.
/// A checkpoint with a single unnamed head gives it the name `single_head`.
/// The strides of a PlainConvUNet are those of its transposed convolutions. The merging order of a SwinUNETR cannot be
/// seen in the tensors and stays at its default.
/// @param type  swin_unetr | plain_conv_unet
/// Config: tensors are missing.
Result<NetworkOptions> infer_network_options(const std::string& type, const NamedTensors& tensors,
                                             const std::string& single_head = "out");

/// Copies a checkpoint into the network. Tolerated: the aliases that nnU-Net stores (all_modules, decoder.encoder), a
/// missing or foreign prefix (model., swin_unetr., unet., module., state_dict., network_weights. and the like), what a
/// training script keeps beside the weights (optimizer..., lr_scheduler...), single-head names, the flags of the
/// published multi-head networks, a stored relative_position_index (it is recomputed: averaged checkpoints hold damaged
/// ones), and float16, bfloat16 or float64 values (converted to float32). Config: a tensor is missing, unexpected, of
/// another shape, not floating or not finite, or an alias differs from its original; up to ten problems are named. The
/// network is unchanged then.
Result<void> load_state(Network& network, const NamedTensors& tensors);

/// The head whose last layers a parameter belongs to: "hps" of "outs.hps.conv.conv.weight" and "seg_layers.hps.4.bias";
/// empty for the body.
std::string head_of_parameter(const std::string& name);

/// What load_body made of the heads, by name.
struct LoadedHeads {
    std::vector<std::string> loaded;    ///< taken from the checkpoint
    std::vector<std::string> fresh;     ///< not in the checkpoint: as they were
    std::vector<std::string> left_out;  ///< of the checkpoint, not of the network; an unnamed head is called "out"
};

/// As load_state, but the checkpoint may hold other heads than the network: the body must fit whole, a head that both
/// have is taken, the network's others stay as they are. Config besides: a head of one name but another shape.
Result<LoadedHeads> load_body(Network& network, const NamedTensors& tensors);

/// The network's float parameters under their canonical names: detached copies on the CPU.
NamedTensors state_of(const Network& network);

/// Reads a weights file into the network: tensors named as load_state takes them.
Result<void> load_weights(Network& network, const std::filesystem::path& file);
/// Writes state_of(network), durably.
Result<void> save_weights(const Network& network, const std::filesystem::path& file,
                          const std::map<std::string, std::string>& metadata = {});

}  // namespace cardionode
