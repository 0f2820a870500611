#include "fedclient/coordinator/rounds.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "fedclient/coordinator/aggregate.h"
#include "fedclient/coordinator/random_id.h"
#include "fedclient/coordinator/reply.h"
#include "fedclient/coordinator/validation.h"
#include "fedclient/flower/tensor_objects.h"

namespace cardionode::fed {
namespace {

Milliseconds seconds(double value) { return Milliseconds(static_cast<std::int64_t>(value * 1000)); }

Result<std::string> encode(const std::filesystem::path& weights, const ObjectStore& objects) {
    auto encoded = encode_tensors(weights, objects, ChunkPlace::InStore);
    if (!encoded) return std::move(encoded).error().in(weights.string());
    if (auto synced = objects.sync(post_order(encoded->tree)); !synced) return std::move(synced).error();
    return encoded->tree.id;
}

nlohmann::json to_json(const AggregationReport& report) {
    nlohmann::json json;
    json["dropped"] = nlohmann::json::array();
    for (const auto& dropped : report.dropped)
        json["dropped"].push_back({{"site", dropped.site}, {"reason", dropped.reason}});
    json["weights"] = report.weights;
    json["norms"] = report.norms;
    json["unchanged_heads"] = report.unchanged_heads;
    return json;
}

std::string text_of(const nlohmann::json& json) {
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Result<std::unique_ptr<Rounds>> Rounds::open(const RunSettings& settings, CoordinatorStore& store,
                                             const ObjectStore& objects, Faults& faults, const Clock& clock,
                                             const std::filesystem::path& folder) {
    std::unique_ptr<Rounds> rounds(new Rounds(settings, store, objects, faults, clock, folder));
    for (const char* name : {"models", "updates"})
        if (auto made = make_folder(folder / name); !made) return std::move(made).error();
    if (auto begun = rounds->begin_run(); !begun) return std::move(begun).error();
    auto initial = encode(rounds->initial_.file, objects);
    if (!initial) return std::move(initial).error();
    rounds->initial_.record = *initial;
    for (const auto& [head, file] : settings.plan.teachers) {
        auto teacher = encode(file, objects);
        if (!teacher) return std::move(teacher).error().in("teacher of " + head);
        rounds->teachers_[head] = *teacher;
    }
    return rounds;
}

/// A new run, or the one that stands in the store, with the nodes that were online when it was interrupted.
Result<void> Rounds::begin_run() {
    initial_.file = (folder_ / "models" / "initial.safetensors").string();
    auto run = store_.run();
    if (!run) return std::move(run).error();
    if (!*run) {
        const auto weights = read_file(settings_.weights);
        if (!weights) return weights.error();
        if (auto copied = write_file_durably(initial_.file, *weights); !copied) return copied;
        return store_.put_run(
            {random_id(), "running", settings_.model_id, settings_.plan.method, settings_.arch_sha256});
    }
    if ((*run)->model_id != settings_.model_id || (*run)->method != settings_.plan.method ||
        (*run)->arch_sha256 != settings_.arch_sha256)
        return config_error(fmt::format("{} holds a run of model {} with {}: take another folder for another run",
                                        folder_.string(), (*run)->model_id, (*run)->method));
    const auto last = store_.latest_round();
    if (!last) return last.error();
    const bool more =
        !*last || (*last)->is_open() || (*last)->round + 1 < settings_.rounds.first + settings_.rounds.count;
    if ((*run)->status == "finished" && more) {
        (*run)->status = "running";
        if (auto done = store_.put_run(**run); !done) return done;
    }
    auto nodes = store_.nodes();
    if (!nodes) return std::move(nodes).error();
    Moment interrupted{};
    for (const auto& node : *nodes) interrupted = std::max(interrupted, node.last_seen);
    for (auto& node : *nodes) {
        if (!node.online(interrupted)) continue;
        // It could not be heard while we were away.
        node.online_until = std::max(node.online_until, clock_.now() + seconds(2 * node.interval_seconds));
        if (auto done = store_.put_node(node); !done) return done;
    }
    log_info("run_resumed", {{"model", settings_.model_id}, {"status", (*run)->status}});
    return {};
}

Result<Rounds::Model> Rounds::current_model() {
    auto rounds = store_.rounds();
    if (!rounds) return std::move(rounds).error();
    for (auto round = rounds->rbegin(); round != rounds->rend(); ++round)
        if (round->state == "done") return Model{round->candidate_file, round->candidate_record};
    return initial_;
}

Result<void> Rounds::tick() {
    while (true) {
        auto more = step();
        if (!more) return std::move(more).error();
        if (!*more) return {};
    }
}

Result<bool> Rounds::step() {
    auto round = store_.latest_round();
    if (!round) return std::move(round).error();
    if (!*round || !(*round)->is_open()) return next_round(*round);
    auto run = store_.run();
    if (!run) return std::move(run).error();
    if (!*run || (*run)->status != "running") return false;
    const auto state = (*round)->state;
    if (state == "gathering") return gathering(std::move(**round));
    if (state == "training") return training(std::move(**round));
    if (state == "aggregating") return aggregating(std::move(**round));
    if (state == "evaluating") return evaluating(std::move(**round));
    return bug_error("a round is in the unknown state " + state);
}

Result<bool> Rounds::next_round(const std::optional<RoundRow>& last) {
    auto run = store_.run();
    if (!run) return std::move(run).error();
    if (!*run || (*run)->status != "running") return false;
    const auto now = clock_.now();
    RoundRow round;
    round.round = last ? last->round + 1 : settings_.rounds.first;
    if (round.round >= settings_.rounds.first + settings_.rounds.count) {
        if (now < last->ended.value_or(now) + seconds(settings_.rounds.finish_after_seconds)) return false;
        (*run)->status = "finished";
        if (auto done = store_.put_run(**run); !done) return std::move(done).error();
        log_info("run_finished", {{"model", settings_.model_id}, {"last_round", last->round}});
        return false;
    }
    const auto model = current_model();
    if (!model) return model.error();
    round.state = "gathering";
    round.started = now;
    round.deadline = now + seconds(settings_.rounds.gather_seconds);
    round.base_file = model->file;
    round.base_record = model->record;
    if (auto done = store_.put_round(round); !done) return std::move(done).error();
    log_info("round_begun", {{"round", round.round}, {"model", settings_.model_id}, {"base", round.base_record}});
    return true;
}

Result<bool> Rounds::gathering(RoundRow round) {
    const auto nodes = online_nodes();
    if (!nodes) return nodes.error();
    const int online = static_cast<int>(nodes->size()), quorum = settings_.aggregation.quorum;
    const int expected = std::max(settings_.rounds.expected_sites, quorum);
    const auto now = clock_.now();
    if (online < expected && now < round.deadline) return false;
    if (online < quorum)
        return end_round(std::move(round), "skipped",
                         fmt::format("{} sites were online, the quorum is {}", online, quorum));
    round.state = "training";
    round.deadline = now + seconds(settings_.rounds.deadline_seconds);
    if (auto done = store_.put_round(round); !done) return std::move(done).error();
    log_info("round_training", {{"round", round.round}, {"sites_online", online}});
    return true;
}

Result<bool> Rounds::training(RoundRow round) {
    if (auto done = exchange(round, "train", round.base_record); !done) return std::move(done).error();
    const auto all = everybody_answered(round, "train");
    if (!all) return all.error();
    if (!*all && clock_.now() < round.deadline) return false;
    if (auto done = close_phase(round, "train"); !done) return std::move(done).error();
    round.state = "aggregating";
    if (auto done = store_.put_round(round); !done) return std::move(done).error();
    return true;
}

Result<bool> Rounds::aggregating(RoundRow round) {
    const auto results = store_.results(round.round, "train");
    if (!results) return results.error();
    std::vector<SiteUpdate> updates;
    for (const auto& result : *results)
        if (result.state == "answered")
            updates.push_back(update_of(result.site, result.weights, parse_metrics(result.metrics)));
    const auto candidate = folder_ / "models" / fmt::format("round-{:04}.safetensors", round.round);
    auto report = aggregate(round.base_file, updates, settings_.aggregation, candidate);
    std::string too_few;
    if (!report && report.error().kind == ErrorKind::Reject) {
        too_few = report.error().message;
        report = screen_updates(round.base_file, updates, settings_.aggregation);
    }
    if (!report) return std::move(report).error();
    for (const auto& dropped : report->dropped)
        log_warning("update_dropped", {{"round", round.round}, {"site", dropped.site}, {"reason", dropped.reason}});
    round.report = text_of(to_json(*report));
    if (!too_few.empty()) return end_round(std::move(round), "skipped", too_few);
    auto record = encode(candidate, objects_);
    if (!record) return std::move(record).error();
    round.candidate_file = candidate.string();
    round.candidate_record = *record;
    if (!settings_.evaluation.enabled) return end_round(std::move(round), "done", "");
    round.state = "evaluating";
    round.deadline = clock_.now() + seconds(settings_.evaluation.deadline_seconds);
    if (auto done = store_.put_round(round); !done) return std::move(done).error();
    log_info("round_evaluating", {{"round", round.round}, {"candidate", round.candidate_record}});
    return true;
}

Result<bool> Rounds::evaluating(RoundRow round) {
    if (auto done = exchange(round, "evaluate", round.candidate_record); !done) return std::move(done).error();
    const auto all = everybody_answered(round, "evaluate");
    if (!all) return all.error();
    if (!*all && clock_.now() < round.deadline) return false;
    if (auto done = close_phase(round, "evaluate"); !done) return std::move(done).error();
    SiteMetrics metrics[2];
    for (const bool evaluated : {false, true}) {
        const auto results = store_.results(round.round, evaluated ? "evaluate" : "train");
        if (!results) return results.error();
        for (const auto& result : *results)
            if (result.state == "answered") metrics[evaluated][result.site] = parse_metrics(result.metrics);
    }
    const auto heads = compare_validation(metrics[0], metrics[1]);
    auto report = nlohmann::json::parse(round.report);
    report["validation"] = nlohmann::json::object();
    for (const auto& [head, v] : heads)
        report["validation"][head] = {{"before", v.before}, {"after", v.after}, {"sites", v.sites}};
    round.report = text_of(report);
    const auto falls = falls_of(heads, settings_.evaluation.tolerance);
    if (!falls.empty()) return end_round(std::move(round), "kept_old", falls);
    if (heads.empty()) log_warning("round_not_validated", {{"round", round.round}});
    return end_round(std::move(round), "done", heads.empty() ? "no site validated both models" : "");
}

Result<bool> Rounds::end_round(RoundRow round, const std::string& state, const std::string& reason) {
    round.state = state;
    round.reason = reason;
    round.ended = clock_.now();
    if (auto done = store_.put_round(round); !done) return std::move(done).error();
    log_info("round_ended", {{"round", round.round},
                             {"state", state},
                             {"model", state == "done" ? round.candidate_record : round.base_record},
                             {"reason", reason}});
    if (!settings_.rounds.keep_updates) {
        std::error_code error;
        std::filesystem::remove_all(update_file("", round.round).parent_path(), error);
        if (error) log_warning("updates_not_removed", {{"round", round.round}, {"reason", error.message()}});
    }
    if (auto swept = sweep_objects(); !swept) return std::move(swept).error();
    return true;
}

/// Removes objects that no message, reply, teacher or global model needs.
Result<void> Rounds::sweep_objects() {
    auto kept = store_.held_objects();
    if (!kept) return std::move(kept).error();
    const auto model = current_model();
    if (!model) return model.error();
    std::vector<std::string> roots = {model->record};
    for (const auto& [head, id] : teachers_) roots.push_back(id);
    for (const auto& root : roots) {
        const auto tree = objects_.tree_of(root);
        if (!tree) return tree.error();
        const auto ids = pre_order(*tree);
        kept->insert(ids.begin(), ids.end());
    }
    const auto all = objects_.ids();
    if (!all) return all.error();
    for (const auto& id : *all) {
        if (kept->contains(id)) continue;
        const auto held = store_.is_held(id);  // a reply may have been announced since
        if (!held) return held.error();
        if (*held) continue;
        if (auto removed = objects_.remove(id); !removed) return removed;
    }
    return {};
}

std::filesystem::path Rounds::update_file(const std::string& site, std::int64_t round) const {
    return folder_ / "updates" / fmt::format("round-{:04}", round) / (site + ".safetensors");
}

}  // namespace cardionode::fed
