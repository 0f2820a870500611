// What read and cardionode-decode say to each other over one stream socket (the program's standard input and output).
//
//   request:  kRequestMagic, codec, rows, columns, bits allocated, bits stored, is_signed, length   (8 x u32)
//             then `length` bytes: the whole codestream of one frame, its fragments joined
//   answer:   kAnswerMagic, status, precision, is_signed, length                                     (5 x u32)
//             status 0: `length` = rows * columns * 2 bytes, stored values as 16-bit patterns;
//             status 1: `length` <= kMaxReason bytes of printable ASCII: why the frame cannot be decoded
// All numbers are little endian. Requests come one after another; the end of the stream ends the program. Each side
// checks magic and lengths before it allocates or reads on, and treats anything else as a broken peer.
// Thread safety: values and pure functions. No dependency.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace cardionode::decode {

inline constexpr std::uint32_t kRequestMagic = 0x31514443;  // "CDQ1"
inline constexpr std::uint32_t kAnswerMagic = 0x31414443;   // "CDA1"
inline constexpr std::uint32_t kMaxSide = 16'384;
inline constexpr std::uint32_t kMaxPixels = 64U << 20;
inline constexpr std::uint32_t kMaxCodestream = 256U << 20;
inline constexpr std::uint32_t kMaxReason = 256;

/// One for each compressed transfer syntax that is read. The numbers are part of the protocol.
enum class Codec : std::uint32_t {
    JpegBaseline = 1,     ///< 1.2.840.10008.1.2.4.50
    JpegExtended = 2,     ///< .51
    JpegSpectral = 3,     ///< .53
    JpegProgressive = 4,  ///< .55
    JpegLossless = 5,     ///< .57
    JpegLosslessSv1 = 6,  ///< .70
    JpegLs = 7,           ///< .80 and .81
    Rle = 8,              ///< 1.2.840.10008.1.2.5
    Jpeg2000 = 9,         ///< .90 and .91
};
inline constexpr std::uint32_t kLastCodec = 9;

struct Request {
    Codec codec = Codec::JpegBaseline;
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;
    std::uint32_t bits_allocated = 16;
    std::uint32_t bits_stored = 16;
    std::uint32_t is_signed = 0;
    std::uint32_t length = 0;
};

struct Answer {
    std::uint32_t status = 0;
    std::uint32_t precision = 0;  ///< bits of a sample as the codestream says
    std::uint32_t is_signed = 0;  ///< as the codestream says (JPEG 2000), else as the request said
    std::uint32_t length = 0;
};

inline constexpr std::size_t kRequestBytes = 8 * 4;
inline constexpr std::size_t kAnswerBytes = 5 * 4;

inline void put(std::span<std::byte> to, std::size_t word, std::uint32_t value) {
    for (std::size_t b = 0; b < 4; ++b) to[4 * word + b] = static_cast<std::byte>(value >> (8 * b));
}
inline std::uint32_t get(std::span<const std::byte> from, std::size_t word) {
    std::uint32_t value = 0;
    for (std::size_t b = 4; b-- > 0;) value = value << 8 | static_cast<std::uint32_t>(from[4 * word + b]);
    return value;
}

inline std::array<std::byte, kRequestBytes> pack(const Request& r) {
    std::array<std::byte, kRequestBytes> out{};
    const std::array<std::uint32_t, 8> words = {kRequestMagic,    static_cast<std::uint32_t>(r.codec),
                                                r.rows,           r.columns,
                                                r.bits_allocated, r.bits_stored,
                                                r.is_signed,      r.length};
    for (std::size_t w = 0; w < words.size(); ++w) put(out, w, words[w]);
    return out;
}

/// false: no request of this protocol, or beyond its limits.
inline bool unpack(std::span<const std::byte, kRequestBytes> in, Request& r) {
    if (get(in, 0) != kRequestMagic || get(in, 1) < 1 || get(in, 1) > kLastCodec) return false;
    r = {static_cast<Codec>(get(in, 1)), get(in, 2), get(in, 3), get(in, 4), get(in, 5), get(in, 6), get(in, 7)};
    return r.rows >= 1 && r.rows <= kMaxSide && r.columns >= 1 && r.columns <= kMaxSide &&
           r.rows * r.columns <= kMaxPixels && (r.bits_allocated == 8 || r.bits_allocated == 16) &&
           r.bits_stored >= 1 && r.bits_stored <= r.bits_allocated && r.is_signed <= 1 && r.length >= 1 &&
           r.length <= kMaxCodestream;
}

inline std::array<std::byte, kAnswerBytes> pack(const Answer& a) {
    std::array<std::byte, kAnswerBytes> out{};
    const std::array<std::uint32_t, 5> words = {kAnswerMagic, a.status, a.precision, a.is_signed, a.length};
    for (std::size_t w = 0; w < words.size(); ++w) put(out, w, words[w]);
    return out;
}

/// false: no answer to a request for `pixels` pixels.
inline bool unpack(std::span<const std::byte, kAnswerBytes> in, std::size_t pixels, Answer& a) {
    if (get(in, 0) != kAnswerMagic) return false;
    a = {get(in, 1), get(in, 2), get(in, 3), get(in, 4)};
    if (a.status == 0) return a.length == 2 * pixels && a.precision >= 1 && a.precision <= 16 && a.is_signed <= 1;
    return a.status == 1 && a.length <= kMaxReason;
}

}  // namespace cardionode::decode
