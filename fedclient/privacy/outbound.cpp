#include "fedclient/privacy/outbound.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "fedclient/privacy/noise.h"
#include "fedclient/privacy/tensor_values.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;

/// What becomes of one tensor of the pulled file.
struct Step {
    const TensorEntry* base = nullptr;
    const TensorEntry* trained = nullptr;
    std::string group;
    bool learned = false;  ///< leaves changed; else as it came
};

struct Plan {
    TensorFile base, trained;
    std::vector<Step> steps;
    std::set<std::string> groups;  ///< that leave changed
};

Result<void> check_rules(const OutboundRules& rules, std::int64_t patients) {
    if (!std::isfinite(rules.clip_norm) || rules.clip_norm <= 0) {
        return config_error("clip_norm must be a number above 0: the clip is always on");
    }
    if (!std::isfinite(rules.noise_multiplier) || rules.noise_multiplier < 0) {
        return config_error("noise_multiplier must be 0 or a number above 0");
    }
    // Without the number of patients: this text may be sent as the reason of a refusal.
    if (patients < rules.minimum_patients || patients < 1) {
        return reject_error("trained on fewer patients than the hospital's minimum of " +
                            std::to_string(std::max<std::int64_t>(rules.minimum_patients, 1)));
    }
    return {};
}

