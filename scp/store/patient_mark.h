// A digest of a Patient ID that tells two patients apart and says who neither is.
//
// HMAC-SHA-256 with a random key of this spool, cut to 64 bits. The key stands in <spool>/patient.key, beside the
// images that hold the IDs anyway; what leaves the spool, the queue above all, tells nothing without it. Thread safety:
// plain functions. Errors: Config, Retry as of files.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "conf/base/result.h"

namespace cardionode {

/// Reads the key of a spool, or makes it durably where there is none yet.
Result<std::string> patient_key(const std::filesystem::path& spool);

/// 16 hex digits; empty for an ID of nothing but spaces, or without a key.
std::string patient_mark(const std::string& key, std::string_view patient_id);

}  // namespace cardionode
