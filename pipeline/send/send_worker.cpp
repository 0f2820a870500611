#include "pipeline/send/send_worker.h"

#include <chrono>
#include <condition_variable>
#include <mutex>

#include <fmt/format.h>

#include "conf/base/log.h"
#include "pipeline/send/commit_scu.h"
#include "scp/dicom/tls.h"

namespace cardionode {
namespace {

RetryPolicy policy_of(const DestinationSettings& destination) {
    RetryPolicy policy;
    policy.first = std::chrono::seconds(destination.retry_first_seconds);
    policy.longest = std::chrono::seconds(destination.retry_longest_seconds);
    policy.max_attempts = 0;
    policy.give_up_after = std::chrono::hours(destination.give_up_hours);
    return policy;
}

}  // namespace

Result<SendWorker> SendWorker::create(SendWorkerOptions options, const Clock& clock) {
    if (const DestinationSettings& d = options.destination; d.tls) {
        if (auto usable = TlsContext::for_client(*d.tls, d.host, d.name); !usable) return std::move(usable).error();
    }
    auto queue = Queue::open(options.database, clock);
    if (!queue) return std::move(queue).error();
    const std::string name = "sender-" + options.destination.name;
    const auto taken = queue->take_over(name);
    if (!taken) return taken.error();
    if (*taken > 0) log_info("outputs_taken_over", {{"destination", options.destination.name}, {"outputs", *taken}});
    if (options.destination.commitment == "off") {
        // It may have been on before: what still waits for an answer is done.
        if (auto ended = queue->commitment_not_wanted(options.destination.name); !ended)
            return std::move(ended).error();
    }
    auto keeper = LeaseKeeper::start(options.database, options.lease / 4, clock);
    if (!keeper) return std::move(keeper).error();
    return SendWorker(std::move(options), std::move(*queue), std::move(*keeper), name);
}

SendWorker::SendWorker(SendWorkerOptions options, Queue queue, std::unique_ptr<LeaseKeeper> keeper, std::string name)
    : options_(std::move(options)), queue_(std::move(queue)), keeper_(std::move(keeper)), name_(std::move(name)) {}

Result<bool> SendWorker::send_next() {
    const DestinationSettings& destination = options_.destination;
    auto claimed = queue_.claim_output(name_, options_.lease, destination.name);
    if (!claimed) return std::move(claimed).error();
    if (!*claimed) return commits() ? commit_next() : Result<bool>(false);
    const ClaimedOutput claim = std::move(**claimed);

    keeper_->hold([claim, lease = options_.lease](Queue& queue) { return queue.renew_output(claim, lease); });
    log_info("stage_started", {{"study", claim.study_key},
                               {"stage", "send"},
                               {"kind", claim.output.kind},
                               {"destination", destination.name}});
    const auto start = std::chrono::steady_clock::now();
    const auto sent =
        store_output(options_.work_folder / claim.output.file, claim.output, destination, options_.timeouts);
    keeper_->release();
    if (options_.observe) options_.observe(claim, sent);
    const std::string seconds =
        fmt::format("{:.2f}", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());

    if (sent) {
        log_info("output_sent", {{"study", claim.study_key},
                                 {"revision", claim.revision},
                                 {"kind", claim.output.kind},
                                 {"destination", destination.name},
                                 {"seconds", seconds},
                                 {"note", *sent}});
        const auto stored = queue_.output_sent(claim, *sent, commits());
        if (!stored) return stored.error();
        if (!*stored) log_warning("output_lease_lost", {{"study", claim.study_key}, {"destination", destination.name}});
        return true;
    }
    const bool parked = sent.error().kind != ErrorKind::Retry;
    log_event(parked ? LogLevel::Error : LogLevel::Warning, parked ? "output_set_aside" : "output_not_sent",
              {{"study", claim.study_key},
               {"revision", claim.revision},
               {"kind", claim.output.kind},
               {"destination", destination.name},
               {"attempt", claim.attempt},
               {"seconds", seconds},
               {"why", sent.error().message}});
    const auto stored = queue_.output_failed(claim, sent.error(), policy_of(destination));
    if (!stored) return stored.error();
    return true;
}

Result<bool> SendWorker::commit_next() {
    const DestinationSettings& destination = options_.destination;
    auto asked =
        queue_.ask_commitment(destination.name, destination.ae_title, new_transaction_uid(),
                              std::chrono::seconds(destination.commitment_wait_seconds), policy_of(destination));
    if (!asked) return std::move(asked).error();
    if (!*asked) return false;
    const CommitmentAsk& ask = **asked;
    const auto take = [&](const CommitmentAnswer& answer) -> Result<AnswerOutcome> {
        auto outcome = queue_.commitment_answered(destination.ae_title, answer);
        if (!outcome) return outcome;
        log_event(answer.failed.empty() ? LogLevel::Info : LogLevel::Warning, "commitment_answered",
                  {{"destination", destination.name},
                   {"committed", answer.committed.size()},
                   {"failed", answer.failed.size()},
                   {"known", *outcome == AnswerOutcome::Taken}});
        if (options_.committed && *outcome == AnswerOutcome::Taken) options_.committed(answer);
        return outcome;
    };
    const auto done =
        request_commitment(ask, destination, options_.timeouts, take, [this] { return stop_.stop_requested(); });
    if (!done) {
        const bool parked = done.error().kind != ErrorKind::Retry;
        log_event(parked ? LogLevel::Error : LogLevel::Warning, "commitment_not_asked",
                  {{"study", ask.study_key},
                   {"destination", destination.name},
                   {"attempt", ask.attempt},
                   {"why", done.error().message}});
        const auto noted = queue_.commitment_not_asked(ask, done.error());
        if (!noted) return noted.error();
        return true;
    }
    if (!done->offered) {
        log_info("commitment_not_offered",
                 {{"study", ask.study_key}, {"destination", destination.name}, {"why", done->why}});
        const auto noted = queue_.commitment_not_offered(ask, done->why);
        if (!noted) return noted.error();
        return true;
    }
    log_info("commitment_asked", {{"study", ask.study_key},
                                  {"destination", destination.name},
                                  {"outputs", ask.outputs.size()},
                                  {"attempt", ask.attempt},
                                  {"answered", done->answered}});
    return true;
}

void SendWorker::run(const std::stop_token& stop) {
    stop_ = stop;
    std::mutex mutex;
    std::condition_variable_any never;
    while (!stop.stop_requested()) {
        if (options_.alive) options_.alive();
        Result<bool> worked = true;
        try {
            worked = send_next();
        } catch (const std::exception& e) {  // the top of this thread: nothing may end the sending of the rest
            worked = bug_error(e.what());
        }
        if (!worked) {
            log_error("sender_trouble", {{"destination", options_.destination.name},
                                         {"kind", to_string(worked.error().kind)},
                                         {"why", worked.error().message}});
        }
        if (worked && *worked) continue;
        std::unique_lock lock(mutex);
        never.wait_for(lock, stop, options_.poll, [] { return false; });
    }
}

}  // namespace cardionode
