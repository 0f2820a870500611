// The steps of a round that happen on this machine alone: validation, training, filtering.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "fedclient/round/round.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;

std::string in_words(const Validation& v) {
    std::string text;
    for (const auto& [head, dice] : v.dice)
        text += fmt::format("{}{} Dice {:.3f}", text.empty() ? "" : ", ", head, dice);
    for (const auto& [head, mm] : v.point_mm) text += fmt::format("{}{} {:.2f} mm", text.empty() ? "" : ", ", head, mm);
    return fmt::format("{} ({} held-out studies)", text.empty() ? "nothing measured" : text, v.studies);
}

bool finite_numbers(const Validation& v) {
    return std::all_of(v.dice.begin(), v.dice.end(), [](const auto& d) { return std::isfinite(d.second); }) &&
           std::none_of(v.point_mm.begin(), v.point_mm.end(), [](const auto& p) { return std::isnan(p.second); });
}

}  // namespace

Result<void> keep_copy(const fs::path& from, const fs::path& to) {
    std::error_code error;
    if (fs::exists(to, error)) return {};
    const fs::path temporary = to.string() + ".part";
    fs::remove(temporary, error);
    fs::create_hard_link(from, temporary, error);
    if (error) {
        error.clear();
        fs::copy_file(from, temporary, fs::copy_options::overwrite_existing, error);
        if (error) return file_error("copying", from, error.value());
        const FileDescriptor copy(::open(temporary.c_str(), O_RDONLY | O_CLOEXEC));
        if (!copy.valid() || ::fsync(copy.get()) != 0) return file_error("syncing", temporary, errno);
    }
    fs::rename(temporary, to, error);
    if (error) return file_error("renaming to", to, error.value());
    return sync_folder(to.parent_path());
}

std::string worse_than(const Validation& before, const Validation& after, const ToleranceSettings& tolerance) {
    for (const auto& [head, was] : before.dice) {
        const auto is = after.dice.find(head);
        if (is != after.dice.end() && !(is->second >= was - tolerance.dice))
            return fmt::format("{} fell from Dice {:.3f} to {:.3f}", head, was, is->second);
    }
    for (const auto& [head, was] : before.point_mm) {
        const auto is = after.point_mm.find(head);
        if (is != after.point_mm.end() && !(is->second <= was + tolerance.point_mm))
            return fmt::format("{} went from {:.2f} to {:.2f} mm", head, was, is->second);
    }
    return {};
}

double Round::stop_training_at(const MessageRow& row) const {
    // Twice what the way in took for as many bytes (facts 5.2.6), and as long as the validation that still comes.
    std::error_code no_matter;
    const auto bytes = static_cast<double>(fs::file_size(row.weights, no_matter));
    const double rate = row.fetch_seconds > 0 ? static_cast<double>(row.bytes_received) / row.fetch_seconds : 0;
    const double upload = !no_matter && rate > 0 ? 2 * bytes / rate : 0;
    double end = deadline(row);
    if (hooks_.end_of_window != Moment::max())
        end = std::min(end, static_cast<double>(hooks_.end_of_window.time_since_epoch().count()) / 1000);
    return end - std::max(upload, static_cast<double>(settings_.window.upload_reserve_seconds));
}

Result<fs::path> Round::recipe_of(const MessageRow& row) const {
    const ModelSettings* model = settings_.model(row.order.plan.model_id);
    if (model == nullptr) return config_error("the model of an open round is not in the settings any more");
    return local_recipe(settings_, *model);
}

Result<void> Round::validate(MessageRow& row) {
    const RoundPlan& plan = row.order.plan;
    const ModelSettings& model = *settings_.model(plan.model_id);
    auto history = store_.accepted(plan.model_id);
    if (!history) return std::move(history).error();
    const auto known = std::find_if(history->begin(), history->end(),
                                    [&](const AcceptedModel& m) { return m.record_id == row.record_id; });
    AcceptedModel accepted;
    accepted.model_id = plan.model_id, accepted.record_id = row.record_id;
    accepted.version = row.incoming.type == "evaluate" ? plan.round : plan.round - 1;
    if (known == history->end()) {
        InboundHistory inbound;
        fs::path previous;
        for (const AcceptedModel& m : *history) {
            inbound.round = std::max(inbound.round.value_or(m.version), m.version);
            if (m.change_norm > 0) inbound.change_norms.push_back(m.change_norm);
            previous = m.weights;
        }
        auto reference = tools_.reference(model);
        if (!reference) return std::move(reference).error();
        auto norm = tools_.check_inbound(row.weights, *reference, previous, accepted.version, inbound);
        if (!norm) {
            if (hooks_.print) hooks_.print("the pulled weights: " + norm.error().message);
            if (norm.error().kind == ErrorKind::Reject) return decline(row, "fedclient:bad_weights");
            return after_failure(row, norm.error(), "fedclient:bad_weights");
        }
        accepted.change_norm = *norm;
    }
    auto recipe = local_recipe(settings_, model);
    if (!recipe) return std::move(recipe).error();
    auto validation = tools_.validate(*recipe, row.weights);
    if (!validation) return after_failure(row, validation.error(), "fedclient:no_holdout");
    row.before = *validation;
    if (validation->studies < settings_.data.minimum_holdout_studies) return decline(row, "fedclient:no_holdout");
    const AcceptedModel* last = nullptr;  // the newest other model that was accepted
    for (const AcceptedModel& m : *history) {
        if (m.record_id != row.record_id) last = &m;
    }
    if (!finite_numbers(*validation)) return decline(row, "fedclient:validation_drop");
    if (known == history->end() && last != nullptr) {
        const std::string worse = worse_than(last->validation, *validation, settings_.tolerance);
        if (!worse.empty()) return decline(row, "fedclient:validation_drop: " + worse);
    }
    // One that was accepted before is the newest once more: a server may have dropped the candidate in between.
    if (known != history->end()) accepted = *known;

    const fs::path folder = staged_folder(settings_, plan.model_id) /
                            fmt::format("{:06}-{}", accepted.version, row.record_id.substr(0, 16));
    if (auto made = make_folder(folder); !made) return made;
    accepted.weights = folder / "weights.safetensors";
    if (auto kept = keep_copy(row.weights, accepted.weights); !kept) return kept;
    accepted.validation = *validation;
    const std::string detail = in_words(*validation) + "; staged";
    if (auto saved = store_.save(row, RoundState::Validated, detail, accepted); !saved) return saved;
    if (hooks_.moved) hooks_.moved(row, detail);
    return {};
}

