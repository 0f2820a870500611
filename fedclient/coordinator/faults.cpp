#include "fedclient/coordinator/faults.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "conf/base/log.h"

namespace cardionode::fed {

const std::vector<std::string>& Faults::names() {
    static const std::vector<std::string> names = {"drop-connection",
                                                   "drop-pull-answer",
                                                   "drop-push-answer",
                                                   "drop-object-answer",
                                                   "http-500",
                                                   "http-502",
                                                   "slow",
                                                   "stale-connection",
                                                   "truncated-answer",
                                                   "wrong-hash",
                                                   "truncated-chunk",
                                                   "lapse-session",
                                                   "late",
                                                   "lose-object",
                                                   "offline",
                                                   "stop-run",
                                                   "nan-model",
                                                   "outlier-model",
                                                   "wrong-signature",
                                                   "other-arch",
                                                   "other-schema",
                                                   "skew"};
    return names;
}

Result<void> Faults::order(const std::string& text) {
    const auto equals = text.find('='), colon = text.find(':');
    const std::string name = text.substr(0, std::min(equals, colon));
    if (std::find(names().begin(), names().end(), name) == names().end())
        return config_error(fmt::format("fault {}: there is no such fault; known: {}", name, fmt::join(names(), ", ")));
    Ordered ordered;
    ordered.left = 1;
    if (equals != std::string::npos) {
        const auto* const end = text.data() + std::min(colon, text.size());
        const auto read = std::from_chars(text.data() + equals + 1, end, ordered.left);
        if (read.ec != std::errc() || read.ptr != end || ordered.left < 0)
            return config_error(fmt::format("fault {}: expected {}=<times>", text, name));
    }
    if (name == "slow") ordered.argument = 2;
    if (colon != std::string::npos) {
        const auto* const end = text.data() + text.size();
        const auto read = std::from_chars(text.data() + colon + 1, end, ordered.argument);
        if (read.ec != std::errc() || read.ptr != end)
            return config_error(fmt::format("fault {}: expected a number behind the colon", text));
    }
    const std::lock_guard lock(mutex_);
    auto& fault = faults_[name];
    fault.left += ordered.left;
    fault.argument = ordered.argument;
    return {};
}

std::optional<double> Faults::take(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = faults_.find(name);
    if (found == faults_.end() || found->second.left == 0) return std::nullopt;
    --found->second.left;
    ++found->second.happened;
    log_info("fault_injected", {{"fault", name}, {"left", found->second.left}});
    return found->second.argument;
}

double Faults::argument(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = faults_.find(name);
    return found == faults_.end() ? 0 : found->second.argument;
}

std::map<std::string, int> Faults::happened() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, int> counts;
    for (const auto& [name, fault] : faults_)
        if (fault.happened > 0) counts[name] = fault.happened;
    return counts;
}

std::map<std::string, int> Faults::due() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, int> counts;
    for (const auto& [name, fault] : faults_)
        if (fault.left > 0) counts[name] = fault.left;
    return counts;
}

}  // namespace cardionode::fed
