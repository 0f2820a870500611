// One compressed frame to stored values. Runs inside cardionode-decode only, after the sandbox is closed.
//
// JPEG, JPEG-LS and RLE by DCMTK's codecs, JPEG 2000 by OpenJPEG. A decoder that warns about its input is not
// trusted: a warning is a failure, since it stands for pixels that were made up.
// Thread safety: one thread. Throws nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pipeline/read/decode_protocol.h"

namespace cardionode::decode {

struct Decoded {
    std::vector<std::uint16_t> values;  ///< empty: failed
    std::uint32_t precision = 0;
    std::uint32_t is_signed = 0;
    std::string reason;  ///< printable ASCII, why it failed
};

/// Loads dictionaries and codecs: everything that needs a file. Call once before the sandbox closes.
void prepare_codecs();

Decoded decode_frame(const Request& request, std::span<std::byte> codestream);

/// The JPEG 2000 part of decode_frame.
Decoded decode_jpeg_2000(const Request& request, std::span<const std::byte> codestream);

}  // namespace cardionode::decode
