// What an answer of a PACS means for an output: sent, sent with a remark, try again, or set aside.
//
// Sources: PS3.4 Table B.2-1, PS3.7 Annex C, PS3.8 Table 9-21. Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>

namespace cardionode {

enum class SendOutcome {
    Sent,   ///< the peer has it, perhaps with a remark
    Retry,  ///< the peer may take it later: back off, same UIDs
    Park,   ///< the peer will not take it: set aside and tell somebody, no storm of repeats
};

struct SendVerdict {
    SendOutcome outcome = SendOutcome::Retry;
    std::string words;  ///< for people: "already there (status 0x0111)"; empty for a plain success
};

/// Status of a C-STORE response. 0xA7xx and what is not known: again later (the outbox gives up in the end); 0xA9xx,
/// 0xCxxx, 0x0122 and other refusals of the object itself: set aside; warnings and duplicates: sent.
SendVerdict judge_store_status(std::uint16_t status);

/// Result, source and reason of an A-ASSOCIATE-RJ: permanent ones are set aside, transient ones tried again.
SendVerdict judge_rejection(int result, int source, int reason);

}  // namespace cardionode
