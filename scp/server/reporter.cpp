#include "scp/server/reporter.h"

#include <chrono>
#include <thread>

#include <fmt/format.h>

#include "conf/base/log.h"
#include "scp/dicom/commitment.h"
#include "scp/dicom/requestor.h"
#include "scp/server/commitment_desk.h"

namespace cardionode {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kPoll{500};
constexpr milliseconds kLook{50};        // for the indexer
constexpr seconds kIndexerTime{60};      // longer: tried again later
constexpr milliseconds kLease{300'000};  // longer than one try can take
constexpr std::uint16_t kMessageId = 1;
constexpr std::string_view kExplicitLittle = "1.2.840.10008.1.2.1";

RetryPolicy policy() {
    RetryPolicy policy;
    policy.first = seconds(10);
    policy.longest = seconds(3600);
    policy.max_attempts = 0;
    policy.give_up_after = std::chrono::hours(72);
    return policy;
}

void note_failure(Queue& queue, CommitmentWatch& watch, const OwedCommitment& owed, const Error& error) {
    watch.not_reported();
    log_warning("commitment_not_reported",
                {{"calling", owed.request.calling_ae_title}, {"attempt", owed.attempt + 1}, {"reason", error.message}});
    auto noted = queue.commitment_not_reported(owed, error, policy());
    if (!noted) log_error("commitment_not_noted", {{"reason", noted.error().message}});
}

class Reporter {
public:
    Reporter(const NodeSettings& settings, const IndexPasses& passes, CommitmentWatch& watch,
             const std::function<bool()>& stop, Queue& queue)
        : settings_(&settings), passes_(&passes), watch_(&watch), stop_(&stop), queue_(&queue) {}

    /// false: nothing was due.
    Result<bool> next() {
        auto owed = queue_->claim_owed_commitment(kLease);
        if (!owed) return std::move(owed).error();
        if (!*owed) return false;
        CommittedInstances told;
        auto status = report(**owed, told);
        if (status)
            note_report_response(*queue_, *watch_, {**owed, address_of(**owed), told, "on a new association"}, *status);
        else if ((*stop_)()) (void)queue_->release_owed_commitment(**owed);
        else note_failure(*queue_, *watch_, **owed, status.error());
        return true;
    }

private:
    const PeerSettings* peer(const std::string& ae_title) const {
        for (const PeerSettings& peer : settings_->scp.peers)
            if (peer.ae_title == ae_title && !peer.host.empty()) return &peer;
        return nullptr;
    }

    AuditPeer address_of(const OwedCommitment& owed) const {
        const PeerSettings* to = peer(owed.request.calling_ae_title);
        return {owed.request.calling_ae_title, to ? to->host : ""};
    }

    Result<CommitmentReport> decide(const OwedCommitment& owed) {
        const std::uint64_t pass = passes_->next();
        const auto until = std::chrono::steady_clock::now() + kIndexerTime;
        while (!(*stop_)() && std::chrono::steady_clock::now() < until) {
            auto report = report_for(owed, *queue_, *passes_, pass);
            if (!report) return std::move(report).error();
            if (*report) return **report;
            std::this_thread::sleep_for(kLook);
        }
        return retry_error("the indexer is behind");
    }

    /// The status that the peer answered, and what it was told.
    Result<std::uint16_t> report(const OwedCommitment& owed, CommittedInstances& told) {
        const PeerSettings* to = peer(owed.request.calling_ae_title);
        if (!to) return retry_error("scp.peers names no host for this peer, and it did not wait for the report");
        auto decided = decide(owed);
        if (!decided) return std::move(decided).error();
        told = counts_of(*decided);
        auto association = Requestor::open(options_for(*to, owed));
        if (!association) return std::move(association).error();
        auto answered = tell(*association, *decided);
        if (answered) association->release();
        else association->abort();
        return answered;
    }

    RequestorOptions options_for(const PeerSettings& to, const OwedCommitment& owed) const {
        RequestorOptions options;
        options.host = to.host;
        options.port = to.port;
        options.calling_ae_title = owed.request.called_ae_title;
        options.called_ae_title = owed.request.calling_ae_title;
        options.contexts = {
            {1, std::string(kStorageCommitmentClass), {std::string(kExplicitLittle), std::string(kImplicitLittle)}}};
        options.roles = {{std::string(kStorageCommitmentClass), false, true}};
        options.answer = seconds(settings_->scp.association_timeout_seconds);
        options.stop = *stop_;
        // A receiver that takes nothing in plain sends nothing in plain: it shows its certificate, and the peer's
        // counts by the same CA, by the pin that stands beside it or by its host.
        if (settings_->scp.tls.only)
            options.dial = dial_tls({settings_->scp.tls.files, {}, to.certificate_sha256}, to.ae_title);
        return options;
    }

    Result<std::uint16_t> tell(Requestor& association, const CommitmentReport& report) {
        const auto context = association.accepted(kStorageCommitmentClass);
        if (!context) return retry_error("the peer takes no reports: no presentation context was accepted");
        const Encoding encoding = find_transfer_syntax(context->transfer_syntax)->encoding;
        auto sent = association.send(context->id, write_report_command(kMessageId, report.event_type),
                                     write_commitment(encoding, report.data));
        if (!sent) return std::move(sent).error();
        auto answer = association.receive(seconds(settings_->scp.dimse_timeout_seconds));
        if (!answer) return std::move(answer).error();
        if (!*answer) return retry_error("no answer to the report");
        const Command& command = (*answer)->command;
        if (command.field != (command_field::kEventReportRequest | command_field::kResponseBit) ||
            command.message_id != kMessageId)
            return retry_error("the report was answered with something else");
        return command.status;
    }

    const NodeSettings* settings_;
    const IndexPasses* passes_;
    CommitmentWatch* watch_;
    const std::function<bool()>* stop_;
    Queue* queue_;
};

}  // namespace

std::vector<std::byte> write_report_command(std::uint16_t message_id, std::uint16_t event_type) {
    Command command;
    command.field = command_field::kEventReportRequest;
    command.message_id = message_id;
    command.sop_class_uid = kStorageCommitmentClass;
    command.sop_instance_uid = kStorageCommitmentInstance;
    command.type_id = event_type;
    return write_request(command);
}

void note_report_response(Queue& queue, CommitmentWatch& watch, const SentReport& sent, std::uint16_t status) {
    if (status != status::kSuccess)
        return note_failure(queue, watch, sent.owed,
                            retry_error(fmt::format("the peer refused the report (status 0x{:04X})", status)));
    log_info("commitment_reported", {{"calling", sent.owed.request.calling_ae_title},
                                     {"instances", sent.owed.request.references.size()},
                                     {"where", sent.where}});
    auto noted = queue.commitment_reported(sent.owed);
    if (!noted) log_error("commitment_not_noted", {{"reason", noted.error().message}});
    watch.reported(sent.peer, sent.told);
}

int report_commitments(const NodeSettings& settings, const IndexPasses& passes, CommitmentWatch watch,
                       const std::function<bool()>& stop) {
    auto queue = Queue::open(settings.node.database);
    if (!queue) {
        log_error("reporter_cannot_start", {{"reason", queue.error().message}});
        return queue.error().kind == ErrorKind::Config ? 2 : 1;
    }
    Reporter reporter(settings, passes, watch, stop, *queue);
    while (!stop()) {
        auto worked = reporter.next();
        if (!worked) {
            log_error("reporter_trouble",
                      {{"kind", to_string(worked.error().kind)}, {"reason", worked.error().message}});
            if (worked.error().kind != ErrorKind::Retry) return 1;
        }
        if (worked && *worked) continue;
        std::this_thread::sleep_for(kPoll);
    }
    return 0;
}

}  // namespace cardionode
