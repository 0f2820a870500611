// DICOM unique identifiers: checking what a peer sent, and deriving our own so that a run that is repeated writes the
// same objects.
//
// Thread safety: pure functions. No DCMTK.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace cardionode {

/// 1 to 64 characters of [0-9.], components without leading zeros, none empty (PS3.5 9.1).
bool is_valid_uid(std::string_view uid);

/// A UID that depends only on `parts`, in order: "2.25." and the first 128 bits of a SHA-256 over the parts as an
/// RFC 4122 UUID, version 8, in decimal (PS3.5 B.2). The parts are separated, so ("ab","c") differs from ("a","bc").
std::string derive_uid(std::initializer_list<std::string_view> parts);

}  // namespace cardionode
