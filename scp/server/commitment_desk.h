// Storage commitment within one association: a scanner's requests (N-ACTION), which become durable before they are
// answered, their reports when the association is still open, and a PACS's reports about our outputs (N-EVENT-REPORT).
//
// PS3.4 J.3, PS3.7 10.1.1, 10.1.4. A report goes out on the scanner's own association only when that is idle for a
// moment: most scanners release at once and get it on a new association (reporter.h), where a host is set for them.
// Thread safety: belongs to the process of one association. It opens the queue with the first message.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conf/base/node_settings.h"
#include "scp/dicom/command.h"
#include "scp/dicom/commitment.h"
#include "scp/queue/queue.h"
#include "scp/server/commitment_watch.h"
#include "scp/server/shared_state.h"

namespace cardionode {

/// The data of the report to one request, and its Event Type ID.
struct CommitmentReport {
    std::uint16_t event_type = kCommitmentSuccessful;
    CommitmentData data;
};
/// What can be said now. none: an instance is not known, and the indexer has not reached `pass` yet.
/// Errors: as Queue::check_stored.
Result<std::optional<CommitmentReport>> report_for(const OwedCommitment& owed, Queue& queue, const IndexPasses& passes,
                                                   std::uint64_t pass);

CommittedInstances counts_of(const CommitmentReport& report);

class CommitmentDesk {
public:
    struct Outcome {
        std::uint16_t status = 0;
        std::string comment;
    };
    struct Outgoing {
        std::uint8_t context_id = 0;
        std::vector<std::byte> command;
        std::vector<std::byte> data;
    };

    void open(const NodeSettings& settings, const IndexPasses& passes, AuditPeer peer, std::string called_ae_title,
              bool may_ask, CommitmentWatch watch);

    /// Why a request is refused before its data set is looked at. none: take the data set.
    std::optional<Outcome> refuse(const Command& command);
    /// An N-ACTION or N-EVENT-REPORT with its data set.
    Outcome take(const Command& command, std::uint8_t context_id, Encoding encoding, std::span<const std::byte> data);

    /// A report is owed on this association.
    bool owes() const { return !waiting_.empty(); }
    /// One report to send now, if it can be said already. @param idle  since the peer's last word
    std::optional<Outgoing> next_report(std::chrono::milliseconds idle);
    /// Was this response the answer to a report of ours?
    bool take_response(const Command& response);
    /// The association is over: what is not reported goes to the reporter.
    void close();

private:
    struct Waiting {
        OwedCommitment owed;
        std::uint8_t context_id = 0;
        Encoding encoding{};
        std::uint64_t pass = 0;
        std::chrono::steady_clock::time_point held_until{};
        std::optional<std::uint16_t> sent_as{};  ///< message ID
        CommittedInstances told{};
    };
    Result<Queue*> queue();
    std::optional<Outcome> refusal_of(const Command& command) const;
    Outcome take_request(std::uint8_t context_id, Encoding encoding, const CommitmentData& data);
    Outcome take_report(const CommitmentData& data);
    bool hold(Waiting& waiting);

    const NodeSettings* settings_ = nullptr;
    const IndexPasses* passes_ = nullptr;
    AuditPeer peer_;
    std::string called_ae_title_;
    bool may_ask_ = false;
    CommitmentWatch watch_;
    std::optional<Queue> queue_;
    std::vector<Waiting> waiting_;
    std::uint16_t next_message_id_ = 1;
};

}  // namespace cardionode
