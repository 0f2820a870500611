// Reports storage commitment to peers on associations of its own: the requests that no open association reports.
//
// One request at a time: waits until the indexer has seen all that was received before, looks the instances up, opens
// an association to the host that the settings name for the peer, in the role of the SCP (PS3.7 D.3.3.4), and reports.
// With scp.tls.only that goes over TLS. A peer that is away gets it later, after growing pauses, for three days.
// Thread safety: runs in a process of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "conf/base/node_settings.h"
#include "scp/queue/queue.h"
#include "scp/server/commitment_watch.h"
#include "scp/server/shared_state.h"

namespace cardionode {

/// Until `stop`. @return exit code: 0 asked to stop, 1 try again later, 2 the queue cannot be used
int report_commitments(const NodeSettings& settings, const IndexPasses& passes, CommitmentWatch watch,
                       const std::function<bool()>& stop);

/// An N-EVENT-REPORT request of the storage commitment class.
std::vector<std::byte> write_report_command(std::uint16_t message_id, std::uint16_t event_type);

struct SentReport {
    const OwedCommitment& owed;
    const AuditPeer& peer;
    CommittedInstances told;
    std::string_view where;  ///< for the log
};
/// Notes in the queue, the log, the counters and the audit trail what the peer answered to a report.
void note_report_response(Queue& queue, CommitmentWatch& watch, const SentReport& sent, std::uint16_t status);

}  // namespace cardionode
