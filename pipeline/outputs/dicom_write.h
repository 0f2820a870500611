// Small hands for building DICOM data sets with DCMTK, used inside pipeline/outputs only.
//
// Texts are taken as they are: already in the data set's character set (OutputContext::text). A value that DCMTK
// refuses is a mistake of ours and throws std::logic_error, which write_outputs turns into a Bug. Thread safety: as the
// data set.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "conf/base/result.h"
#include "pipeline/volume/findings.h"

class DcmDataset;
class DcmItem;
class DcmTagKey;

namespace cardionode::dicom {

/// Puts or replaces an element; an empty value makes an empty element (type 2).
void put(DcmItem& item, const DcmTagKey& tag, const std::string& value);
void put_us(DcmItem& item, const DcmTagKey& tag, std::uint16_t value);

/// Our own text in an LO, SH or PN: control characters and backslashes become spaces, cut at the longest length of the
/// VR without breaking a UTF-8 character.
void put_short_text(DcmItem& item, const DcmTagKey& tag, const std::string& value);

/// Appends an item to a sequence, which is made when it is missing. Valid as long as `parent`.
DcmItem& append_item(DcmItem& parent, const DcmTagKey& sequence);

/// Appends a coded concept (PS3.3 8.8). A code value of more than 16 characters goes to Long Code Value.
void append_code(DcmItem& parent, const DcmTagKey& sequence, const Code& code);

/// A number as DS: at most 16 characters, as many digits as fit (PS3.5 6.2).
std::string decimal_string(double value);

std::string text_of(DcmItem& item, const DcmTagKey& tag);

/// Writes a Part 10 file, uncompressed Explicit VR Little Endian, so that it is durable and whole or not there at all.
/// Retry: disk full or I/O error. Config: the folder cannot be written.
Result<void> save(DcmDataset& dataset, const std::filesystem::path& file);

}  // namespace cardionode::dicom
