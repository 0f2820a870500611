// Sending outputs, told to the audit trail.
//
// A DICOM Instances Transferred event with the node as source, not an Export: a PACS is in the same security domain
// (PS3.15 A.5.3.5). A destination that is away is told once an output, not at each try.
// Thread safety: plain function; opens the queue only where studies are named by their UID.
#pragma once

#include <filesystem>
#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "scp/audit/trail.h"
#include "scp/queue/queue.h"

namespace cardionode {

/// @param sent  what store_output() said
void audit_output(const AuditTrail& audit, const std::filesystem::path& database,
                  const DestinationSettings& destination, const ClaimedOutput& claim, const Result<std::string>& sent);
/// What the destination said on the association that asked it; an answer on another one is the receiver's to tell.
void audit_commitment(const AuditTrail& audit, const DestinationSettings& destination, const CommitmentAnswer& answer);

}  // namespace cardionode
