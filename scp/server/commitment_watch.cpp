#include "scp/server/commitment_watch.h"

namespace cardionode {

void CommitmentWatch::requested() {
    if (counters_) ++counters_->commitments_requested;
}

void CommitmentWatch::refused() {
    if (counters_) ++counters_->commitments_refused;
}

void CommitmentWatch::reported(const AuditPeer& scanner, const CommittedInstances& told) {
    if (!counters_) return;
    ++counters_->commitments_reported;
    counters_->instances_committed += static_cast<std::uint64_t>(told.kept);
    counters_->instances_not_committed += static_cast<std::uint64_t>(told.failed);
    audit_.record(instances_committed(scanner, {own_ae_title_, {}}, told.kept, told.failed));
}

void CommitmentWatch::not_reported() {
    if (counters_) ++counters_->commitments_unreported;
}

void CommitmentWatch::answered(const AuditPeer& pacs, const CommittedInstances& told, bool known) {
    if (!counters_) return;
    ++(known ? counters_->reports_taken : counters_->reports_unknown);
    if (!known) return;
    counters_->outputs_committed += static_cast<std::uint64_t>(told.kept);
    counters_->outputs_not_committed += static_cast<std::uint64_t>(told.failed);
    audit_.record(instances_committed({own_ae_title_, {}}, pacs, told.kept, told.failed));
}

}  // namespace cardionode
