// `cardionode models export` and `models import`: weights between a bundle, safetensors and PyTorch's checkpoints.
// torch stays inside the .cpp.
#pragma once

#include <filesystem>
#include <string>

#include "conf/base/result.h"

namespace cardionode {

struct ExportOptions {
    std::filesystem::path bundle;  ///< folder
    std::string format = "pt";     ///< pt | safetensors
    std::filesystem::path output;
};

/// The bundle's weights, float32, under the names of the published networks. Config: the bundle, the output's folder.
Result<void> run_models_export(const ExportOptions& options);

struct ImportOptions {
    std::filesystem::path file;       ///< .pt of torch.save, either form, or safetensors
    std::string architecture;         ///< swin_unetr | plain_conv_unet
    std::string single_head = "out";  ///< what the head of a network with one unnamed head is called
    std::filesystem::path output;     ///< safetensors
};

/// Reads a checkpoint without running anything of it, fits it to a network, and writes that network's weights under
/// their canonical names. Config: damaged, refused, or no network of this architecture: every problem by name.
Result<void> run_models_import(const ImportOptions& options);

}  // namespace cardionode
