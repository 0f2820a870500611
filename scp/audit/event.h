// What happened, as an audit event of DICOM PS3.15 A.5.3: one function for each kind that this node reports.
//
// No event holds a patient's name, ID or birth date, although the standard asks for a Patient participant: this node
// keeps identities out of everything but the images and its outputs, and the repository finds the patient through the
// study. A study is named by its key of the queue, or, where audit.study_uids says so, by its Study Instance UID.
// Thread safety: values and pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/time.h"

namespace cardionode {

struct AuditCode {  ///< csd-code, codeSystemName, originalText
    std::string value;
    std::string scheme;
    std::string meaning;
};

enum class AuditOutcome { Success = 0, MinorFailure = 4, SeriousFailure = 8, MajorFailure = 12 };

struct AuditParticipant {
    std::string user_id;
    std::string ae_title;  ///< AlternativeUserID "AETITLES=..."; empty: none
    bool requestor = false;
    std::optional<AuditCode> role;
    std::string address;  ///< IP address or host name; empty: unknown
};

struct AuditStudy {
    std::string key;  ///< of the queue
    std::string uid;  ///< may be empty; is written only where the settings ask for it
    struct Instances {
        std::string sop_class_uid;  ///< of all of them; says nothing about a patient
        int number = 0;
    };
    std::vector<Instances> instances = {};
};

struct AuditEvent {
    AuditCode id;
    std::optional<AuditCode> type;
    char action = 'E';           ///< C, R, U, D or E
    std::optional<Moment> when;  ///< none: now
    AuditOutcome outcome = AuditOutcome::Success;
    std::string outcome_description;  ///< for people; fixed words and numbers of ours
    std::vector<AuditParticipant> participants;
    std::optional<AuditStudy> study;
    /// Anybody who reaches the port can cause any number of it: may fill only half of the spool.
    bool from_strangers = false;
};

/// The other side of an association.
struct AuditPeer {
    std::string ae_title;  ///< as it calls itself; empty: it said nothing yet
    std::string address;
};

/// One side of a transfer.
struct AuditTransfer {
    AuditPeer source;
    AuditPeer destination;
    bool source_is_requestor = true;
    AuditStudy study;
};

// --- A.5.3.1 Application Activity
AuditEvent application_started(std::string_view program, std::string_view ae_title);
AuditEvent application_stopped(std::string_view program, std::string_view ae_title);

// --- A.5.3.11 Security Alert
/// A rejected A-ASSOCIATE-RQ. @param reason  a fixed word: that of an AE title or address is a failed authentication
/// of a node, any other a limit of ours
AuditEvent association_refused(const AuditPeer& peer, std::string_view own_ae_title, std::string_view reason);
/// A TLS handshake that failed: no certificate, wrong CA, expired, revoked, old version, weak cipher.
AuditEvent tls_refused(const AuditPeer& peer, std::string_view own_ae_title, std::string_view reason);
/// @param problem  empty: the new settings are in use
AuditEvent settings_reloaded(std::string_view program, std::string_view ae_title, std::string_view problem);
/// The spool was full; said once there is room again.
AuditEvent audit_events_lost(std::string_view program, std::uint64_t events);

// --- A.5.3.3, A.5.3.7 transfers; one study, thus one patient, each
AuditEvent transfer_began(const AuditTransfer& transfer, Moment when);
/// @param action  'C' new instances, 'R' all were there already or we sent them, 'U' other content under a known UID
AuditEvent instances_transferred(const AuditTransfer& transfer, char action, Moment when);
/// Requests that were answered with a failure; which study they belong to is not known.
AuditEvent instances_refused(const AuditPeer& source, const AuditPeer& destination, int refused);
/// An output that a destination did not take. @param for_good  it was set aside, otherwise it is tried again
AuditEvent transfer_failed(const AuditTransfer& transfer, std::string_view why, bool for_good);

// --- A.5.3.6 DICOM Instances Accessed
/// One side has told the other which instances it keeps (storage commitment). Of which studies they are is not known:
/// a request may be about any number.
AuditEvent instances_committed(const AuditPeer& asked_by, const AuditPeer& keeper, int kept, int failed);

// --- A.5.3.8 DICOM Study Deleted
AuditEvent study_deleted(std::string_view program, std::string_view ae_title, const AuditStudy& study,
                         std::string_view why);

}  // namespace cardionode
