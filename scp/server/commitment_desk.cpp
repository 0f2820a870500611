#include "scp/server/commitment_desk.h"

#include <algorithm>

#include "conf/base/log.h"
#include "scp/server/reporter.h"

namespace cardionode {
namespace {

constexpr std::chrono::milliseconds kIdle{1'000};    // a scanner that has not released by then waits for the report
constexpr std::chrono::milliseconds kLease{30'000};  // of a request while its association is open
constexpr std::size_t kMostWaiting = 64;             // reports owed on one association

std::vector<InstanceReference> for_queue(const std::vector<SopReference>& references) {
    std::vector<InstanceReference> out;
    out.reserve(references.size());
    for (const SopReference& r : references) out.push_back({r.sop_class_uid, r.sop_instance_uid, r.reason});
    return out;
}

}  // namespace

Result<std::optional<CommitmentReport>> report_for(const OwedCommitment& owed, Queue& queue, const IndexPasses& passes,
                                                   std::uint64_t pass) {
    CommitmentReport report;
    report.data.transaction_uid = owed.request.transaction_uid;
    const bool indexed = passes.reached(pass);  // before the look, so that nothing can be indexed in between
    auto checked = queue.check_stored(owed.request.references);
    if (!checked) return std::move(checked).error();
    for (const InstanceReference& reference : *checked) {
        SopReference told{reference.sop_class_uid, reference.sop_instance_uid, reference.reason};
        if (owed.duplicate) told.reason = failure_reason::kDuplicateTransaction;
        if (told.reason == failure_reason::kNoSuchInstance && !indexed) return std::optional<CommitmentReport>();
        (told.reason == failure_reason::kNone ? report.data.referenced : report.data.failed).push_back(std::move(told));
    }
    if (!report.data.failed.empty()) report.event_type = kCommitmentFailuresExist;
    return std::optional<CommitmentReport>(std::move(report));
}

CommittedInstances counts_of(const CommitmentReport& report) {
    return {static_cast<int>(report.data.referenced.size()), static_cast<int>(report.data.failed.size())};
}

void CommitmentDesk::open(const NodeSettings& settings, const IndexPasses& passes, AuditPeer peer,
                          std::string called_ae_title, bool may_ask, CommitmentWatch watch) {
    settings_ = &settings;
    passes_ = &passes;
    peer_ = std::move(peer);
    watch_ = std::move(watch);
    called_ae_title_ = std::move(called_ae_title);
    may_ask_ = may_ask;
}

Result<Queue*> CommitmentDesk::queue() {
    if (!queue_) {
        auto opened = Queue::open(settings_->node.database);
        if (!opened) return std::move(opened).error();
        queue_.emplace(std::move(opened).value());
    }
    return &*queue_;
}

std::optional<CommitmentDesk::Outcome> CommitmentDesk::refuse(const Command& command) {
    auto refusal = refusal_of(command);
    if (refusal && command.field == command_field::kActionRequest) watch_.refused();
    return refusal;
}

std::optional<CommitmentDesk::Outcome> CommitmentDesk::refusal_of(const Command& command) const {
    const bool action = command.field == command_field::kActionRequest;
    if (!action && command.field != command_field::kEventReportRequest)
        return Outcome{status::kUnrecognizedOperation, {}};
    if (command.sop_class_uid != kStorageCommitmentClass)
        return Outcome{status::kNoSuchClass, "the SOP class is not that of the presentation context"};
    if (command.sop_instance_uid != kStorageCommitmentInstance)
        return Outcome{status::kNoSuchInstance, "not the well-known instance"};
    if (action && command.type_id != kRequestStorageCommitment)
        return Outcome{status::kNoSuchAction, "not Request Storage Commitment"};
    if (action && !may_ask_) return Outcome{status::kNotAuthorized, "no storage commitment for this peer"};
    if (!action && command.type_id != kCommitmentSuccessful && command.type_id != kCommitmentFailuresExist)
        return Outcome{status::kNoSuchEventType, {}};
    if (!command.has_data_set) return Outcome{status::kInvalidArgument, "there is no data set"};
    return std::nullopt;
}

CommitmentDesk::Outcome CommitmentDesk::take(const Command& command, std::uint8_t context_id, Encoding encoding,
                                             std::span<const std::byte> bytes) {
    auto data = parse_commitment(encoding, bytes);
    if (command.field != command_field::kActionRequest)
        return data ? take_report(*data) : Outcome{status::kInvalidArgument, data.error().message};
    Outcome outcome =
        data ? take_request(context_id, encoding, *data) : Outcome{status::kInvalidArgument, data.error().message};
    outcome.status == status::kSuccess ? watch_.requested() : watch_.refused();
    return outcome;
}

CommitmentDesk::Outcome CommitmentDesk::take_request(std::uint8_t context_id, Encoding encoding,
                                                     const CommitmentData& data) {
    if (data.referenced.empty()) return {status::kInvalidArgument, "no instance is referenced"};
    const auto failed = [](const Error& error) -> Outcome {
        log_error("commitment_request_not_stored", {{"reason", error.message}});
        return {error.kind == ErrorKind::Retry ? status::kResourceLimitation : status::kProcessingFailure,
                "the request cannot be stored"};
    };
    auto queue = this->queue();
    if (!queue) return failed(queue.error());
    // An instance that is only in a segment yet is found once the indexer has passed: so from here on is early enough.
    const std::uint64_t pass = passes_->next();
    auto owed = (*queue)->owe_commitment(
        {peer_.ae_title, called_ae_title_, data.transaction_uid, for_queue(data.referenced)}, kLease);
    if (!owed) return failed(owed.error());
    log_info("commitment_requested",
             {{"calling", peer_.ae_title}, {"instances", data.referenced.size()}, {"duplicate", owed->duplicate}});
    std::erase_if(waiting_, [&](const Waiting& w) { return w.owed.id == owed->id; });  // asked twice: reported once
    if (waiting_.size() == kMostWaiting) {
        if (auto released = (*queue)->release_owed_commitment(*owed); !released) return failed(released.error());
        return {};
    }
    waiting_.push_back({std::move(owed).value(), context_id, encoding, pass,
                        std::chrono::steady_clock::now() + kLease / 2, std::nullopt});
    return {};
}

CommitmentDesk::Outcome CommitmentDesk::take_report(const CommitmentData& data) {
    auto queue = this->queue();
    auto outcome = queue
                       ? (*queue)->commitment_answered(
                             peer_.ae_title, {data.transaction_uid, for_queue(data.referenced), for_queue(data.failed)})
                       : Result<AnswerOutcome>(std::move(queue).error());
    if (!outcome) {
        log_error("commitment_report_not_stored", {{"calling", peer_.ae_title}, {"reason", outcome.error().message}});
        return {status::kProcessingFailure, "the report cannot be stored"};
    }
    const bool known = *outcome == AnswerOutcome::Taken;
    watch_.answered(peer_, {static_cast<int>(data.referenced.size()), static_cast<int>(data.failed.size())}, known);
    log_event(known && data.failed.empty() ? LogLevel::Info : LogLevel::Warning, "commitment_answered",
              {{"calling", peer_.ae_title},
               {"committed", data.referenced.size()},
               {"failed", data.failed.size()},
               {"known", known}});
    if (!known) return {status::kInvalidArgument, "no such transaction"};
    return {};
}

/// false: somebody else has it now.
bool CommitmentDesk::hold(Waiting& waiting) {
    const auto now = std::chrono::steady_clock::now();
    if (now < waiting.held_until) return true;
    auto held = queue_->hold_owed_commitment(waiting.owed, kLease);
    if (!held) {  // busy: the lease is long enough for another try
        log_warning("commitment_lease_not_renewed", {{"reason", held.error().message}});
        return true;
    }
    waiting.held_until = now + kLease / 2;
    return *held;
}

std::optional<CommitmentDesk::Outgoing> CommitmentDesk::next_report(std::chrono::milliseconds idle) {
    std::erase_if(waiting_, [this](Waiting& waiting) { return !hold(waiting); });
    if (idle < kIdle) return std::nullopt;
    // One at a time: without negotiated asynchronous operations the peer answers before it takes another.
    if (std::ranges::any_of(waiting_, [](const Waiting& w) { return w.sent_as.has_value(); })) return std::nullopt;
    for (Waiting& waiting : waiting_) {
        auto report = report_for(waiting.owed, *queue_, *passes_, waiting.pass);
        if (!report) {
            log_warning("commitment_not_decided", {{"reason", report.error().message}});
            continue;
        }
        if (!*report) continue;
        waiting.sent_as = next_message_id_++;
        waiting.told = counts_of(**report);
        return Outgoing{waiting.context_id, write_report_command(*waiting.sent_as, (*report)->event_type),
                        write_commitment(waiting.encoding, (*report)->data)};
    }
    return std::nullopt;
}

bool CommitmentDesk::take_response(const Command& response) {
    if (response.field != (command_field::kEventReportRequest | command_field::kResponseBit)) return false;
    const auto found =
        std::ranges::find_if(waiting_, [&](const Waiting& w) { return w.sent_as == response.message_id; });
    if (found == waiting_.end()) return false;
    const Waiting waiting = std::move(*found);
    waiting_.erase(found);
    note_report_response(*queue_, watch_, {waiting.owed, peer_, waiting.told, "on its own association"},
                         response.status);
    return true;
}

void CommitmentDesk::close() {
    for (const Waiting& waiting : waiting_) {
        auto released = queue_->release_owed_commitment(waiting.owed);
        if (!released)  // its lease ends by itself
            log_warning("commitment_not_released", {{"reason", released.error().message}});
    }
    waiting_.clear();
}

}  // namespace cardionode
