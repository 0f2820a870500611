// Protocol data units of the DICOM upper layer (PS3.8 9.3): reading what a peer sent, writing what we answer.
//
// Pure functions over bytes: no sockets, no allocation that follows an announced length, every sub-item checked
// against the bytes that are there. Unknown items are ignored, as the standard asks (PS3.8 9.3.1).
// Thread safety: pure functions. Errors: Reject, with the reason of an A-ABORT in words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

enum class PduType : std::uint8_t {
    AssociateRequest = 1,
    AssociateAccept = 2,
    AssociateReject = 3,
    Data = 4,
    ReleaseRequest = 5,
    ReleaseResponse = 6,
    Abort = 7,
};

inline constexpr std::size_t kPduHeaderBytes = 6;
/// The longest A-ASSOCIATE-RQ that is read: 128 contexts with 30 transfer syntaxes each fit.
inline constexpr std::uint32_t kMaxAssociateBytes = 512 * 1024;

struct PduHeader {
    std::uint8_t type = 0;
    std::uint32_t length = 0;
};
PduHeader parse_pdu_header(std::span<const std::byte, kPduHeaderBytes> bytes);

struct ProposedContext {
    std::uint8_t id = 0;
    std::string abstract_syntax;
    std::vector<std::string> transfer_syntaxes;  ///< in the peer's order
};

/// What kind of user identity the peer sent (PS3.7 D.3.3.7). Who it names, and the secret beside it, are not kept:
/// nothing here depends on them.
enum class UserIdentity : std::uint8_t { None, Username, UsernameAndPasscode, Kerberos, Saml, Jwt, Unknown };
std::string_view to_string(UserIdentity identity);

/// SCP/SCU Role Selection (PS3.7 D.3.3.4) for one SOP class: which roles the requestor wants, or may take.
struct RoleSelection {
    std::string sop_class_uid;
    bool scu = true;
    bool scp = false;
    bool operator==(const RoleSelection&) const = default;
};

struct AssociateRequest {
    std::uint16_t protocol_version = 0;
    std::string called_ae_title;    ///< without leading and trailing spaces
    std::string calling_ae_title;   ///< without leading and trailing spaces
    std::vector<std::byte> echoed;  ///< bytes 11 to 74 of the PDU, which the answer repeats (PS3.8 Table 9-17)
    std::string application_context;
    std::vector<ProposedContext> contexts;
    std::vector<RoleSelection> roles;  ///< none for a class: its requestor is SCU
    std::uint32_t max_pdu = 0;         ///< 0: no limit
    std::string implementation_class_uid;
    std::string implementation_version;
    UserIdentity user_identity = UserIdentity::None;
};

/// @param body  the PDU without its 6-byte header
Result<AssociateRequest> parse_associate_request(std::span<const std::byte> body);

enum class ContextResult : std::uint8_t {
    Accepted = 0,
    UserRejection = 1,
    NoReason = 2,
    UnknownAbstractSyntax = 3,
    UnknownTransferSyntax = 4,
};

struct AnsweredContext {
    std::uint8_t id = 0;
    ContextResult result = ContextResult::Accepted;
    std::string abstract_syntax;
    std::string transfer_syntax;  ///< the one accepted; not significant otherwise
};

/// @param roles  what is granted of the roles that were asked for
std::vector<std::byte> write_associate_accept(const AssociateRequest& request,
                                              std::span<const AnsweredContext> contexts, std::uint32_t max_pdu,
                                              std::span<const RoleSelection> roles = {});

// --- the requestor's side
/// `echoed` of the request is not used: the titles are written. The implementation is ours.
std::vector<std::byte> write_associate_request(const AssociateRequest& request);

struct AssociateAccept {
    std::vector<AnsweredContext> contexts;  ///< without their abstract syntaxes: the answer does not repeat them
    std::vector<RoleSelection> roles;
    std::uint32_t max_pdu = 0;  ///< 0: no limit
};
/// @param body  the PDU without its 6-byte header
Result<AssociateAccept> parse_associate_accept(std::span<const std::byte> body);

/// The numbers of PS3.8 Table 9-21.
struct Rejection {
    std::uint8_t result = 1;  ///< 1 permanent, 2 transient
    std::uint8_t source = 1;  ///< 1 user, 2 provider (ACSE), 3 provider (presentation)
    std::uint8_t reason = 1;
};
inline constexpr Rejection kRejectApplicationContext{1, 1, 2};
inline constexpr Rejection kRejectCallingAe{1, 1, 3};
inline constexpr Rejection kRejectCalledAe{1, 1, 7};
inline constexpr Rejection kRejectProtocolVersion{1, 2, 2};
inline constexpr Rejection kRejectTooMany{2, 3, 2};  // transient, local limit exceeded
std::vector<std::byte> write_associate_reject(Rejection rejection);

/// PS3.8 Table 9-26.
enum class AbortReason : std::uint8_t {
    NotSpecified = 0,
    UnrecognizedPdu = 1,
    UnexpectedPdu = 2,
    UnrecognizedParameter = 4,
    UnexpectedParameter = 5,
    InvalidParameter = 6,
};
std::vector<std::byte> write_abort(std::uint8_t source, AbortReason reason);
std::vector<std::byte> write_release_request();
std::vector<std::byte> write_release_response();

/// One presentation data value of a P-DATA-TF PDU; `bytes` points into the PDU.
struct DataValue {
    std::uint8_t context_id = 0;
    bool command = false;
    bool last = false;
    std::span<const std::byte> bytes;
};
/// All values of a P-DATA-TF body. Reject: a value shorter than 2 or past its PDU, or none at all.
Result<std::vector<DataValue>> parse_data_values(std::span<const std::byte> body);

/// A message as P-DATA-TF PDUs no longer than the peer takes. @param peer_max_pdu  0: no limit
std::vector<std::byte> write_data_pdus(std::uint8_t context_id, bool command, std::span<const std::byte> message,
                                       std::uint32_t peer_max_pdu);

}  // namespace cardionode
