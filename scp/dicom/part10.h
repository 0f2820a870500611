// The meta header that turns a received data set into a DICOM file (PS3.10 7.1), and reading back our own.
//
// The preamble is zeros (a preamble taken from a peer can make the file a program as well, CVE-2019-11687).
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

struct FileMeta {
    std::string sop_class_uid;
    std::string sop_instance_uid;
    std::string transfer_syntax_uid;
    std::string sending_ae_title;    ///< (0002,0017), may be empty
    std::string receiving_ae_title;  ///< (0002,0018), may be empty
};

/// Preamble, "DICM" and group 0002. The data set follows unchanged.
std::vector<std::byte> write_file_meta(const FileMeta& meta);

struct ParsedFileMeta {
    FileMeta meta;
    std::size_t data_set_offset = 0;
};

/// The longest meta header that is read.
inline constexpr std::size_t kMaxFileMetaBytes = 4096;

/// @param beginning  the first bytes of a file, at least the whole meta header.
/// Reject: not a DICOM file, or a meta header that goes past `beginning`.
Result<ParsedFileMeta> parse_file_meta(std::span<const std::byte> beginning);

}  // namespace cardionode
