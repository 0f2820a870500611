// DIMSE command sets (PS3.7 9.3, E.1): a flat list of group 0000 elements in Implicit VR Little Endian.
//
// Thread safety: pure functions. Errors: Reject, with the reason in words, never a value.
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

inline constexpr std::size_t kMaxCommandBytes = 16 * 1024;  ///< real ones stay under 1 kB

namespace command_field {
inline constexpr std::uint16_t kStoreRequest = 0x0001;
inline constexpr std::uint16_t kEchoRequest = 0x0030;
inline constexpr std::uint16_t kEventReportRequest = 0x0100;
inline constexpr std::uint16_t kActionRequest = 0x0130;
inline constexpr std::uint16_t kCancelRequest = 0x0fff;
inline constexpr std::uint16_t kResponseBit = 0x8000;
}  // namespace command_field

namespace status {
inline constexpr std::uint16_t kSuccess = 0x0000;
inline constexpr std::uint16_t kProcessingFailure = 0x0110;
inline constexpr std::uint16_t kNoSuchInstance = 0x0112;
inline constexpr std::uint16_t kNoSuchEventType = 0x0113;
inline constexpr std::uint16_t kInvalidArgument = 0x0115;
inline constexpr std::uint16_t kNoSuchClass = 0x0118;
inline constexpr std::uint16_t kClassNotSupported = 0x0122;
inline constexpr std::uint16_t kNoSuchAction = 0x0123;
inline constexpr std::uint16_t kNotAuthorized = 0x0124;
inline constexpr std::uint16_t kResourceLimitation = 0x0213;
inline constexpr std::uint16_t kUnrecognizedOperation = 0x0211;
inline constexpr std::uint16_t kOutOfResources = 0xa700;
inline constexpr std::uint16_t kDataSetDoesNotMatch = 0xa900;
inline constexpr std::uint16_t kCannotUnderstand = 0xc000;
}  // namespace status

struct Command {
    std::uint16_t field = 0;
    std::uint16_t message_id = 0;  ///< of a request, or the one that a response responds to
    bool has_data_set = false;
    std::string sop_class_uid;     ///< Affected or Requested SOP Class UID, as sent, without padding; may be no UID
    std::string sop_instance_uid;  ///< Affected or Requested SOP Instance UID, likewise
    std::uint16_t type_id = 0;     ///< Event Type ID of an N-EVENT-REPORT, Action Type ID of an N-ACTION
    std::uint16_t status = 0;      ///< of a response

    bool is_response() const { return (field & command_field::kResponseBit) != 0; }
};

/// Refuses what has no Command Field, Message ID or Command Data Set Type (a response: no Message ID Being Responded
/// To), an element past the end or twice.
Result<Command> parse_command(std::span<const std::byte> bytes);

/// A request of the normalised services that carries a data set: `field`, `message_id`, UIDs and `type_id` are used.
std::vector<std::byte> write_request(const Command& request);

/// A response to `request`. @param comment  for people, at most 64 characters are sent
std::vector<std::byte> write_response(const Command& request, std::uint16_t status, std::string_view comment = {});

}  // namespace cardionode
