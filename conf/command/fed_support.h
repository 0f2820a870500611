// Shared by the reports on the federation. Inside conf/command.
#pragma once

#include <optional>
#include <string>

#include <fmt/format.h>

#include "conf/command/fed_reports.h"
#include "fedclient/round/settings.h"

namespace cardionode {

inline Result<fed::FederatedNode> settings_of(const FedOptions& options) {
    auto settings = fed::load_federated(options.config);
    if (!settings) return config_error("the settings are wrong:\n" + settings.error().message);
    return settings;
}

inline std::string short_hash(const std::string& hash) { return hash.empty() ? "-" : hash.substr(0, 12); }

/// "heart 0.912, hps 2.1 mm"
inline std::string in_words(const std::optional<fed::Validation>& v) {
    if (!v) return "-";
    std::string text;
    for (const auto& [head, dice] : v->dice) text += fmt::format("{}{} {:.3f}", text.empty() ? "" : ", ", head, dice);
    for (const auto& [head, mm] : v->point_mm)
        text += fmt::format("{}{} {:.1f} mm", text.empty() ? "" : ", ", head, mm);
    return text.empty() ? "nothing measured" : text;
}

}  // namespace cardionode
