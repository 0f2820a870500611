// Asks a destination to commit what it was sent: the SCU of the Storage Commitment Push Model (PS3.4 Annex J).
//
// One association a request: N-ACTION, its response, then a short wait for the N-EVENT-REPORT on the same association.
// Most PACS report on an association of their own, to the receiver, seconds or hours later.
// Thread safety: calls may run at once.
#pragma once

#include <functional>
#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "pipeline/send/store_scu.h"
#include "scp/queue/commitment.h"

namespace cardionode {

struct CommitmentRequested {
    bool offered = true;    ///< false: the destination does not have the service, and the settings do not insist on it
    bool answered = false;  ///< the report for this request came already
    std::string why;        ///< it is not offered
};

/// Stores a report durably before it is answered.
using TakeAnswer = std::function<Result<AnswerOutcome>(const CommitmentAnswer&)>;

/// @param take  called for each report that comes meanwhile, of whatever request
/// @param stop  true: do not wait for the report any longer
/// Every message begins with the destination. Retry: no connection, transient rejection, abort, no answer, an answer
/// for another message, processing failure, resource limitation. Reject: permanent rejection, refused for good, or not
/// offered although the settings require it.
Result<CommitmentRequested> request_commitment(const CommitmentAsk& ask, const DestinationSettings& destination,
                                               const SendTimeouts& timeouts, const TakeAnswer& take,
                                               const std::function<bool()>& stop = {});

/// Never made before.
std::string new_transaction_uid();

}  // namespace cardionode
