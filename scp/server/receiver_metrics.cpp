#include "scp/server/receiver_metrics.h"

#include <fmt/format.h>

#include "conf/base/files.h"
#include "scp/audit/trail.h"
#include "scp/metrics/exposition.h"
#include "scp/queue/queue.h"

namespace cardionode {
namespace {

using Type = Exposition::Type;

double number(const std::atomic<std::uint64_t>& count) { return static_cast<double>(count.load()); }
double seconds(std::int64_t milliseconds) { return static_cast<double>(milliseconds) / 1000; }
double age(Moment now, Moment since) { return std::max(0.0, std::chrono::duration<double>(now - since).count()); }

void associations(Exposition& out, const SharedState& shared) {
    const Counters& c = shared.counters;
    int connections = 0;
    for (const Slot& slot : shared.slots) connections += slot.state.load() != SlotState::Free ? 1 : 0;
    out.counter("cardionode_connections_total", "TCP connections taken.", number(c.connections));
    out.counter("cardionode_connections_refused_total", "TCP connections closed at once: too many.",
                number(c.connections_refused));
    out.counter("cardionode_connections_without_association_total",
                "Connections that ended without a valid A-ASSOCIATE-RQ.", number(c.connections_without_association));
    out.gauge("cardionode_connections_open", "TCP connections open now.", connections);
    out.gauge("cardionode_associations_open", "Associations open now.", shared.associations());
    out.counter("cardionode_associations_accepted_total", "Associations accepted.", number(c.associations_accepted));
    out.family("cardionode_associations_rejected_total", Type::Counter, "Associations rejected, by reason.");
    for (std::size_t i = 0; i < kRejectReasons.size(); ++i)
        out.sample(number(c.associations_rejected[i]), {{"reason", kRejectReasons[i]}});
    out.counter("cardionode_association_processes_failed_total",
                "Processes of an association that crashed or were killed.", number(c.association_processes_failed));
}

void instances(Exposition& out, const SharedState& shared) {
    const Counters& c = shared.counters;
    out.counter("cardionode_instances_durable_total", "Instances synced to the journal, before their answer.",
                number(c.instances_durable));
    out.counter("cardionode_instances_acknowledged_total", "Instances answered with success.",
                number(c.instances_acknowledged));
    out.counter("cardionode_received_bytes_total", "Bytes of the data sets that were acknowledged.",
                number(c.bytes_acknowledged));
    out.family(
        "cardionode_instances_indexed_total", Type::Counter,
        "Instances that left the journal for the queue: new, there before, other content under a known UID, other "
        "Patient ID than the study's.");
    out.sample(number(c.instances_indexed), {{"outcome", "stored"}});
    out.sample(number(c.instances_duplicate), {{"outcome", "duplicate"}});
    out.sample(number(c.instances_conflict), {{"outcome", "conflict"}});
    out.sample(number(c.instances_other_patient), {{"outcome", "other_patient"}});
    out.family("cardionode_requests_refused_total", Type::Counter, "Requests answered with a failure, by status.");
    for (std::size_t i = 0; i < kCountedStatuses.size(); ++i) {
        const bool last = i + 1 == kCountedStatuses.size();
        const std::string status = last ? "other" : fmt::format("{:04X}", kCountedStatuses[i]);
        out.sample(number(c.requests_refused[i]), {{"status", status}});
    }
    out.gauge("cardionode_last_instance_timestamp_seconds", "When the last instance was received; 0: none since start.",
              seconds(c.last_instance_ms.load()));
    out.gauge("cardionode_last_study_ready_timestamp_seconds", "When the last study was complete; 0: none since start.",
              seconds(c.last_study_ready_ms.load()));
    out.counter("cardionode_studies_ready_total", "Studies that were received completely.", number(c.studies_ready));
    out.counter("cardionode_studies_deleted_total", "Studies deleted by retention.", number(c.studies_deleted));
    const std::uint64_t starts = c.indexer_starts.load();
    out.counter("cardionode_indexer_restarts_total", "Starts of the indexer after the first.",
                static_cast<double>(starts > 0 ? starts - 1 : 0));
    out.gauge("cardionode_indexer_up", "1: the indexer runs.", shared.indexer_runs ? 1 : 0);
}

void spool(Exposition& out, const NodeSettings& settings, const SharedState& shared) {
    if (const auto free = free_bytes(settings.node.spool))
        out.gauge("cardionode_spool_free_bytes", "Free space of the spool's file system.", static_cast<double>(*free));
    out.gauge("cardionode_spool_low_space", "1: associations are refused for want of space.", shared.low_space);
    out.gauge("cardionode_spool_in_place", "1: the spool is the folder of the start, with its sentinel.",
              shared.spool_gone ? 0 : 1);
}

void queue(Exposition& out, const NodeSettings& settings, Moment now) {
    QueueOptions options;
    options.mode = QueueOptions::Mode::ReadOnly;
    auto opened = Queue::open(settings.node.database, system_clock(), options);
    const auto depths = opened ? opened->depths() : Result<QueueDepths>(opened.error());
    out.gauge("cardionode_queue_readable", "1: the queue could be read for the numbers below.", depths ? 1 : 0);
    if (!depths) return;
    out.family("cardionode_queue_studies", Type::Gauge, "Studies by state.");
    for (const auto& studies : depths->studies) out.sample(studies.number, {{"state", to_string(studies.state)}});
    out.family("cardionode_queue_oldest_age_seconds", Type::Gauge,
               "How long the study that is in a state for longest has been in it; 0: none is.");
    for (const auto& studies : depths->studies)
        out.sample(studies.oldest ? age(now, *studies.oldest) : 0, {{"state", to_string(studies.state)}});
    out.family("cardionode_outbox_outputs", Type::Gauge, "Outputs by destination and state.");
    for (const auto& o : depths->outputs) out.sample(o.number, {{"destination", o.destination}, {"state", o.state}});
    out.family("cardionode_outbox_retrying", Type::Gauge, "Outputs that wait after at least one failed try.");
    for (const auto& o : depths->outputs)
        if (o.state == "waiting") out.sample(o.tried, {{"destination", o.destination}});
    out.family("cardionode_outbox_oldest_age_seconds", Type::Gauge, "Age of the oldest output that waits.");
    for (const auto& o : depths->outputs)
        if (o.state == "waiting") out.sample(age(now, o.oldest), {{"destination", o.destination}});
    out.family("cardionode_outbox_uncommitted", Type::Gauge, "Outputs sent whose storage commitment is not there yet.");
    for (const auto& o : depths->outputs)
        if (o.state == "sent") out.sample(o.uncommitted, {{"destination", o.destination}});
    out.gauge("cardionode_commitments_owed", "Commitment requests of scanners that are not reported yet.",
              depths->commitments_owed);
    out.gauge("cardionode_commitments_owed_oldest_age_seconds", "Age of the oldest of them; 0: there is none.",
              depths->oldest_owed ? age(now, *depths->oldest_owed) : 0);
}

void commitment(Exposition& out, const SharedState& shared) {
    const Counters& c = shared.counters;
    out.family("cardionode_commitment_requests_total", Type::Counter, "Storage commitment requests of scanners.");
    out.sample(number(c.commitments_requested), {{"outcome", "taken"}});
    out.sample(number(c.commitments_refused), {{"outcome", "refused"}});
    out.family("cardionode_commitment_reports_total", Type::Counter, "Tries to report to scanners.");
    out.sample(number(c.commitments_reported), {{"outcome", "taken"}});
    out.sample(number(c.commitments_unreported), {{"outcome", "failed"}});
    out.family("cardionode_commitment_instances_total", Type::Counter, "Instances in the reports to scanners.");
    out.sample(number(c.instances_committed), {{"outcome", "kept"}});
    out.sample(number(c.instances_not_committed), {{"outcome", "failed"}});
    out.family("cardionode_commitment_answers_total", Type::Counter,
               "Reports of PACS about our outputs that came on their own associations.");
    out.sample(number(c.reports_taken), {{"outcome", "taken"}});
    out.sample(number(c.reports_unknown), {{"outcome", "unknown"}});
    out.family("cardionode_commitment_outputs_total", Type::Counter, "Outputs in these reports.");
    out.sample(number(c.outputs_committed), {{"outcome", "kept"}});
    out.sample(number(c.outputs_not_committed), {{"outcome", "failed"}});
}

void audit(Exposition& out, const NodeSettings& settings) {
    if (settings.audit.host.empty()) return;
    const AuditSpoolUse use = audit_spool_use(settings.audit.spool);
    out.gauge("cardionode_audit_spool_bytes", "Size of the audit spool; what was delivered lately counts as well.",
              static_cast<double>(use.bytes));
    out.gauge("cardionode_audit_events_lost", "Audit events lost, of which the repository does not know yet.",
              static_cast<double>(use.lost));
}

}  // namespace

std::string receiver_metrics(const NodeSettings& settings, const SharedState& shared, const Clock& clock) {
    Exposition out;
    out.family("cardionode_build_info", Type::Gauge, "The version that runs.");
    out.sample(1, {{"version", CARDIONODE_VERSION}});
    associations(out, shared);
    instances(out, shared);
    commitment(out, shared);
    spool(out, settings, shared);
    queue(out, settings, clock.now());
    audit(out, settings);
    return out.text();
}

Health receiver_health(const SharedState& shared) {
    constexpr std::chrono::seconds kLongestTurn{10};
    Health health;
    const std::chrono::steady_clock::time_point seen{std::chrono::milliseconds(shared.supervisor_seen_ms.load())};
    if (std::chrono::steady_clock::now() - seen > kLongestTurn) health.why_not_live = "the supervisor does not move";
    if (!health.why_not_live.empty()) health.why_not_ready = health.why_not_live;
    else if (shared.draining) health.why_not_ready = "it stops";
    else if (shared.spool_gone) health.why_not_ready = "the spool is not in its place";
    else if (shared.low_space) health.why_not_ready = "the spool is low on space";
    else if (!shared.indexer_runs) health.why_not_ready = "the indexer does not run";
    return health;
}

}  // namespace cardionode
