#include "pipeline/runner/study_worker.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <optional>

#include <fmt/format.h>

#include "conf/base/log.h"
#include "pipeline/runner/report.h"

namespace cardionode {
namespace {

constexpr const char* kName = "analyser";

Milliseconds lease_of(const PipelineSettings& settings) { return std::chrono::seconds(settings.lease_seconds); }

RetryPolicy policy_of(const PipelineSettings& settings) {
    RetryPolicy policy;
    policy.first = std::chrono::seconds(settings.retry_first_seconds);
    policy.longest = std::chrono::seconds(settings.retry_longest_seconds);
    policy.max_attempts = settings.max_attempts;
    return policy;
}

/// The top of a study: what is thrown below ends here as an error of this study.
template <class Work>
Result<Analysis> guarded(Work&& work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return retry_error("not enough memory");
    } catch (const std::exception& e) {
        return bug_error(e.what());
    } catch (...) {
        return bug_error("something that is no exception of the standard library was thrown");
    }
}

}  // namespace

Result<StudyWorker> StudyWorker::create(StudyWorkerOptions options, Model model, const Clock& clock) {
    auto queue = Queue::open(options.database, clock);
    if (!queue) return std::move(queue).error();
    const auto taken = queue->take_over(kName);
    if (!taken) return taken.error();
    if (*taken > 0) log_warning("studies_taken_over", {{"studies", *taken}});
    auto keeper = LeaseKeeper::start(options.database, lease_of(options.pipeline) / 4, clock);
    if (!keeper) return std::move(keeper).error();
    return StudyWorker(std::move(options), std::move(model), std::move(*queue), std::move(*keeper));
}

StudyWorker::StudyWorker(StudyWorkerOptions options, Model model, Queue queue, std::unique_ptr<LeaseKeeper> keeper)
    : options_(std::move(options)), model_(std::move(model)), queue_(std::move(queue)), keeper_(std::move(keeper)) {}

void StudyWorker::sign_of_life() const {
    if (options_.alive) options_.alive();
}

Result<StudyInput> StudyWorker::input_of(const ClaimedStudy& claim) {
    const auto row = queue_.study(claim.study_key);
    if (!row) return row.error();
    if (!*row) return bug_error("the study that was claimed is not in the queue");
    StudyInput input;
    input.study_key = claim.study_key;
    input.revision = claim.revision;
    // A new instance makes a new revision, so this is the same moment for every run of this one.
    input.moment = (*row)->last_received;
    for (const InstanceRow& instance : claim.instances) {
        input.files.push_back({options_.spool / instance.file, instance.sop_class_uid, instance.modality});
    }
    if (const int same_uid = claim.conflicts - claim.other_patient; same_uid > 0) {
        input.warnings.push_back(
            fmt::format("{} images were left out: another image with the same identity came first", same_uid));
    }
    if (claim.other_patient > 0) {
        input.warnings.push_back(fmt::format(
            "{} images were left out: their Patient ID is not that of the study's first image", claim.other_patient));
    }
    return input;
}

Result<bool> StudyWorker::work_next(const std::stop_token& stop) {
    auto claimed = queue_.claim_study(kName, lease_of(options_.pipeline), options_.pipeline.max_attempts);
    if (!claimed) return std::move(claimed).error();
    if (!*claimed) return false;
    const ClaimedStudy claim = std::move(**claimed);
    log_info("study_claimed", {{"study", claim.study_key},
                               {"revision", claim.revision},
                               {"attempt", claim.attempt},
                               {"instances", claim.instances.size()}});

    keeper_->hold(
        [claim, lease = lease_of(options_.pipeline)](Queue& queue) { return queue.renew_study(claim, lease); });
    const auto analysis = guarded([&]() -> Result<Analysis> {
        const auto input = input_of(claim);
        if (!input) return input.error();
        return analyse(*input, options_.analysis, options_.manifest, model_, [&] {
            sign_of_life();
            return stop.stop_requested() || keeper_->lost();
        });
    });
    keeper_->release();
    if (keeper_->lost()) {
        log_warning("study_lost", {{"study", claim.study_key}, {"why", "a late image, or another worker has it"}});
        return true;
    }
    const auto stored = store(claim, analysis, stop.stop_requested());
    if (!stored) return stored.error();
    return true;
}

Result<void> StudyWorker::store(const ClaimedStudy& claim, const Result<Analysis>& analysis, bool stopping) {
    Result<bool> held = true;
    std::optional<Error> stop_with;
    if (analysis) {
        const std::string summary = summary_of(*analysis);
        held = queue_.finish_study(claim, {summary, to_json(*analysis, options_.analysis.work_folder)},
                                   analysis->outputs.files, options_.destinations);
        if (!held && held.error().kind == ErrorKind::Bug) {
            log_error("study_not_stored", {{"study", claim.study_key}, {"why", held.error().message}});
            held = queue_.fail_study(claim, held.error(), policy_of(options_.pipeline));
        } else if (held && *held) {
            log_info("study_done",
                     {{"study", claim.study_key},
                      {"revision", claim.revision},
                      {"summary", summary},
                      {"overview", (options_.analysis.work_folder / analysis->outputs.overview).string()}});
        }
    } else if (const Error& error = analysis.error(); error.kind == ErrorKind::Config) {
        // Every other study would meet the same: it goes back untouched, and the program stops.
        log_error("installation_wrong", {{"study", claim.study_key}, {"why", error.message}});
        held = queue_.release_study(claim);
        stop_with = error;
    } else if (error.kind == ErrorKind::Retry && stopping) {
        log_info("study_given_back", {{"study", claim.study_key}});
        held = queue_.release_study(claim);
    } else {
        log_event(error.kind == ErrorKind::Bug ? LogLevel::Error : LogLevel::Warning, "study_failed",
                  {{"study", claim.study_key},
                   {"revision", claim.revision},
                   {"attempt", claim.attempt},
                   {"kind", to_string(error.kind)},
                   {"why", error.message}});
        held = queue_.fail_study(claim, error, policy_of(options_.pipeline));
    }
    if (!held) return held.error();
    if (!*held)
        log_warning("study_lost", {{"study", claim.study_key}, {"why", "a late image, or another worker has it"}});
    if (*held && options_.observe) options_.observe(analysis);
    if (stop_with) return *std::move(stop_with);
    return {};
}

Result<void> StudyWorker::run(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    const auto poll =
        std::chrono::duration_cast<Milliseconds>(std::chrono::duration<double>(options_.pipeline.poll_seconds));
    while (!stop.stop_requested()) {
        sign_of_life();
        Result<bool> worked = true;
        try {
            worked = work_next(stop);
        } catch (const std::exception& e) {
            worked = bug_error(e.what());
        }
        if (!worked && worked.error().kind == ErrorKind::Config) return std::move(worked).error();
        if (!worked) {
            log_error("analyser_trouble", {{"kind", to_string(worked.error().kind)}, {"why", worked.error().message}});
        }
        if (worked && *worked) continue;
        std::unique_lock lock(mutex);
        never.wait_for(lock, stop, poll, [] { return false; });
    }
    return {};
}

}  // namespace cardionode
