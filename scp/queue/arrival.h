// What comes into the queue, what becomes of it, and the rules for what does not come as it should: late, twice, or
// under another patient. schema.sql explains each; node.yaml has the settings.
//
// Thread safety: values.
#pragma once

#include <cstdint>
#include <string>

#include "conf/base/time.h"

namespace cardionode {

/// One instance that is durable in the spool and now enters the queue.
struct ReceivedInstance {
    std::string study_instance_uid;
    std::string series_instance_uid;
    std::string sop_instance_uid;
    std::string sop_class_uid;
    std::string transfer_syntax_uid;
    std::string modality;  ///< (0008,0060), may be empty
    std::string sha256;    ///< of the data set as received; decides "same content"
    std::string file;      ///< relative to the spool folder
    std::int64_t bytes = 0;
    std::string calling_ae_title;
    std::string called_ae_title;
    std::string peer_address;
    Moment received_at{};
    std::string patient_mark = {};  ///< keyed digest of the Patient ID (scp/store/patient_mark.h); empty: it has none
};

/// What became of a received file, and whom it belongs to afterwards.
/// A file that a row of the queue names already (the caller repeats a call after a crash) gets the outcome that it got
/// the first time, never Duplicate: so a caller that deletes its file on Duplicate never deletes the only copy.
enum class IngestOutcome {
    Stored,     ///< new, or this very file again: the file is the queue's from now on
    Duplicate,  ///< same UID, same content in another file, Ingested::file: nothing changed; the caller deletes its own
    Conflict,   ///< same UID, other content or another study: kept beside the first and flagged; the first stays in use
    OtherPatient,  ///< another Patient ID than the study's, under a new UID: kept beside and flagged
};

struct Ingested {
    IngestOutcome outcome = IngestOutcome::Stored;
    std::string study_key;
    std::string file;  ///< that holds this content for the queue, relative to the spool folder
    /// The content was there before: sent again, or the call is repeated after a crash. For counting.
    bool held_before = false;
};

/// A new image of a study that was handed over already.
enum class LateImages {
    NewRevision,  ///< the study goes back to receiving and is analysed again
    Keep,         ///< kept and counted; the next one who claims the study gets it
};
/// An image whose Patient ID is not that of the study's first one.
enum class OtherPatient {
    SetAside,   ///< kept beside; the study waits for a person
    KeepFirst,  ///< kept beside; the study goes on without it
    Accept,     ///< used
};

struct ArrivalRules {
    Milliseconds series_quiet{20'000};
    Milliseconds study_quiet{60'000};
    Milliseconds longest_study{0};  ///< a study is complete after this, quiet or not; 0: never for that
    LateImages late_images = LateImages::NewRevision;
    OtherPatient other_patient = OtherPatient::SetAside;
};

}  // namespace cardionode
