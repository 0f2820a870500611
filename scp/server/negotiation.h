// The answer to an A-ASSOCIATE-RQ: rejected, or which contexts are accepted (PS3.8 7.1, 9.3; PS3.4 B.2).
//
// Thread safety: pure functions.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scp/dicom/pdu.h"
#include "scp/dicom/syntaxes.h"
#include "scp/server/peer_rules.h"

namespace cardionode {

struct Refusal {
    Rejection rejection;
    std::string_view reason;  ///< a fixed word for the log and for counters
};

/// none: the association may be opened, as far as the request tells.
/// @param certificate_sha256  of the certificate that the peer proved to have; empty: none
std::optional<Refusal> refusal_of(const AssociateRequest& request, const PeerRules& rules,
                                  const AddressBytes& peer_address, std::string_view certificate_sha256);

/// Which services a peer gets, beside Verification.
struct Services {
    bool storage = true;
    bool commitment = false;  ///< Storage Commitment Push Model, in either role
};

/// One answer for each proposed context, in order: of the transfer syntaxes that we keep, the first that the peer
/// named.
std::vector<AnsweredContext> answer_contexts(const AssociateRequest& request, const Services& services = {});

/// PS3.7 D.3.3.4: for storage commitment both roles are granted, a scanner being its SCU and a PACS its SCP; nobody is
/// the SCP of another class here, which needs no answer.
std::vector<RoleSelection> answer_roles(const AssociateRequest& request, const Services& services);

}  // namespace cardionode
