// Small data sets made by hand, in each of the encodings, right or wrong.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/instance.h"

namespace cardionode::test {

inline constexpr std::string_view kCtImage = "1.2.840.10008.5.1.4.1.1.2";
inline constexpr std::string_view kImplicit = "1.2.840.10008.1.2";
inline constexpr std::string_view kExplicit = "1.2.840.10008.1.2.1";
inline constexpr std::string_view kDeflated = "1.2.840.10008.1.2.1.99";
inline constexpr std::string_view kBigEndian = "1.2.840.10008.1.2.2";
inline constexpr std::string_view kJpegLossless = "1.2.840.10008.1.2.4.70";
inline constexpr std::uint32_t kUndefinedLength = 0xffffffff;

/// Appends elements; the bytes are `bytes`.
class DataSet {
public:
    explicit DataSet(std::string_view transfer_syntax)
        : implicit_(transfer_syntax == kImplicit), big_(transfer_syntax == kBigEndian) {}

    std::vector<std::uint8_t> bytes;

    DataSet& number(std::uint64_t value, int width) {
        for (int i = 0; i < width; ++i)
            bytes.push_back(static_cast<std::uint8_t>(value >> 8 * (big_ ? width - 1 - i : i)));
        return *this;
    }
    DataSet& header(std::uint32_t tag, std::string_view vr, std::uint32_t length) {
        number(tag >> 16, 2).number(tag & 0xffff, 2);
        if (implicit_ || tag >> 16 == 0xfffe) return number(length, 4);
        bytes.insert(bytes.end(), vr.begin(), vr.end());
        const bool long_form = vr == "OB" || vr == "OW" || vr == "SQ" || vr == "UN" || vr == "UT";
        return long_form ? number(0, 2).number(length, 4) : number(length, 2);
    }
    DataSet& element(std::uint32_t tag, std::string_view vr, std::string value) {
        if (value.size() % 2 == 1) value += vr == "UI" ? '\0' : ' ';
        header(tag, vr, static_cast<std::uint32_t>(value.size()));
        bytes.insert(bytes.end(), value.begin(), value.end());
        return *this;
    }
    DataSet& item(std::uint32_t length = kUndefinedLength) { return header(0xfffee000, "", length); }
    DataSet& end_item() { return header(0xfffee00d, "", 0); }
    DataSet& end_sequence() { return header(0xfffee0dd, "", 0); }
    /// Class, instance, modality, study and series: what an instance needs.
    DataSet& identity(const std::string& instance, const std::string& study = "1.2.3.1",
                      const std::string& series = "1.2.3.1.1", std::string_view sop_class = kCtImage) {
        element(0x00080016, "UI", std::string(sop_class)).element(0x00080018, "UI", instance);
        element(0x00080060, "CS", "CT").element(0x0020000d, "UI", study);
        return element(0x0020000e, "UI", series);
    }
    DataSet& pixels(std::size_t size, std::uint8_t seed = 1) {
        header(0x7fe00010, "OW", static_cast<std::uint32_t>(size));
        std::uint32_t state = seed;
        for (std::size_t i = 0; i < size; ++i) {
            state = state * 1664525 + 1013904223;
            bytes.push_back(static_cast<std::uint8_t>(state >> 24));
        }
        return *this;
    }
    /// `levels` sequences in each other, each of undefined length.
    DataSet& nested(int levels) {
        for (int i = 0; i < levels; ++i) header(0x00081140, "SQ", kUndefinedLength).item();
        for (int i = 0; i < levels; ++i) end_item().end_sequence();
        return *this;
    }
    std::span<const std::byte> view() const { return std::as_bytes(std::span(bytes)); }

private:
    bool implicit_;
    bool big_;
};

/// Raw deflate, padded to an even length (PS3.5 A.5).
inline std::vector<std::uint8_t> deflated(const std::vector<std::uint8_t>& bytes) {
    z_stream stream{};
    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::runtime_error("deflateInit2");
    std::vector<std::uint8_t> out(deflateBound(&stream, bytes.size()) + 2);
    stream.next_in = const_cast<Bytef*>(bytes.data());
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    const int code = deflate(&stream, Z_FINISH);
    out.resize(stream.total_out + stream.total_out % 2);
    deflateEnd(&stream);
    if (code != Z_STREAM_END) throw std::runtime_error("deflate");
    return out;
}

/// A CT slice in Explicit VR Little Endian. @param number  tells instances of one study apart
inline Instance made_slice(int number, const std::string& study = "1.2.3.1", std::size_t pixel_bytes = 2000,
                           std::uint8_t content = 1) {
    Instance instance;
    instance.sop_class_uid = kCtImage;
    instance.sop_instance_uid = study + ".9." + std::to_string(number);
    instance.transfer_syntax_uid = kExplicit;
    instance.dataset =
        DataSet(kExplicit).identity(instance.sop_instance_uid, study, study + ".1").pixels(pixel_bytes, content).bytes;
    return instance;
}

}  // namespace cardionode::test
