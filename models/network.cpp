#include "models/network.h"

#include <algorithm>
#include <set>

#include "models/plain_conv_unet.h"
#include "models/swin_unetr.h"

namespace cardionode {
namespace {

Result<void> check_heads(const std::vector<HeadChannels>& heads) {
    if (heads.empty()) return config_error("a network needs at least one head");
    std::set<std::string> seen;
    for (const HeadChannels& head : heads) {
        if (head.name.empty() || head.name.find('.') != std::string::npos || !seen.insert(head.name).second) {
            return config_error("head '" + head.name + "': the name is empty, holds a dot or occurs twice");
        }
        if (head.channels < 2 || head.channels > 256)
            return config_error("head '" + head.name + "': expected 2 to 256 channels");
    }
    return {};
}

Result<void> check_architecture(const ArchitectureManifest& a) {
    if (a.type == "swin_unetr") {
        if (a.feature_size < 12 || a.feature_size > 192 || a.feature_size % 12 != 0) {
            return config_error("feature_size: expected a multiple of 12 from 12 to 192");
        }
        if (a.patch_merging != "monai_0_9" && a.patch_merging != "monai_1_5" && a.patch_merging != "v2") {
            return config_error("patch_merging: expected monai_0_9, monai_1_5 or v2, found '" + a.patch_merging + "'");
        }
        return {};
    }
    if (a.type != "plain_conv_unet") {
        return config_error("architecture: expected swin_unetr or plain_conv_unet, found '" + a.type + "'");
    }
    if (a.features.size() < 2 || a.features.size() > 10 || a.features.size() != a.strides.size()) {
        return config_error("plain_conv_unet: expected as many strides as features, 2 to 10");
    }
    for (std::size_t i = 0; i < a.features.size(); ++i) {
        if (a.features[i] < 1 || a.features[i] > 2048)
            return config_error("features: expected 1 to 2048 channels a stage");
        for (const std::int64_t stride : a.strides[i]) {
            if (stride < 1 || stride > (i == 0 ? 1 : 4)) {
                return config_error("strides: expected 1 for the first stage and 1 to 4 for the others");
            }
        }
    }
    return {};
}

}  // namespace

void Network::check_input(const torch::Tensor& x) const {
    TORCH_CHECK(x.dim() == 5 && x.size(1) == input_channels_, "expected an input [N, ", input_channels_,
                ", D, H, W], found ", x.sizes());
    const auto sides = multiple();
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t size = x.size(static_cast<std::int64_t>(axis) + 2);
        TORCH_CHECK(size > 0 && size % sides[axis] == 0, "the input's sides ", x.sizes().slice(2),
                    " must be multiples of ", sides[axis]);
    }
}

Result<std::shared_ptr<Network>> make_network(const NetworkOptions& options) {
    if (auto ok = check_heads(options.heads); !ok) return std::move(ok).error();
    if (auto ok = check_architecture(options.architecture); !ok) return std::move(ok).error();
    if (options.input_channels < 1 || options.input_channels > 16)
        return config_error("expected 1 to 16 input channels");
    if (options.dropout < 0 || options.dropout >= 1) return config_error("dropout: expected 0 to below 1");
    try {
        if (options.architecture.type == "swin_unetr") {
            return std::shared_ptr<Network>(
                std::make_shared<SwinUnetr>(options.architecture, options.input_channels, options.heads));
        }
        return std::shared_ptr<Network>(std::make_shared<PlainConvUnet>(options.architecture, options.input_channels,
                                                                        options.heads, options.dropout));
    } catch (const c10::Error& error) {
        return retry_error(std::string("making the network: ") + error.what_without_backtrace());
    } catch (const std::bad_alloc&) {
        return retry_error("making the network: not enough memory");
    }
}

NetworkOptions network_options(const BundleManifest& manifest) {
    NetworkOptions options;
    options.architecture = manifest.architecture;
    options.input_channels = manifest.input.channels;
    for (const HeadManifest& head : manifest.heads) {
        options.heads.push_back({head.name, static_cast<std::int64_t>(head.classes.size()) + 1});
    }
    return options;
}

NetworkOptions second_look_options(const BundleManifest& manifest) {
    NetworkOptions options;
    options.architecture = manifest.second_look.value().architecture;
    options.input_channels = manifest.second_look->input.channels;
    for (const std::string& name : manifest.second_look->heads) {
        const HeadManifest* head = manifest.head(name);
        TORCH_CHECK(head, "the second look's head ", name, " is none of the bundle's");
        options.heads.push_back({name, static_cast<std::int64_t>(head->classes.size()) + 1});
    }
    return options;
}

}  // namespace cardionode
