// What the indexer does, told to the audit trail and to the counters.
//
// Why the transfers are audited here and not where they arrive: only the queue knows the key of a study, an association
// that is killed still has its audit (its segment is found), and nothing of it comes before a scanner's answer. The
// moments in the events are those of receiving.
// Thread safety: one object belongs to one thread.
#pragma once

#include <map>
#include <string>

#include "conf/base/node_settings.h"
#include "scp/audit/trail.h"
#include "scp/server/counters.h"
#include "scp/store/indexer.h"

namespace cardionode {

class IndexingWatch {
public:
    /// @param counters, settings  must outlive this
    IndexingWatch(AuditTrail audit, Counters& counters, const NodeSettings& settings)
        : audit_(std::move(audit)), counters_(&counters), settings_(&settings) {}
    IndexingWatch(const IndexingWatch&) = delete;
    IndexingWatch& operator=(const IndexingWatch&) = delete;

    /// Must not be used after this object.
    IndexingObserver observer();

private:
    struct Study {
        AuditTransfer transfer;
        std::map<std::string, int> by_class;
        int stored = 0, duplicates = 0, conflicts = 0;
        Moment last{};
    };
    struct Segment {
        std::size_t seen = 0;  ///< records that were counted
        std::size_t at = 0;    ///< the one at hand, which is lower after a new start
        std::map<std::string, Study> studies;
    };
    void entered(const std::string& name, const ReceivedInstance& instance, const Ingested& ingested);
    void finished(const std::string& name);

    AuditTrail audit_;
    Counters* counters_;
    const NodeSettings* settings_;
    std::map<std::string, Segment> segments_;
};

}  // namespace cardionode
