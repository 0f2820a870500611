// Which head a tensor belongs to, by its canonical name (models/network.h). Header only, no torch.
#pragma once

#include <string>
#include <string_view>

namespace cardionode {

/// "hps" of "outs.hps.conv.conv.weight" and of "seg_layers.hps.4.bias"; empty for the body that all heads share.
inline std::string head_of_tensor(std::string_view name) {
    for (const std::string_view prefix : {std::string_view("outs."), std::string_view("seg_layers.")}) {
        if (!name.starts_with(prefix)) continue;
        const std::string_view rest = name.substr(prefix.size());
        const auto dot = rest.find('.');
        if (dot != std::string_view::npos) return std::string(rest.substr(0, dot));
    }
    return {};
}

}  // namespace cardionode
