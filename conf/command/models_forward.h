// `cardionode models forward`: one network on one tensor file. torch stays inside the .cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

struct ForwardOptions {
    std::string architecture;       ///< swin_unetr | plain_conv_unet
    std::filesystem::path weights;  ///< safetensors: `state.*`, or the tensors alone
    std::filesystem::path input;    ///< safetensors with `input` [N, C, D, H, W]
    std::filesystem::path output;   ///< written: `output.<head>`, or `output.<level>` of a PlainConvUNet with one head
    std::string merging = "monai_1_5";
    std::vector<std::int64_t> strides;   ///< one or three a stage, in order; empty: from the tensors
    std::optional<std::int64_t> window;  ///< side of a sliding window, in voxels
    double overlap = 0.5;
    std::string blending = "gaussian";
    std::string device = "cpu";
    int threads = 0;
};

/// Config: a file is missing, damaged or does not fit the architecture; the input's sides do not fit the network.
/// Retry: memory full, disk full.
Result<void> run_models_forward(const ForwardOptions& options);

}  // namespace cardionode
