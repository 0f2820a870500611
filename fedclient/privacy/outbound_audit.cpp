#include "fedclient/privacy/outbound_audit.h"

#include <cmath>

#include <fmt/format.h>

namespace cardionode::fed {
namespace {

std::string word(const std::string& name) {
    std::string text = name.substr(0, 80);
    for (char& c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                           c == '_' || c == '/' || c == '-';
        if (!plain) c = '?';
    }
    return text.empty() ? "?" : text;
}

}  // namespace

std::string outbound_audit_line(const OutboundAudit& audit) {
    std::string line = fmt::format("fed update out: model={} round={} sha256={}", word(audit.model_id), audit.round,
                                   word(audit.sha256));
    for (const auto& [group, before] : audit.report.norm_before) {
        const auto after = audit.report.norm_after.find(group);
        line += fmt::format(" norm.{}={:.4g}>{:.4g}", word(group), before,
                            after == audit.report.norm_after.end() ? 0.0 : after->second);
    }
    for (const auto& [name, count] : audit.counts) line += fmt::format(" n.{}={}", word(name), count);
    line += fmt::format(" withheld={} noise={}", audit.report.withheld.size(), audit.report.noised ? "yes" : "no");
    line += std::isfinite(audit.epsilon) ? fmt::format(" epsilon={:.4g}", audit.epsilon) : " epsilon=unbounded";
    return line + fmt::format(" delta={:.4g}", audit.delta);
}

}  // namespace cardionode::fed
