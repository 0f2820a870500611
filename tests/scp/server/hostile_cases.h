// Malformed associations and messages with the answers that the standard expects; hostile_association_test.cpp and
// hostile_message_test.cpp hold the tables.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/scp/server/receiver.h"

namespace cardionode::test {

struct HostileCase {
    std::string name;
    std::string bytes;        ///< what the peer sends
    std::string answer;       ///< in the words of answers_of()
    bool half_close = false;  ///< says then that nothing more comes, and reads
};

/// What comes on a connection without an association.
std::vector<HostileCase> association_cases();
/// What comes after an association with these contexts was accepted.
std::vector<HostileCase> message_cases();
inline const std::string kVerificationUid = "1.2.840.10008.1.1", kCommitmentUid = "1.2.840.10008.1.20.1",
                         kCommitmentInstanceUid = "1.2.840.10008.1.20.1.1";
inline const std::vector<Proposal> kHostileContexts = {{1, std::string(kCtImage), {std::string(kExplicit)}},
                                                       {3, kVerificationUid, {std::string(kImplicit)}},
                                                       {5, kCommitmentUid, {std::string(kImplicit)}},
                                                       {7, std::string(kCtImage), {std::string(kDeflated)}},
                                                       {9, "1.2.3.4.5", {std::string(kImplicit)}}};

/// All that comes until the connection ends: "A-ASSOCIATE-AC 1:0 3:4; C-STORE-RSP A900; A-ABORT 2,5; closed". Numbers:
/// context:result, result,source,reason of a rejection, source,reason of an abort, status. "still open": no end in 3 s.
std::string answers_of(RawPeer& peer);

/// It is true, and one of three times so in under a second.
bool in_under_a_second(const std::function<bool()>& served);
/// A C-ECHO of a new client is answered with success in under a second.
void expect_next_client_served(int port);

}  // namespace cardionode::test
