// Values of storage commitment in the queue: what we asked a PACS for, and what we owe a scanner (PS3.4 Annex J).
//
// Thread safety: values. The methods are Queue's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conf/base/time.h"

namespace cardionode {

/// One SOP instance that a request or an answer is about.
struct InstanceReference {
    std::string sop_class_uid;
    std::string sop_instance_uid;
    std::uint16_t reason = 0;  ///< Failure Reason (0008,1197) of DICOM; 0: none, it is stored
    bool operator==(const InstanceReference&) const = default;
};

/// Outputs of one study that a destination is now asked to commit. The queue has noted the request: its answer may come
/// at any moment, on any association.
struct CommitmentAsk {
    std::string transaction_uid;
    std::string study_key;
    std::string destination;
    int attempt = 1;
    std::vector<InstanceReference> outputs;
};

/// What a PACS answered to a request of ours.
struct CommitmentAnswer {
    std::string transaction_uid;
    std::vector<InstanceReference> committed;
    std::vector<InstanceReference> failed;  ///< with their reasons
};

/// A scanner asked us whether instances are stored.
struct CommitmentRequest {
    std::string calling_ae_title;  ///< who asked, and gets the answer
    std::string called_ae_title;   ///< by which name it knows us
    std::string transaction_uid;
    std::vector<InstanceReference> references;
};

/// A request that is not answered yet, held by somebody who answers it now.
struct OwedCommitment {
    std::int64_t id = 0;
    CommitmentRequest request;
    bool duplicate = false;  ///< its transaction was used for other instances: each fails with 0x0131
    int attempt = 0;         ///< tries that failed so far
    Moment asked_at{};
    std::string lease_token;
};

/// What became of an answer of a PACS.
enum class AnswerOutcome {
    Taken,    ///< noted, or noted before
    Unknown,  ///< we know no such request to this PACS, or not any more
};

}  // namespace cardionode
