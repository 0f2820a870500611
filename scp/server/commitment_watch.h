// What becomes of storage commitment, told to the counters and to the audit trail.
//
// Thread safety: one object belongs to one thread; the counters are shared between processes.
#pragma once

#include <string>

#include "scp/audit/trail.h"
#include "scp/server/counters.h"

namespace cardionode {

struct CommittedInstances {
    int kept = 0;    ///< instances that are committed
    int failed = 0;  ///< instances that are not
};

class CommitmentWatch {
public:
    CommitmentWatch() = default;  ///< sees nothing
    /// @param counters  must outlive this
    CommitmentWatch(Counters& counters, AuditTrail audit, std::string own_ae_title)
        : counters_(&counters), audit_(std::move(audit)), own_ae_title_(std::move(own_ae_title)) {}

    // --- we are asked
    void requested();
    void refused();
    /// The scanner has taken the report.
    void reported(const AuditPeer& scanner, const CommittedInstances& told);
    void not_reported();
    // --- we have asked
    /// A report of a PACS on an association of its own. @param known  about a request of ours
    void answered(const AuditPeer& pacs, const CommittedInstances& told, bool known);

private:
    Counters* counters_ = nullptr;
    AuditTrail audit_;
    std::string own_ae_title_;
};

}  // namespace cardionode
