#include "fedclient/coordinator/order.h"

#include <fmt/format.h>

#include "fedclient/flower/fleet.pb.h"
#include "fedclient/flower/records.h"
#include "fedclient/privacy/inbound.h"

namespace cardionode::fed {
namespace {

double seconds_of(Moment moment) { return static_cast<double>(moment.time_since_epoch().count()) / 1000; }

}  // namespace

Result<Record> order_config(const RunSettings& settings, const OrderWish& wish, Faults& faults) {
    const PlanSettings& plan = settings.plan;
    Record config;
    config["fed-schema"] = std::int64_t{faults.take("other-schema") ? 2 : 1};
    config["model-id"] = settings.model_id;
    config["arch-sha256"] = faults.take("other-arch") ? std::string(64, '0') : settings.arch_sha256;
    config["base-model"] = wish.arrays;
    config["round"] = wish.round;
    config["server-round"] = wish.round;
    config["method"] = plan.method;
    config["heads"] = plan.heads;
    config["deadline"] = seconds_of(wish.deadline);
    config["clip-norm"] = plan.clip_norm;
    config["dp-sigma"] = plan.dp_sigma;
    config["min-client"] = plan.min_client;
    config["steps"] = plan.steps;
    config["learning-rate"] = plan.learning_rate;
    config["proximal-mu"] = plan.proximal_mu;
    config["issue"] = wish.issue;
    config["seed"] = plan.seed + wish.round;
    const auto sign = [&](const std::string& key, const std::string& model, const std::string& id) -> Result<void> {
        if (settings.signing_key.empty()) return {};
        auto signature = sign_model(settings.signing_key, model, wish.round, id);
        if (!signature) return std::move(signature).error();
        config[key] = *signature;
        return {};
    };
    const bool wrong = faults.take("wrong-signature").has_value();
    if (auto done = sign("signature", (wrong ? "other-" : "") + settings.model_id, wish.arrays); !done)
        return std::move(done).error();
    for (const auto& [head, id] : wish.teachers) {
        config["teacher/" + head] = id;
        if (auto done = sign("signature/" + head, settings.model_id + "/teacher/" + head, id); !done)
            return std::move(done).error();
    }
    return config;
}

Result<BuiltOrder> build_order(const RunSettings& settings, const OrderWish& wish, const ObjectStore& objects,
                               Faults& faults) {
    auto config = order_config(settings, wish, faults);
    if (!config) return std::move(config).error();
    auto config_id = objects.put(make_config_object(*config));
    if (!config_id) return std::move(config_id).error();

    std::vector<std::pair<std::string, std::string>> names = {{"arrays", wish.arrays}};
    for (const auto& head : wish.send_teachers) names.emplace_back("teacher/" + head, wish.teachers.at(head));
    names.emplace_back("config", *config_id);
    auto dict_id = objects.put(make_name_object(ObjectType::RecordDict, names));
    if (!dict_id) return std::move(dict_id).error();

    fleet::Message message;
    auto& metadata = *message.mutable_metadata();
    metadata.set_run_id(wish.run_id);
    metadata.set_src_node_id(1);
    metadata.set_dst_node_id(wish.node_id);
    metadata.set_group_id(std::to_string(wish.round));
    metadata.set_ttl(wish.ttl_seconds);
    metadata.set_message_type(wish.phase);
    metadata.set_created_at(seconds_of(wish.now));
    auto message_id = objects.put(make_object(ObjectType::Message, {*dict_id}, message.SerializeAsString()));
    if (!message_id) return std::move(message_id).error();
    if (auto synced = objects.sync({*config_id, *dict_id, *message_id}); !synced) return std::move(synced).error();
    auto tree = objects.tree_of(*message_id);
    if (!tree) return std::move(tree).error();
    return BuiltOrder{*message_id, pre_order(*tree)};
}

}  // namespace cardionode::fed
