// Bytes as base64 text (RFC 4648, section 4, with padding).
//
// Thread safety: pure function. Header only, no dependencies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cardionode {

inline std::string to_base64(std::string_view bytes) {
    constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        std::uint32_t group = 0;
        for (std::size_t n = 0; n < 3; ++n) {
            group = group << 8 | (at + n < bytes.size() ? static_cast<unsigned char>(bytes[at + n]) : 0U);
        }
        for (std::size_t n = 0; n < 4; ++n) {
            text += at + n > bytes.size() ? '=' : kDigits[group >> (18 - 6 * n) & 63U];
        }
    }
    return text;
}

}  // namespace cardionode
