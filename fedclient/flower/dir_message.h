// The files of the dir transport as text: message.json, reply.json, SHA256SUMS. The format stands in dir_transport.h.
//
// Thread safety: pure functions. Errors: Reject for a foreign text that is not as it should be; Bug for a reply of our
// own that cannot be written.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "conf/base/result.h"
#include "fedclient/flower/transport.h"

namespace cardionode::fed {

inline constexpr const char* kSumsFile = "SHA256SUMS";
inline constexpr const char* kMessageFile = "message.json";
inline constexpr const char* kReplyFile = "reply.json";
inline constexpr const char* kReplyWeights = "arrays.safetensors";

/// Letters, digits, '.', '_', '-', at most 128, the first a letter or digit: safe as the name of a file or folder.
bool is_plain_name(std::string_view name);
/// A foreign text as it may stand in a message: printable ASCII, not longer than a line.
std::string shown_text(std::string_view text);

struct DirMessage {
    Incoming incoming;                          ///< without folder
    std::map<std::string, std::string> arrays;  ///< record name -> file name
    std::map<std::string, Record> configs, metrics;
};

Result<DirMessage> parse_dir_message(const std::string& json);
/// Deterministic: the same reply gives the same text.
Result<std::string> dir_reply_text(const Incoming& message, const Reply& reply);

/// File name -> SHA-256 in lower-case hex.
using Sums = std::map<std::string, std::string>;
Result<Sums> parse_sums(const std::string& text);
std::string sums_text(const Sums& sums);

}  // namespace cardionode::fed