bool allowed(const std::string& name, const OutboundRules& rules) {
    return std::any_of(rules.allowed.begin(), rules.allowed.end(),
                       [&](const std::string& pattern) { return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
}

/// Both files hold the same floating tensors, in F32.
Result<void> check_same(const TensorFile& base, const TensorFile& trained) {
    for (const TensorEntry& entry : base.entries()) {
        if (!entry.floating()) continue;
        const TensorEntry* other = trained.find(entry.name);
        if (other == nullptr) return bug_error("training lost the tensor '" + entry.name + "'");
        if (other->shape != entry.shape) return bug_error("training changed the shape of '" + entry.name + "'");
        if (entry.dtype != "F32" || other->dtype != "F32") {
            return config_error("tensor '" + entry.name + "' is not F32 and cannot leave");
        }
    }
    for (const TensorEntry& entry : trained.entries()) {
        if (entry.floating() && base.find(entry.name) == nullptr) {
            return bug_error("training made the tensor '" + entry.name + "', which was not pulled");
        }
    }
    return {};
}

Result<Plan> plan_of(const fs::path& base_file, const fs::path& trained_file, const std::vector<std::string>& learned,
                     const OutboundRules& rules, OutboundReport& report) {
    auto base = TensorFile::open(base_file);
    if (!base) return std::move(base).error();
    auto trained = TensorFile::open(trained_file);
    if (!trained) return std::move(trained).error();
    if (auto same = check_same(*base, *trained); !same) return std::move(same).error();

    std::set<std::string> unknown(learned.begin(), learned.end());
    std::vector<Step> steps;
    std::set<std::string> groups;
    for (const TensorEntry& entry : base->entries()) {
        if (!entry.floating()) continue;
        Step step{&entry, trained->find(entry.name), group_of(entry.name), false};
        unknown.erase(step.group);
        const bool permitted = allowed(entry.name, rules);
        if (!permitted) report.withheld.push_back(entry.name);
        step.learned = permitted &&
                       (step.group == "body" || std::find(learned.begin(), learned.end(), step.group) != learned.end());
        if (step.learned) groups.insert(step.group);
        steps.push_back(std::move(step));
    }
    if (!unknown.empty()) return bug_error("the head '" + *unknown.begin() + "' learned but has no tensors");
    if (groups.empty()) return reject_error("the allow-list of tensor names leaves nothing to send");
    return Plan{std::move(*base), std::move(*trained), std::move(steps), std::move(groups)};
}

/// The L2 norm of (other - base) for each group that learned. Names the tensor that is not finite.
Result<std::map<std::string, double>> norms(const Plan& plan, const TensorFile& other) {
    std::map<std::string, double> squares;
    for (const std::string& group : plan.groups) squares[group] = 0;
    for (const Step& step : plan.steps) {
        const TensorEntry* entry = other.find(step.base->name);
        if (entry == nullptr) return bug_error("tensor '" + step.base->name + "' is missing");
        // What did not learn, or may not leave, leaves as it came: only that must be finite.
        const std::vector<const TensorFile*> files =
            step.learned ? std::vector{&plan.base, &other} : std::vector{&plan.base};
        const std::vector<const TensorEntry*> entries =
            step.learned ? std::vector{step.base, entry} : std::vector{step.base};
        double sum = 0;
        auto walked = walk_values(files, entries, [&](const auto& values) -> Result<void> {
            for (std::size_t i = 0; i < values[0].size(); ++i) {
                const double change = step.learned ? values[1][i] - values[0][i] : 0;
                if (!std::isfinite(values[0][i]) || !std::isfinite(change)) {
                    return reject_error("tensor '" + step.base->name + "' holds a value that is not finite");
                }
                sum += change * change;
            }
            return {};
        });
        if (!walked) return std::move(walked).error();
        if (step.learned) squares[step.group] += sum;
    }
    for (auto& [group, value] : squares) value = std::sqrt(value);
    return squares;
}

Result<void> write_update(const Plan& plan, const OutboundRules& rules, const std::map<std::string, double>& before,
                          std::uint64_t seed, const fs::path& out) {
    std::vector<TensorEntry> entries;
    for (const Step& step : plan.steps) entries.push_back({step.base->name, "F32", step.base->shape});
    auto writer = TensorFileWriter::create(out, std::move(entries));
    if (!writer) return std::move(writer).error();
    GaussianNoise noise(seed);
    const double deviation = rules.noise_multiplier * rules.clip_norm;
    std::vector<float> sent;
    for (const Step& step : plan.steps) {
        const double norm = step.learned ? before.at(step.group) : 0;
        const double scale = norm > rules.clip_norm ? rules.clip_norm / norm : 1;
        const auto write = [&](const std::vector<std::vector<double>>& values) -> Result<void> {
            sent.resize(values[0].size());
            for (std::size_t i = 0; i < sent.size(); ++i) {
                double value = values[0][i];
                if (step.learned) value += scale * (values[1][i] - values[0][i]);
                if (step.learned && deviation > 0) {
                    const auto draw = noise.next();
                    if (!draw) return retry_error("no random numbers for the noise: nothing leaves");
                    value += deviation * *draw;
                }
                sent[i] = static_cast<float>(value);
                if (!std::isfinite(sent[i])) {
                    return reject_error("tensor '" + step.base->name + "' would leave with a value that is not finite");
                }
            }
            return writer->append(std::span<const float>(sent));
        };
        if (auto walked = walk_values({&plan.base, &plan.trained}, {step.base, step.trained}, write); !walked) {
            return walked;
        }
    }
    return writer->commit();
}

}  // namespace

Result<OutboundReport> filter_update(const fs::path& base, const fs::path& trained,
                                     const std::vector<std::string>& learned, std::int64_t patients,
                                     const OutboundRules& rules, std::uint64_t seed, const fs::path& out) {
    if (auto checked = check_rules(rules, patients); !checked) return std::move(checked).error();
    OutboundReport report;
    auto plan = plan_of(base, trained, learned, rules, report);
    if (!plan) return std::move(plan).error();
    auto before = norms(*plan, plan->trained);
    if (!before) return std::move(before).error().in("the update");
    if (auto written = write_update(*plan, rules, *before, seed, out); !written) return std::move(written).error();
    const auto sent = TensorFile::open(out);
    if (!sent) return Error(sent.error());
    auto after = norms(*plan, *sent);
    if (!after) return std::move(after).error().in("reading back what would leave");
    report.norm_before = std::move(*before);
    report.norm_after = std::move(*after);
    report.noised = rules.noise_multiplier > 0;
    report.booked_multiplier = rules.noise_multiplier / (2 * std::sqrt(static_cast<double>(plan->groups.size())));
    return report;
}

std::int64_t sent_count(std::int64_t count, std::int64_t step) {
    if (count <= 0) return 0;
    if (step <= 1 || count >= 50) return count;
    return (count + step / 2) / step * step;
}

}  // namespace cardionode::fed
