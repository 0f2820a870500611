#include "fedclient/round/round.h"

#include <algorithm>
#include <chrono>
#include <new>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "fedclient/round/consent.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;
constexpr int kTries = 3;              // of a step on this machine, before the round is declined
constexpr double kNeverFoundMm = 999;  // stands for infinitely far in a metric that is averaged

std::string short_id(const std::string& id) { return id.substr(0, 12); }

}  // namespace

Round::Round(const FederatedSettings& settings, RoundStore& store, Transport& transport, const RoundTools& tools,
             RoundHooks hooks, const Clock& clock)
    : settings_(settings),
      store_(store),
      transport_(transport),
      tools_(tools),
      hooks_(std::move(hooks)),
      clock_(clock) {}

double Round::now() const { return static_cast<double>(clock_.now().time_since_epoch().count()) / 1000; }

double Round::deadline(const MessageRow& row) const {
    const double own = row.incoming.created_at + row.incoming.ttl;
    return row.order.deadline > 0 ? std::min(row.order.deadline, own) : own;
}

fs::path Round::folder_of(const MessageRow& row) const { return settings_.state / "rounds" / row.key; }

Result<void> Round::move(MessageRow& row, RoundState state, const std::string& detail) {
    if (auto saved = store_.save(row, state, detail); !saved) return saved;
    if (hooks_.moved) hooks_.moved(row, detail);
    return {};
}

Result<void> Round::decline(MessageRow& row, const std::string& reason) {
    row.reason = reason;
    return move(row, RoundState::Declined, reason);
}

Result<void> Round::after_failure(MessageRow& row, const Error& error, const std::string& word) {
    switch (error.kind) {
        case ErrorKind::Config: return error;
        case ErrorKind::Retry:
            if (hooks_.stop && hooks_.stop()) return error;
            if (auto counted = store_.count_try(row); !counted) return counted;
            if (row.tries < kTries) return error;
            return decline(row, "fedclient:local_trouble");
        case ErrorKind::Bug: alarm_ = true; [[fallthrough]];
        case ErrorKind::Reject: break;
    }
    if (hooks_.print) hooks_.print(word + ": " + error.message);
    return decline(row, word);
}

Result<void> Round::work_on(MessageRow& row) {
    while (!is_over(row.state)) {
        if (hooks_.stop && hooks_.stop()) return retry_error("stopped");
        if (hooks_.dry_run && (row.state >= RoundState::Filtered ||
                               (row.incoming.type == "evaluate" && row.state == RoundState::Validated)))
            return {};
        const bool too_late = row.state != RoundState::Pushed && now() >= deadline(row);
        if (too_late) {
            row.reason = "the deadline had passed";
            if (auto ended = move(row, RoundState::Failed, row.reason); !ended) return ended;
            break;
        }
        Result<void> done;
        try {
            done = step(row);
        } catch (const std::bad_alloc&) {
            done = retry_error("not enough memory");
        } catch (const std::exception& e) {
            alarm_ = true;
            done = bug_error(std::string("in state ") + std::string(to_string(row.state)) + ": " + e.what());
        }
        if (!done) return done;
    }
    return {};
}

Result<void> Round::step(MessageRow& row) {
    switch (row.state) {
        case RoundState::Pulled: return fetch(row);
        case RoundState::Fetched: return check(row);
        case RoundState::Checked: return validate(row);
        case RoundState::Validated: return row.incoming.type == "evaluate" ? prepare(row) : train(row);
        case RoundState::Trained: return filter(row);
        case RoundState::Filtered: return book(row);
        case RoundState::Booked:
        case RoundState::Declined: return prepare(row);
        case RoundState::Prepared: return push(row);
        case RoundState::Pushed: return receive(row);
        case RoundState::Taken:
        case RoundState::Refused:
        case RoundState::Failed: break;
    }
    return {};
}

Result<void> Round::fetch(MessageRow& row) {
    if (row.incoming.type != "train" && row.incoming.type != "evaluate")
        return decline(row, "fedclient:unsupported_message");
    const TransferTotals before = transport_.totals();
    const auto began = std::chrono::steady_clock::now();
    auto pulled = transport_.fetch(row.incoming);
    if (!pulled) {
        if (pulled.error().kind != ErrorKind::Reject) return std::move(pulled).error();
        if (hooks_.print) hooks_.print("the message: " + pulled.error().message);
        return decline(row, "fedclient:bad_objects");
    }
    row.fetch_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    row.bytes_received = static_cast<std::int64_t>(transport_.totals().bytes_received - before.bytes_received);
    auto order = read_order(row.incoming, *pulled);
    if (!order) return decline(row, order.error().message);
    row.order = *std::move(order);
    for (const auto& [name, arrays] : pulled->arrays) {
        if (name == "arrays") row.weights = arrays.weights, row.record_id = arrays.record_id;
        else row.teachers[name.substr(std::string_view("teacher/").size())] = arrays;
    }
    for (const auto& [head, record] : row.order.teacher_records) {
        if (row.teachers.contains(head)) continue;
        const fs::path kept = settings_.state / "teachers" / (record + ".safetensors");
        std::error_code no_matter;
        if (!fs::exists(kept, no_matter)) return decline(row, "fedclient:teacher_missing: " + head);
        row.teachers[head] = {kept, record};
    }
    row.key = round_key(row.incoming, row.order, row.record_id);
    return move(row, RoundState::Fetched,
                fmt::format("model {}, round {}, weights {}", row.order.plan.model_id, row.order.plan.round,
                            short_id(row.record_id)));
}