Result<void> Round::train(MessageRow& row) {
    auto recipe = recipe_of(row);
    if (!recipe) return std::move(recipe).error();
    LocalRound local;
    local.plan = row.order.plan;
    local.recipe = *recipe;
    local.pulled = row.weights;
    for (const auto& [head, teacher] : row.teachers) local.teachers[head] = teacher.weights;
    local.teacher_recipe = settings_.model(row.order.plan.model_id)->teacher_recipe;
    local.work = folder_of(row) / "work";
    local.device = settings_.compute.device;
    local.threads = settings_.compute.threads;
    local.print = hooks_.print;
    if (auto made = make_folder(local.work); !made) return made;
    const double until = stop_training_at(row);
    if (now() >= until) return decline(row, "fedclient:deadline");
    const auto clinic = [&] {
        return settings_.compute.pause_for_clinic && hooks_.clinic_busy && hooks_.clinic_busy();
    };
    const auto stop = [&] { return hooks_.stop && hooks_.stop(); };
    auto step_began = std::chrono::steady_clock::now();
    local.stop = [&] {
        const auto worked = std::chrono::steady_clock::now() - step_began;
        const int percent = settings_.compute.cpu_percent;
        if (percent < 100 && hooks_.pause)
            hooks_.pause(std::chrono::duration_cast<Milliseconds>(worked * (100 - percent) / percent));
        step_began = std::chrono::steady_clock::now();
        return stop() || clinic();
    };
    local.enough = [&] { return now() >= until; };
    while (true) {
        bool waited = false;
        while (clinic() && !stop() && now() < until) {  // at most as long as there is time to learn
            if (!waited && hooks_.print) hooks_.print("a study waits: training pauses");
            waited = true;
            hooks_.pause(Milliseconds(static_cast<std::int64_t>(settings_.compute.clinic_poll_seconds * 1000)));
        }
        if (stop()) return retry_error("stopped");
        step_began = std::chrono::steady_clock::now();
        auto result = tools_.train(local);
        if (!result) {
            if (result.error().kind == ErrorKind::Retry && !stop() && clinic()) continue;
            const bool lost = result.error().kind == ErrorKind::Bug;
            return after_failure(row, result.error(), lost ? "fedclient:not_finite" : "fedclient:nothing_to_learn");
        }
        row.trained = result->trained;
        row.labelled = result->labelled;
        row.unlabelled = result->unlabelled, row.patients = result->patients, row.steps = result->steps;
        row.loss = result->loss, row.train_seconds = result->seconds;
        row.after = result->after;
        if (!std::isfinite(result->loss)) {
            alarm_ = true;
            return decline(row, "fedclient:not_finite");
        }
        // Cut short so early that it is hardly more than what came.
        if (now() >= until && row.steps * 10 < row.order.plan.steps) return decline(row, "fedclient:deadline");
        return move(row, RoundState::Trained,
                    fmt::format("{} steps on {} patients in {:.0f} s; {}", row.steps, row.patients, row.train_seconds,
                                in_words(*row.after)));
    }
}

Result<void> Round::filter(MessageRow& row) {
    if (!finite_numbers(*row.after)) return decline(row, "fedclient:own_update_worse");
    if (const std::string worse = worse_than(*row.before, *row.after, settings_.tolerance); !worse.empty())
        return decline(row, "fedclient:own_update_worse: " + worse);
    std::vector<std::string> learned;
    for (const auto& [head, count] : row.labelled) {  // people's labels, and of a student its teachers'
        if (count > 0) learned.push_back(head);
    }
    const fs::path out = folder_of(row) / "update.safetensors";
    auto filtered = tools_.filter(row.weights, row.trained, learned, row.patients, out);
    if (!filtered) {
        if (filtered.error().kind == ErrorKind::Bug) alarm_ = true;
        return after_failure(row, filtered.error(), "fedclient:privacy_rule");
    }
    const OutboundReport& report = filtered->report;
    row.booked_multiplier = filtered->booked_multiplier;
    auto hash = sha256_of_file(out);
    if (!hash) return std::move(hash).error();
    std::error_code no_matter;
    row.update = out;
    row.update_sha256 = *hash;
    row.update_bytes = static_cast<std::int64_t>(fs::file_size(out, no_matter));
    row.norm_before = report.norm_before, row.norm_after = report.norm_after;
    row.withheld = report.withheld, row.noised = report.noised;
    return move(row, RoundState::Filtered,
                fmt::format("update {}, {} bytes, {} tensors withheld", hash->substr(0, 12), row.update_bytes,
                            row.withheld.size()));
}

}  // namespace cardionode::fed
