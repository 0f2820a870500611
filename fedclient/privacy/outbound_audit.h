// The line that stands in the node's log for every update that leaves: what, how much, and at what price.
//
// It holds no text of a patient: numbers, hashes, and names of models and heads. Those names come over the network, so
// everything but letters, digits and . _ / - becomes '?' and they are cut at 80 characters: no second line, no forged
// field. Thread safety: a pure function.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "fedclient/privacy/outbound.h"

namespace cardionode::fed {

struct OutboundAudit {
    std::string model_id;
    std::int64_t round = 0;
    std::string sha256;                          ///< of the weights as they leave
    std::map<std::string, std::int64_t> counts;  ///< as they are sent: "hps" 40, "unlabelled" 120
    OutboundReport report;
    double epsilon = 0;  ///< Ledger::spent after this night; infinite: without noise
    double delta = 0;
};

/// "fed update out: model=heart round=3 sha256=... norm.body=12.1>10 norm.hps=0.8>0.8 n.hps=40 withheld=0 noise=no
/// epsilon=unbounded delta=0.001" in one line: norms as trained > as they leave.
std::string outbound_audit_line(const OutboundAudit& audit);

}  // namespace cardionode::fed