Result<void> Round::check(MessageRow& row) {
    const RoundPlan& plan = row.order.plan;
    const ModelSettings* model = settings_.model(plan.model_id);
    if (model == nullptr) return decline(row, "fedclient:unknown_model");
    if (row.incoming.type == "train") {
        if (auto bounds = within_bounds(row.order, settings_); !bounds) return decline(row, bounds.error().message);
    }
    auto recipe = local_recipe(settings_, *model);
    if (!recipe) return std::move(recipe).error();
    auto own = tools_.architecture_hash(*recipe);
    if (!own) return std::move(own).error();
    if (*own != row.order.architecture) return decline(row, "fedclient:other_architecture");

    const auto signed_by_consortium = [&](const std::string& id, const std::string& record, const std::string& text) {
        return tools_.verify(id, plan.round, record, text);
    };
    if (auto good = signed_by_consortium(plan.model_id, row.record_id, row.order.signature); !good) {
        if (good.error().kind != ErrorKind::Reject) return good;
        return decline(row, "fedclient:bad_signature");
    }
    for (const auto& [head, teacher] : row.teachers) {
        auto good = signed_by_consortium(plan.model_id + "/teacher/" + head, teacher.record_id,
                                         row.order.teacher_signatures[head]);
        if (!good && good.error().kind != ErrorKind::Reject) return good;
        if (!good) return decline(row, "fedclient:bad_signature");
        const fs::path kept = settings_.state / "teachers" / (teacher.record_id + ".safetensors");
        if (auto made = make_folder(kept.parent_path()); !made) return made;
        if (auto copy = keep_copy(teacher.weights, kept); !copy) return copy;
    }
    // The round is known to be genuine from here on: an earlier result of it may be repeated.
    auto earlier = store_.result_for(row.key);
    if (!earlier) return std::move(earlier).error();
    std::error_code no_matter;
    if (*earlier && (*earlier)->incoming.message_id != row.incoming.message_id &&
        fs::exists((*earlier)->update, no_matter)) {
        const MessageRow& e = **earlier;
        row.before = e.before, row.after = e.after;
        row.trained = e.trained, row.labelled = e.labelled, row.unlabelled = e.unlabelled;
        row.patients = e.patients, row.steps = e.steps, row.loss = e.loss, row.train_seconds = e.train_seconds;
        row.update = e.update, row.update_sha256 = e.update_sha256, row.update_bytes = e.update_bytes;
        row.norm_before = e.norm_before, row.norm_after = e.norm_after, row.withheld = e.withheld;
        row.noised = e.noised, row.booked_multiplier = e.booked_multiplier;
        row.answered_from = e.answered_from.empty() ? e.incoming.message_id : e.answered_from;
        return move(row, RoundState::Filtered, "the result of an earlier message of this round is sent again");
    }
    return move(row, RoundState::Checked, "contract, signature and architecture hold");
}

Result<void> Round::require_consent() const {
    auto consent = consent_state(settings_);
    if (!consent) return std::move(consent).error();
    if (*consent == ConsentState::Given) return {};
    return config_error("nobody has agreed to what would be sent: `cardionode fed consent`");
}

Result<void> Round::book(MessageRow& row) {
    if (auto consent = require_consent(); !consent) return consent;
    Booking booking;
    booking.model_id = row.order.plan.model_id;
    // The same bytes that leave once more tell nobody anything new.
    booking.message_id = row.answered_from.empty() ? row.incoming.message_id : row.answered_from;
    booking.round = row.order.plan.round;
    booking.noise_multiplier = row.booked_multiplier;
    booking.sha256 = row.update_sha256;
    booking.at = to_iso8601(clock_.now());
    for (const auto& [head, count] : row.labelled) booking.counts[head] = tools_.sent_count(count);
    booking.counts["unlabelled"] = tools_.sent_count(row.unlabelled);
    booking.report.norm_before = row.norm_before, booking.report.norm_after = row.norm_after;
    booking.report.withheld = row.withheld, booking.report.noised = row.noised;
    if (auto booked = tools_.book(booking); !booked) {
        if (booked.error().kind != ErrorKind::Reject) return booked;
        row.update.clear();  // never to be sent, by no later message either
        return decline(row, "fedclient:privacy_budget");
    }
    return move(row, RoundState::Booked, "in the privacy ledger");
}

