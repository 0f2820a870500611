// Bytes as base64 text (RFC 4648, section 4, with padding).
//
// Thread safety: pure function. Header only, no dependencies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
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

/// Nothing for anything but the one text that to_base64 gives: no blanks, no missing padding, no stray bits.
inline std::optional<std::string> from_base64(std::string_view text) {
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (text.size() % 4 != 0) return std::nullopt;
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3);
    for (std::size_t at = 0; at < text.size(); at += 4) {
        std::uint32_t group = 0;
        for (std::size_t n = 0; n < 4; ++n) {
            const char c = text[at + n];
            const auto digit = kDigits.find(c);
            if (digit == std::string_view::npos && c != '=') return std::nullopt;
            group = group << 6 | (c == '=' ? 0U : static_cast<std::uint32_t>(digit));
        }
        for (std::size_t n = 0; n < 3; ++n) bytes += static_cast<char>(group >> (16 - 8 * n) & 0xffU);
    }
    if (!text.empty() && text.back() == '=') bytes.resize(bytes.size() - (text[text.size() - 2] == '=' ? 2 : 1));
    if (to_base64(bytes) != text) return std::nullopt;
    return bytes;
}

}  // namespace cardionode
