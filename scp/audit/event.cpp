#include "scp/audit/event.h"

#include <fmt/format.h>
#include <unistd.h>

namespace cardionode {
namespace {

AuditCode dcm(std::string value, std::string meaning) { return {std::move(value), "DCM", std::move(meaning)}; }
AuditCode own(std::string value, std::string meaning) { return {std::move(value), "99CARDIONODE", std::move(meaning)}; }

/// A.5.2.1: the identity of a process is its number on this machine.
std::string process_id(std::string_view program) { return fmt::format("{}@{}", ::getpid(), program); }

AuditParticipant process(std::string_view program, std::string_view ae_title) {
    return {process_id(program), std::string(ae_title), false, dcm("110150", "Application"), {}};
}

AuditParticipant side(const AuditPeer& peer, bool source, bool requestor) {
    AuditParticipant participant;
    participant.user_id = peer.ae_title.empty() ? peer.address : peer.ae_title;
    participant.ae_title = peer.ae_title;
    participant.requestor = requestor;
    participant.role = source ? dcm("110153", "Source Role ID") : dcm("110152", "Destination Role ID");
    participant.address = peer.address;
    return participant;
}

AuditEvent activity(std::string_view program, std::string_view ae_title, AuditCode type) {
    AuditEvent event;
    event.id = dcm("110100", "Application Activity");
    event.type = std::move(type);
    event.participants = {process(program, ae_title)};
    return event;
}

AuditEvent alert(AuditCode type, AuditOutcome outcome, std::string_view description) {
    AuditEvent event;
    event.id = dcm("110113", "Security Alert");
    event.type = std::move(type);
    event.outcome = outcome;
    event.outcome_description = description;
    return event;
}

AuditEvent refused(const AuditPeer& peer, std::string_view own_ae_title, std::string_view reason, bool stranger) {
    AuditEvent event = alert(stranger ? dcm("110126", "Node Authentication") : own("limit", "Association over a limit"),
                             AuditOutcome::MinorFailure, reason);
    event.participants = {side(peer, true, true), side({std::string(own_ae_title), {}}, false, false)};
    event.from_strangers = true;
    return event;
}

AuditEvent transfer(AuditCode id, const AuditTransfer& transfer, char action) {
    AuditEvent event;
    event.id = std::move(id);
    event.action = action;
    event.participants = {side(transfer.source, true, transfer.source_is_requestor),
                          side(transfer.destination, false, !transfer.source_is_requestor)};
    if (!transfer.study.key.empty()) event.study = transfer.study;
    return event;
}

}  // namespace

AuditEvent application_started(std::string_view program, std::string_view ae_title) {
    return activity(program, ae_title, dcm("110120", "Application Start"));
}

AuditEvent application_stopped(std::string_view program, std::string_view ae_title) {
    return activity(program, ae_title, dcm("110121", "Application Stop"));
}

AuditEvent association_refused(const AuditPeer& peer, std::string_view own_ae_title, std::string_view reason) {
    return refused(peer, own_ae_title, reason, reason == "calling_ae_title" || reason == "called_ae_title");
}

AuditEvent tls_refused(const AuditPeer& peer, std::string_view own_ae_title, std::string_view reason) {
    return refused(peer, own_ae_title, reason, true);
}

AuditEvent settings_reloaded(std::string_view program, std::string_view ae_title, std::string_view problem) {
    AuditEvent event = alert(dcm("110129", "Security Configuration"),
                             problem.empty() ? AuditOutcome::Success : AuditOutcome::MinorFailure,
                             problem.empty() ? "settings reloaded" : problem);
    event.participants = {process(program, ae_title)};
    return event;
}

AuditEvent audit_events_lost(std::string_view program, std::uint64_t events) {
    AuditEvent event = alert(dcm("110133", "Audit Recording Stopped"), AuditOutcome::SeriousFailure,
                             fmt::format("{} events were lost: the spool was full", events));
    event.participants = {process(program, {})};
    return event;
}

AuditEvent transfer_began(const AuditTransfer& of, Moment when) {
    AuditEvent event = transfer(dcm("110102", "Begin Transferring DICOM Instances"), of, 'E');
    event.when = when;
    return event;
}

AuditEvent instances_transferred(const AuditTransfer& of, char action, Moment when) {
    AuditEvent event = transfer(dcm("110104", "DICOM Instances Transferred"), of, action);
    event.when = when;
    return event;
}

AuditEvent instances_refused(const AuditPeer& source, const AuditPeer& destination, int number) {
    AuditEvent event = transfer(dcm("110104", "DICOM Instances Transferred"), {source, destination, true, {}}, 'R');
    event.outcome = AuditOutcome::MinorFailure;
    event.outcome_description = fmt::format("{} requests were refused", number);
    event.from_strangers = true;
    return event;
}

AuditEvent transfer_failed(const AuditTransfer& of, std::string_view why, bool for_good) {
    AuditEvent event = transfer(dcm("110104", "DICOM Instances Transferred"), of, 'R');
    event.outcome = for_good ? AuditOutcome::SeriousFailure : AuditOutcome::MinorFailure;
    event.outcome_description = fmt::format("{}: {}", for_good ? "set aside" : "is tried again", why);
    return event;
}

AuditEvent instances_committed(const AuditPeer& asked_by, const AuditPeer& keeper, int kept, int failed) {
    AuditEvent event = transfer(dcm("110103", "DICOM Instances Accessed"), {keeper, asked_by, false, {}}, 'R');
    event.type = own("commitment", "Storage commitment");
    event.outcome = failed > 0 ? AuditOutcome::MinorFailure : AuditOutcome::Success;
    event.outcome_description = fmt::format("{} instances are kept, {} are not", kept, failed);
    return event;
}

AuditEvent study_deleted(std::string_view program, std::string_view ae_title, const AuditStudy& study,
                         std::string_view why) {
    AuditEvent event;
    event.id = dcm("110105", "DICOM Study Deleted");
    event.action = 'D';
    event.outcome_description = fmt::format("retention by {}", why);
    event.participants = {process(program, ae_title)};
    event.study = study;
    return event;
}

}  // namespace cardionode