Result<Reply> Round::reply_of(const MessageRow& row) const {
    Reply reply;
    Record facts = {{"fed-schema", kFedSchema},
                    {"model-id", row.order.plan.model_id},
                    {"round", row.order.plan.round},
                    {"base-model", row.record_id}};
    if (row.state == RoundState::Declined) {
        reply.failure = Reply::Failure{2, row.reason};
        return reply;
    }
    const ModelSettings* model = settings_.model(row.order.plan.model_id);
    if (model == nullptr) return config_error("the model of an open round is not in the settings any more");
    if (row.incoming.type == "evaluate") {
        reply.metrics["num-examples"] = row.before->studies;
        for (const auto& [head, dice] : row.before->dice) reply.metrics["dice/" + head] = dice;
        for (const auto& [head, dice] : row.before->dice) reply.metrics["before/" + head] = dice;
        for (const auto& [head, mm] : row.before->point_mm)
            reply.metrics["point-mm/" + head] = std::min(mm, kNeverFoundMm);
        reply.configs["facts"] = facts;
        return reply;
    }
    auto heads = heads_of(*model);
    if (!heads) return std::move(heads).error();
    reply.weights = row.update;
    std::int64_t most = 0;
    for (const std::string& head : *heads) {  // the same keys at every hospital
        const auto found = row.labelled.find(head);
        const std::int64_t count = found == row.labelled.end() ? 0 : found->second;
        most = std::max(most, count);
        reply.metrics["n/" + head] = tools_.sent_count(count);
    }
    reply.metrics["n/unlabelled"] = tools_.sent_count(row.unlabelled);
    reply.metrics["num-examples"] = std::max<std::int64_t>(1, tools_.sent_count(most + row.unlabelled));
    reply.metrics["loss"] = row.loss;
    reply.metrics["steps"] = row.steps;
    facts["update-sha256"] = row.update_sha256;
    facts["noised"] = row.noised;
    for (const auto& [side, validation] : {std::pair{"before", &row.before}, std::pair{"after", &row.after}}) {
        if (!*validation) continue;
        for (const auto& [head, dice] : (*validation)->dice) {
            facts[fmt::format("dice-{}/{}", side, head)] = dice;
            reply.metrics[fmt::format("{}/{}", side, head)] = dice;
        }
        for (const auto& [head, mm] : (*validation)->point_mm)
            facts[fmt::format("point-mm-{}/{}", side, head)] = std::min(mm, kNeverFoundMm);
    }
    reply.configs["facts"] = facts;
    return reply;
}

Result<void> Round::prepare(MessageRow& row) {
    auto reply = reply_of(row);
    if (!reply) return std::move(reply).error();
    auto id = transport_.prepare(row.incoming, *reply);
    if (!id) {
        if (id.error().kind != ErrorKind::Reject) return std::move(id).error();
        row.reason = "the reply could not be made: " + id.error().message;
        return move(row, RoundState::Failed, row.reason);
    }
    row.reply_id = *id;
    return move(row, RoundState::Prepared, "reply " + short_id(*id));
}

Result<void> Round::push(MessageRow& row) {
    if (auto consent = require_consent(); !consent) return consent;
    const auto sent = transport_.totals().bytes_sent;
    auto outcome = transport_.push(row.incoming);
    if (!outcome && outcome.error().kind != ErrorKind::Reject) return std::move(outcome).error();
    row.bytes_sent += static_cast<std::int64_t>(transport_.totals().bytes_sent - sent);
    if (outcome && *outcome == PushOutcome::Stored) return move(row, RoundState::Pushed, "the server has the reply");
    if (row.reason.empty())
        row.reason = outcome ? "the server wants this reply no more (late, answered, or the run is over)"
                             : outcome.error().message;
    return move(row, RoundState::Refused, row.reason);
}

Result<void> Round::receive(MessageRow& row) {
    while (true) {
        auto receipt = transport_.receipt(row.incoming);
        if (!receipt && receipt.error().kind != ErrorKind::Reject) return std::move(receipt).error();
        if (receipt && *receipt == Receipt::Taken) return move(row, RoundState::Taken, "the server took the reply");
        const bool over = !receipt || *receipt == Receipt::RunOver;
        if (over || now() >= deadline(row)) {
            row.reason = over ? "the run ended before the reply was taken" : "the reply was not taken in time";
            return move(row, RoundState::Failed, row.reason);
        }
        if (hooks_.stop && hooks_.stop()) return retry_error("stopped while the reply waits to be taken");
        if (clock_.now() >= hooks_.end_of_window) return retry_error("the night ends while the reply waits");
        hooks_.pause(Milliseconds(static_cast<std::int64_t>(settings_.transport.poll_seconds * 1000)));
    }
}

}  // namespace cardionode::fed
