#include "pipeline/send/send_audit.h"

#include "conf/base/log.h"

namespace cardionode {
namespace {

std::string study_uid_of(const std::filesystem::path& database, const std::string& key) {
    QueueOptions options;
    options.mode = QueueOptions::Mode::ReadOnly;
    auto queue = Queue::open(database, system_clock(), options);
    const auto study = queue ? queue->study(key) : Result<std::optional<StudyRow>>(queue.error());
    if (study && *study) return (*study)->study_instance_uid;
    log_warning("audit_without_study_uid", {{"study", key}});  // the event then has the key
    return {};
}

}  // namespace

void audit_output(const AuditTrail& audit, const std::filesystem::path& database,
                  const DestinationSettings& destination, const ClaimedOutput& claim, const Result<std::string>& sent) {
    const bool for_good = !sent && sent.error().kind != ErrorKind::Retry;
    if (!audit.on() || (!sent && !for_good && claim.attempt > 1)) return;
    AuditTransfer transfer;
    transfer.source = {destination.calling_ae_title, {}};
    transfer.destination = {destination.ae_title, destination.host};
    transfer.study.key = claim.study_key;
    if (audit.study_uids()) transfer.study.uid = study_uid_of(database, claim.study_key);
    transfer.study.instances = {{claim.output.sop_class_uid, 1}};
    // "R": we do not know whether the destination held the instance before.
    audit.record(sent ? instances_transferred(transfer, 'R', system_clock().now())
                      : transfer_failed(transfer, sent.error().message, for_good));
}

void audit_commitment(const AuditTrail& audit, const DestinationSettings& destination, const CommitmentAnswer& answer) {
    audit.record(instances_committed({destination.calling_ae_title, {}}, {destination.ae_title, destination.host},
                                     static_cast<int>(answer.committed.size()),
                                     static_cast<int>(answer.failed.size())));
}

}  // namespace cardionode
