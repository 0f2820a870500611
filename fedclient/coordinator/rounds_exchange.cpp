// The part of Rounds that asks the sites and takes their answers.
#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "fedclient/coordinator/order.h"
#include "fedclient/coordinator/poison.h"
#include "fedclient/coordinator/reply.h"
#include "fedclient/coordinator/rounds.h"
#include "fedclient/flower/tensor_objects.h"

namespace cardionode::fed {
namespace {

constexpr std::string_view kMissingTeacher = "fedclient:teacher_missing";

double seconds_between(Moment from, Moment to) { return static_cast<double>((to - from).count()) / 1000; }

}  // namespace

Result<std::vector<NodeRow>> Rounds::online_nodes() {
    auto nodes = store_.nodes();
    if (!nodes) return nodes;
    const auto now = clock_.now();
    std::map<std::string, NodeRow> by_site;  // a hospital with a new key has two nodes: the one heard last
    for (const auto& node : *nodes) {
        if (!node.online(now)) continue;
        const auto [place, fresh] = by_site.try_emplace(node.site, node);
        if (!fresh && node.last_seen > place->second.last_seen) place->second = node;
    }
    std::vector<NodeRow> online;
    for (auto& [site, node] : by_site) online.push_back(std::move(node));
    return online;
}

Result<void> Rounds::exchange(const RoundRow& round, const std::string& phase, const std::string& arrays) {
    const auto now = clock_.now();
    const auto lapsed = store_.lapse_sessions(now);
    if (!lapsed) return lapsed.error();
    for (const auto& site : *lapsed) log_warning("push_session_lapsed", {{"site", site}, {"round", round.round}});
    const auto messages = store_.open_messages();
    if (!messages) return messages.error();
    std::map<std::string, MessageRow> newest;  // by site
    std::set<std::string> finished;
    for (const auto& message : *messages) {
        if (message.round != round.round || message.phase != phase) {
            if (auto closed = store_.close_message(message.id); !closed) return closed;
            continue;
        }
        if (finished.contains(message.site)) continue;
        const auto node = store_.node(message.node);
        if (!node) return node.error();
        if (!*node || !(*node)->online(now)) {
            log_warning("node_unavailable", {{"site", message.site},
                                             {"round", round.round},
                                             {"reply_lost", message.reply_complete ? "yes" : "no"}});
            ResultRow away{round.round, phase, message.site, "away", 0, "Node Unavailable", "", "{}", now};
            if (auto done = store_.finish(message, away); !done) return done;
            finished.insert(message.site);
        } else if (message.reply_complete) {
            if (auto taken = take(message); !taken) return taken;
            finished.insert(message.site);
        } else {
            newest.insert_or_assign(message.site, message);  // in order of created
        }
    }
    if (now >= round.deadline) return {};

    std::map<std::string, ResultRow> results;
    const auto rows = store_.results(round.round, phase);
    if (!rows) return rows.error();
    for (const auto& row : *rows) results[row.site] = row;
    std::set<std::string> trained;
    if (phase == "evaluate") {
        const auto train = store_.results(round.round, "train");
        if (!train) return train.error();
        for (const auto& row : *train)
            if (row.state == "answered") trained.insert(row.site);
    }
    const auto nodes = online_nodes();
    if (!nodes) return nodes.error();
    for (const auto& node : *nodes) {
        if (phase == "evaluate" && !trained.contains(node.site)) continue;
        const auto result = results.find(node.site);
        if (result != results.end()) {
            if (result->second.is_final() || result->second.issues >= settings_.rounds.most_issues) continue;
            const auto open = newest.find(node.site);
            if (open != newest.end()) {
                const auto& m = open->second;
                const bool silent = m.delivered && !m.confirmed && m.reply_id.empty() &&
                                    seconds_between(m.touched, now) > settings_.rounds.silent_seconds;
                if (!silent) continue;
            }
            log_info("message_issued_again",
                     {{"site", node.site}, {"round", round.round}, {"times", result->second.issues + 1}});
        }
        if (auto done = issue(round, phase, arrays, node); !done) return done;
    }
    return {};
}

Result<void> Rounds::issue(const RoundRow& round, const std::string& phase, const std::string& arrays,
                           const NodeRow& node) {
    const auto run = store_.run();
    if (!run) return run.error();
    const auto results = store_.results(round.round, phase);
    if (!results) return results.error();
    OrderWish wish;
    wish.run_id = (*run)->id;
    wish.node_id = node.id;
    wish.round = round.round;
    wish.phase = phase;
    for (const auto& row : *results)
        if (row.site == node.site) wish.issue = row.issues + 1;
    wish.now = clock_.now();
    wish.deadline = round.deadline;
    wish.ttl_seconds = seconds_between(wish.now, round.deadline);
    const auto sent = poisoned(round, arrays);
    if (!sent) return sent.error();
    wish.arrays = *sent;
    if (phase == "train" && settings_.plan.method == "fedkd_student") {
        wish.teachers = teachers_;
        const auto has = store_.teachers_of(node.site);
        if (!has) return has.error();
        for (const auto& [head, id] : teachers_)
            if (!has->contains(head)) wish.send_teachers.push_back(head);
    }
    auto built = build_order(settings_, wish, objects_, faults_);
    if (!built) return std::move(built).error();
    MessageRow message;
    message.id = built->message_id;
    message.node = node.id;
    message.site = node.site;
    message.round = round.round;
    message.phase = phase;
    message.created = static_cast<double>(wish.now.time_since_epoch().count()) / 1000;
    message.ttl = wish.ttl_seconds;
    message.touched = wish.now;
    message.teachers = fmt::format("{}", fmt::join(wish.send_teachers, ","));
    if (auto done = store_.add_message(message, built->objects); !done) return done;
    log_info("message_issued", {{"site", node.site}, {"round", round.round}, {"phase", phase}});
    return {};
}

/// The weights that are sent: the wanted ones, but for faults.
Result<std::string> Rounds::poisoned(const RoundRow& round, const std::string& arrays) {
    const bool nan = faults_.take("nan-model").has_value();
    if (!nan && !faults_.take("outlier-model")) return arrays;
    const auto file = folder_ / "models" / "poisoned.safetensors";
    const auto& weights = arrays == round.candidate_record ? round.candidate_file : round.base_file;
    if (auto done = poison_weights(weights, nan ? Poison::Nan : Poison::Outlier, file); !done)
        return std::move(done).error();
    auto encoded = encode_tensors(file, objects_, ChunkPlace::InStore);
    if (!encoded) return std::move(encoded).error();
    return encoded->tree.id;
}

Result<void> Rounds::take(const MessageRow& message) {
    ResultRow result{message.round, message.phase, message.site, "answered", 0, "", "", "{}", clock_.now()};
    if (message.failed) {
        result.state = "refused";
        result.reason = fmt::format("code {}: {}", message.failure_code, message.failure_reason);
        if (message.failure_reason.starts_with(kMissingTeacher)) {
            if (auto done = store_.forget_teachers(message.site); !done) return done;
            result.state = "away";  // asked again, with the teachers
        }
    } else {
        const auto file = update_file(message.site, message.round);
        if (message.phase == "train")
            if (auto made = make_folder(file.parent_path()); !made) return made;
        const auto metrics = read_reply(objects_, message.reply_id, message.phase, file);
        if (metrics) {
            result.metrics = metrics_json(*metrics);
            if (message.phase == "train") result.weights = file.string();
        } else if (metrics.error().kind == ErrorKind::Reject || metrics.error().kind == ErrorKind::Config) {
            result.state = "refused";
            result.reason = metrics.error().message;
        } else {
            return metrics.error();
        }
    }
    if (auto done = store_.finish(message, result); !done) return done;
    log_info("answer_taken", {{"site", message.site},
                              {"round", message.round},
                              {"phase", message.phase},
                              {"state", result.state},
                              {"reason", result.reason}});
    return {};
}

Result<bool> Rounds::everybody_answered(const RoundRow& round, const std::string& phase) {
    const auto now = clock_.now();
    const auto results = store_.results(round.round, phase);
    if (!results) return results.error();
    const auto answered =
        std::count_if(results->begin(), results->end(), [](const ResultRow& row) { return row.state == "answered"; });
    const bool enough = answered >= (phase == "train" ? settings_.aggregation.quorum : 1);
    std::set<std::string> known;
    for (const auto& row : *results) {
        known.insert(row.site);
        if (row.is_final()) continue;
        if (row.state != "away") return false;
        const bool waited = enough && seconds_between(row.since, now) > settings_.rounds.away_seconds;
        if (!waited && row.issues < settings_.rounds.most_issues) return false;
    }
    if (phase == "train") return !known.empty();
    const auto train = store_.results(round.round, "train");
    if (!train) return train.error();
    const double passed = settings_.evaluation.deadline_seconds - seconds_between(now, round.deadline);
    return std::all_of(train->begin(), train->end(), [&](const ResultRow& row) {
        return row.state != "answered" || known.contains(row.site) ||
               (enough && passed > settings_.rounds.away_seconds);
    });
}

/// Whoever has not answered is late from now on.
Result<void> Rounds::close_phase(const RoundRow& round, const std::string& phase) {
    const auto results = store_.results(round.round, phase);
    if (!results) return results.error();
    for (auto row : *results) {
        if (row.is_final() || row.state == "away") continue;
        row.state = "silent";
        row.reason = "no answer before the deadline";
        row.since = clock_.now();
        if (auto done = store_.put_result(row); !done) return done;
        log_warning("site_silent", {{"site", row.site}, {"round", round.round}, {"phase", phase}});
    }
    return store_.close_phase(round.round, phase);
}

}  // namespace cardionode::fed
