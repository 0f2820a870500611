// Data sets of the Storage Commitment Push Model (PS3.4 J.3): what an N-ACTION asks for and an N-EVENT-REPORT tells.
//
// Reading is one pass without recursion over a bounded stack of open sequences; nothing is allocated by an announced
// length. Unknown elements are skipped. Thread safety: pure functions.
// Errors: Reject, with the reason in words, never a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "scp/dicom/syntaxes.h"

namespace cardionode {

inline constexpr std::string_view kStorageCommitmentClass = "1.2.840.10008.1.20.1";       ///< Push Model
inline constexpr std::string_view kStorageCommitmentInstance = "1.2.840.10008.1.20.1.1";  ///< well-known
inline constexpr std::uint16_t kRequestStorageCommitment = 1;                             ///< Action Type ID
inline constexpr std::uint16_t kCommitmentSuccessful = 1;                                 ///< Event Type ID
inline constexpr std::uint16_t kCommitmentFailuresExist = 2;                              ///< Event Type ID

inline constexpr std::size_t kMaxCommitmentReferences = 10'000;
inline constexpr std::size_t kMaxCommitmentBytes = 4 << 20;  ///< 10,000 references take about 1.5 MB

/// Failure Reason (0008,1197), PS3.3 C.14.1.1.
namespace failure_reason {
inline constexpr std::uint16_t kNone = 0;
inline constexpr std::uint16_t kProcessingFailure = 0x0110;
inline constexpr std::uint16_t kNoSuchInstance = 0x0112;
inline constexpr std::uint16_t kClassInstanceConflict = 0x0119;
inline constexpr std::uint16_t kClassNotSupported = 0x0122;
inline constexpr std::uint16_t kDuplicateTransaction = 0x0131;
inline constexpr std::uint16_t kResourceLimitation = 0x0213;
}  // namespace failure_reason

struct SopReference {
    std::string sop_class_uid;
    std::string sop_instance_uid;
    std::uint16_t reason = failure_reason::kNone;  ///< of a failed one
    bool operator==(const SopReference&) const = default;
};

struct CommitmentData {
    std::string transaction_uid;
    std::vector<SopReference> referenced;  ///< Referenced SOP Sequence (0008,1199)
    std::vector<SopReference> failed;      ///< Failed SOP Sequence (0008,1198)
    bool operator==(const CommitmentData&) const = default;
};

/// Refuses: an encoding that is neither Implicit nor Explicit VR Little Endian, elements that do not fit together, too
/// many references, a missing or wrong UID, an item without both UIDs.
Result<CommitmentData> parse_commitment(Encoding encoding, std::span<const std::byte> bytes);
/// Sequences that are empty are left out.
std::vector<std::byte> write_commitment(Encoding encoding, const CommitmentData& data);

}  // namespace cardionode
