#include "fedclient/round/contract.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "conf/base/hash.h"

namespace cardionode::fed {
namespace {

constexpr std::string_view kTeacher = "teacher/", kSignature = "signature/";

std::optional<std::int64_t> whole(const Record& record, std::string_view key) {
    const auto number = number_of(record, key);
    if (!number || !std::isfinite(*number) || *number != std::floor(*number) || std::abs(*number) > 1e15)
        return std::nullopt;
    return static_cast<std::int64_t>(*number);
}

std::string text(const Record& record, std::string_view key) {
    return value_of<std::string>(record, key).value_or(std::string());
}

/// A name that may stand in a file's name and in a log.
bool harmless(const std::string& name) {
    return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
    });
}

}  // namespace

Result<RoundOrder> read_order(const Incoming& message, const Pulled& content) {
    const auto found = content.configs.find("config");
    if (found == content.configs.end()) return reject_error("fedclient:bad_contract: no ConfigRecord \"config\"");
    const Record& c = found->second;
    const auto wrong = [](const std::string& what) { return reject_error("fedclient:bad_contract: " + what); };
    if (whole(c, "fed-schema") != kFedSchema)
        return reject_error(fmt::format("fedclient:unknown_schema: this node speaks fed-schema {}", kFedSchema));
    RoundOrder order;
    RoundPlan& plan = order.plan;
    plan.model_id = text(c, "model-id");
    if (!harmless(plan.model_id)) return wrong("model-id is missing");
    const auto round = whole(c, "round");
    if (!round || *round < 0) return wrong("round is missing");
    plan.round = *round;
    order.architecture = text(c, "arch-sha256");
    order.base_model = text(c, "base-model");
    order.signature = text(c, "signature");
    const auto arrays = content.arrays.find("arrays");
    if (arrays == content.arrays.end()) return wrong("no ArrayRecord \"arrays\"");
    if (!order.base_model.empty() && order.base_model != arrays->second.record_id)
        return wrong("base-model is another one than the weights that came");
    if (message.type == "train") {
        const std::string word = c.contains("method") ? text(c, "method") : "fedavg";
        if (word == "fedavg") plan.method = Method::FedAvg;
        else if (word == "fedkd_teacher") plan.method = Method::FedKdTeacher;
        else if (word == "fedkd_student") plan.method = Method::FedKdStudent;
        else return wrong("an unknown method");
        if (const auto steps = whole(c, "steps")) plan.steps = *steps;
    }
    if (const auto heads = value_of<std::vector<std::string>>(c, "heads")) plan.heads = *heads;
    if (!std::all_of(plan.heads.begin(), plan.heads.end(), harmless)) return wrong("a head's name");
    if (const auto rate = number_of(c, "learning-rate")) plan.learning_rate = *rate;
    if (const auto mu = number_of(c, "proximal-mu")) plan.proximal_mu = *mu;
    if (const auto seed = whole(c, "seed")) plan.seed = static_cast<std::uint64_t>(std::abs(*seed));
    order.deadline = number_of(c, "deadline").value_or(0);
    order.clip_norm = number_of(c, "clip-norm").value_or(0);
    order.noise = number_of(c, "dp-sigma").value_or(0);
    for (const auto& [name, pulled] : content.arrays) {
        if (name == "arrays") continue;
        if (!name.starts_with(kTeacher) || !harmless(name.substr(kTeacher.size())))
            return wrong("an ArrayRecord that is neither \"arrays\" nor \"teacher/<head>\"");
        order.teacher_records[name.substr(kTeacher.size())] = pulled.record_id;
    }
    for (const auto& [key, value] : c) {
        if (!key.starts_with(kTeacher)) continue;
        const std::string head = key.substr(kTeacher.size()), record = text(c, key);
        if (!harmless(head) || !harmless(record)) return wrong("a teacher's name or id");
        if (const auto [at, fresh] = order.teacher_records.emplace(head, record); !fresh && at->second != record)
            return wrong("a teacher that came is another one than the contract names");
    }
    for (const auto& [head, record] : order.teacher_records)
        order.teacher_signatures[head] = text(c, std::string(kSignature) + head);
    if (!std::isfinite(plan.learning_rate) || !std::isfinite(plan.proximal_mu) || !std::isfinite(order.deadline))
        return wrong("a number that is none");
    return order;
}

Result<void> within_bounds(const RoundOrder& order, const FederatedSettings& settings) {
    const BoundsSettings& b = settings.bounds;
    const RoundPlan& plan = order.plan;
    const auto beyond = [](const std::string& what) { return reject_error("fedclient:out_of_bounds: " + what); };
    std::string method = "fedavg";  // not to_string(): this library stands without the methods' own
    if (plan.method == Method::FedKdTeacher) method = "fedkd_teacher";
    if (plan.method == Method::FedKdStudent) method = "fedkd_student";
    if (std::find(b.methods.begin(), b.methods.end(), method) == b.methods.end())
        return beyond("the method " + method + " is not allowed here");
    if (plan.steps < 1 || plan.steps > b.most_steps) return beyond(fmt::format("steps: 1 to {}", b.most_steps));
    if (plan.learning_rate < 0 || plan.learning_rate > b.most_learning_rate)
        return beyond(fmt::format("learning-rate: at most {}", b.most_learning_rate));
    if (plan.proximal_mu < 0 || plan.proximal_mu > b.most_proximal_mu)
        return beyond(fmt::format("proximal-mu: at most {}", b.most_proximal_mu));
    return {};
}

std::string round_key(const Incoming& message, const RoundOrder& order, const std::string& record_id) {
    const RoundPlan& p = order.plan;
    std::string heads;
    for (const std::string& head : p.heads) heads += head + ",";
    return sha256_hex(fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", message.run_id, message.type,
                                  p.model_id, p.round, record_id, static_cast<int>(p.method), heads, p.steps,
                                  p.learning_rate, p.proximal_mu, p.seed))
        .substr(0, 32);
}

}  // namespace cardionode::fed
