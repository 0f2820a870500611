#include "scp/server/indexing_watch.h"

namespace cardionode {

IndexingObserver IndexingWatch::observer() {
    IndexingObserver observer;
    observer.entered = [this](const std::string& name, const ReceivedInstance& instance, const Ingested& ingested) {
        entered(name, instance, ingested);
    };
    observer.segment_finished = [this](const std::string& name) { finished(name); };
    observer.started_again = [this] {
        for (auto& [name, segment] : segments_) segment.at = 0;
    };
    observer.study_deleted = [this](const std::string& key, const RemovedStudy& removed, std::string_view why) {
        ++counters_->studies_deleted;
        audit_.record(study_deleted("cardionode-scp", settings_->scp.ae_title, {key, removed.study_instance_uid}, why));
    };
    return observer;
}

void IndexingWatch::entered(const std::string& name, const ReceivedInstance& instance, const Ingested& ingested) {
    Segment& segment = segments_[name];
    if (++segment.at <= segment.seen) return;
    segment.seen = segment.at;
    const bool duplicate = ingested.held_before;
    const bool other_patient = !duplicate && ingested.outcome == IngestOutcome::OtherPatient;
    const bool conflict = other_patient || (!duplicate && ingested.outcome == IngestOutcome::Conflict);
    ++(duplicate       ? counters_->instances_duplicate
       : other_patient ? counters_->instances_other_patient
       : conflict      ? counters_->instances_conflict
                       : counters_->instances_indexed);
    if (!audit_.on()) return;

    const auto [found, first] = segment.studies.try_emplace(ingested.study_key);
    Study& study = found->second;
    if (first) {
        study.transfer.source = {instance.calling_ae_title, instance.peer_address};
        study.transfer.destination = {settings_->scp.ae_title, {}};
        study.transfer.study = {ingested.study_key, instance.study_instance_uid};
        audit_.record(transfer_began(study.transfer, instance.received_at));
    }
    ++study.by_class[instance.sop_class_uid];
    ++(duplicate ? study.duplicates : conflict ? study.conflicts : study.stored);
    study.last = instance.received_at;
}

void IndexingWatch::finished(const std::string& name) {
    const auto found = segments_.find(name);
    if (found == segments_.end()) return;
    for (auto& [key, study] : found->second.studies) {
        for (const auto& [sop_class, number] : study.by_class)
            study.transfer.study.instances.push_back({sop_class, number});
        const char action = study.conflicts > 0 ? 'U' : study.stored > 0 ? 'C' : 'R';
        audit_.record(instances_transferred(study.transfer, action, study.last));
    }
    segments_.erase(found);
}

}  // namespace cardionode
