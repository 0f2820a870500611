#include "pipeline/read/pixels.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dcdatset.h>
#include <dcmtk/dcmdata/dcdeftag.h>
#include <dcmtk/dcmdata/dcfcache.h>
#include <dcmtk/dcmdata/dcpixel.h>
#include <dcmtk/dcmdata/dcpixseq.h>
#include <dcmtk/dcmdata/dcpxitem.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "pipeline/read/decoder_process.h"
#include "pipeline/read/dicom_file.h"

namespace cardionode {

namespace {

constexpr int kFramesPerDecoder = 2048;

std::optional<decode::Codec> codec_of(std::string_view uid) {
    using decode::Codec;
    constexpr std::array<std::pair<std::string_view, Codec>, 11> kCodecs = {{
        {"1.2.840.10008.1.2.4.50", Codec::JpegBaseline},
        {"1.2.840.10008.1.2.4.51", Codec::JpegExtended},
        {"1.2.840.10008.1.2.4.53", Codec::JpegSpectral},
        {"1.2.840.10008.1.2.4.55", Codec::JpegProgressive},
        {"1.2.840.10008.1.2.4.57", Codec::JpegLossless},
        {"1.2.840.10008.1.2.4.70", Codec::JpegLosslessSv1},
        {"1.2.840.10008.1.2.4.80", Codec::JpegLs},
        {"1.2.840.10008.1.2.4.81", Codec::JpegLs},
        {"1.2.840.10008.1.2.5", Codec::Rle},
        {"1.2.840.10008.1.2.4.90", Codec::Jpeg2000},
        {"1.2.840.10008.1.2.4.91", Codec::Jpeg2000},
    }};
    for (const auto& [known, codec] : kCodecs) {
        if (uid == known) return codec;
    }
    return std::nullopt;
}

bool is_uncompressed(std::string_view uid) {
    return uid == "1.2.840.10008.1.2" || uid == "1.2.840.10008.1.2.1" || uid == "1.2.840.10008.1.2.2" ||
           uid == "1.2.840.10008.1.2.1.99";
}

using Bytes = std::span<const std::byte>;

bool starts_codestream(decode::Codec codec, Bytes s) {
    if (codec == decode::Codec::Jpeg2000) {
        return (s.size() >= 4 && s[0] == std::byte{0xff} && s[1] == std::byte{0x4f} && s[2] == std::byte{0xff} &&
                s[3] == std::byte{0x51}) ||
               (s.size() >= 8 && s[0] == std::byte{0} && s[3] == std::byte{12} && s[4] == std::byte{'j'});
    }
    return s.size() >= 3 && s[0] == std::byte{0xff} && s[1] == std::byte{0xd8} && s[2] == std::byte{0xff};
}

/// For each frame the index of its first fragment; one entry more for the end.
Result<std::vector<std::size_t>> frame_starts(const std::vector<Bytes>& fragments, Bytes table, int frames,
                                              decode::Codec codec) {
    const auto wanted = static_cast<std::size_t>(frames);
    std::vector<std::size_t> starts;
    if (fragments.empty()) return reject_error("the image has no pixels");
    if (wanted == 1) return std::vector<std::size_t>{0, fragments.size()};
    if (fragments.size() == wanted) {
        for (std::size_t f = 0; f <= wanted; ++f) starts.push_back(f);
        return starts;
    }
    if (table.size() == 4 * wanted) {
        std::size_t offset = 0;
        std::size_t next = 0;
        for (std::size_t f = 0; f < fragments.size() && next < wanted; ++f) {
            if (decode::get(table, next) == offset) {
                starts.push_back(f);
                ++next;
            }
            offset += 8 + fragments[f].size();
        }
    } else if (codec != decode::Codec::Rle) {  // an RLE frame is one fragment (PS3.5 A.4.2)
        for (std::size_t f = 0; f < fragments.size(); ++f) {
            if (starts_codestream(codec, fragments[f])) starts.push_back(f);
        }
    }
    if (starts.size() != wanted || starts.front() != 0) {
        return reject_error("the compressed image does not say which of its parts belong to which frame");
    }
    starts.push_back(fragments.size());
    return starts;
}

}  // namespace

struct PixelReader::State {
    ReadLimits limits;
    std::filesystem::path open_path;
    std::optional<DicomFile> open;
    std::unique_ptr<DcmFileCache> cache;
    std::vector<Bytes> fragments;  ///< views into `open`
    std::vector<std::size_t> starts;
    std::optional<DecoderProcess> decoder;
    int decoded = 0;

    void close() {
        fragments.clear();
        starts.clear();
        cache.reset();
        open.reset();
        open_path.clear();
    }
    Result<DcmPixelData*> pixel_data(const InstanceFacts& instance);
    Result<void> find_fragments(const InstanceFacts& instance, DcmPixelData& pixels, decode::Codec codec);
    Result<std::vector<std::int32_t>> uncompressed(const InstanceFacts& instance, DcmPixelData& pixels, int frame);
    Result<std::vector<std::int32_t>> compressed(const InstanceFacts& instance, DcmPixelData& pixels,
                                                 decode::Codec codec, int frame);
};

PixelReader::PixelReader(ReadLimits limits) : state_(std::make_unique<State>()) { state_->limits = std::move(limits); }
PixelReader::PixelReader(PixelReader&&) noexcept = default;
PixelReader& PixelReader::operator=(PixelReader&&) noexcept = default;
PixelReader::~PixelReader() = default;

Result<DcmPixelData*> PixelReader::State::pixel_data(const InstanceFacts& instance) {
    if (!open || open_path != instance.file) {
        close();
        Result<DicomFile> opened = DicomFile::open(instance.file, DicomFile::Part::Whole, limits.max_file_bytes);
        if (!opened) return std::move(opened).error();
        open = std::move(opened).value();
        open_path = instance.file;
        cache = std::make_unique<DcmFileCache>();
    }
    DcmElement* element = nullptr;
    if (open->dataset().findAndGetElement(DCM_PixelData, element).bad() || element == nullptr) {
        return reject_error("the image has no pixels");
    }
    auto* pixels = dynamic_cast<DcmPixelData*>(element);
    if (pixels == nullptr) return reject_error("the image has no pixels");
    return pixels;
}

Result<void> PixelReader::State::find_fragments(const InstanceFacts& instance, DcmPixelData& pixels,
                                                decode::Codec codec) {
    if (!starts.empty()) return {};
    E_TransferSyntax syntax = EXS_Unknown;
    const DcmRepresentationParameter* parameter = nullptr;
    pixels.getOriginalRepresentationKey(syntax, parameter);
    DcmPixelSequence* sequence = nullptr;
    if (pixels.getEncapsulatedRepresentation(syntax, parameter, sequence).bad() || sequence == nullptr) {
        return reject_error("the compressed image is damaged (no parts)");
    }
    Bytes table;
    fragments.clear();
    const unsigned long items = sequence->card();
    for (unsigned long n = 0; n < items; ++n) {
        DcmPixelItem* item = nullptr;
        Uint8* bytes = nullptr;
        if (sequence->getItem(item, n).bad() || item == nullptr) return reject_error("the compressed image is damaged");
        const std::size_t length = item->getLength();
        if (length > 0 && (item->getUint8Array(bytes).bad() || bytes == nullptr)) {
            return reject_error("the compressed image is cut off");
        }
        const Bytes view(reinterpret_cast<const std::byte*>(bytes), length);
        if (n == 0) table = view;
        else fragments.push_back(view);
    }
    Result<std::vector<std::size_t>> found =
        frame_starts(fragments, table, std::max<int>(1, static_cast<int>(instance.frames.size())), codec);
    if (!found) return std::move(found).error();
    starts = std::move(found).value();
    return {};
}

Result<std::vector<std::int32_t>> PixelReader::State::uncompressed(const InstanceFacts& instance, DcmPixelData& pixels,
                                                                   int frame) {
    const PixelLayout& p = instance.pixels;
    const std::size_t count = static_cast<std::size_t>(p.rows) * static_cast<std::size_t>(p.columns);
    const std::size_t sample = p.bits_allocated == 8 ? 1 : 2;
    const std::uint64_t end = (static_cast<std::uint64_t>(frame) + 1) * count * sample;
    if (pixels.getLength(open->dataset().getOriginalXfer()) < end) return reject_error("the pixels are cut off");
    std::vector<std::uint16_t> values(count);
    std::vector<std::uint8_t> bytes(sample == 1 ? count : 0);
    void* to = sample == 1 ? static_cast<void*>(bytes.data()) : values.data();
    if (pixels
            .getPartialValue(to, static_cast<Uint32>(end - count * sample), static_cast<Uint32>(count * sample),
                             cache.get())
            .bad()) {
        return reject_error("the pixels are cut off");
    }
    const int shift = p.high_bit + 1 - p.bits_stored;
    const std::uint32_t mask = (1U << p.bits_stored) - 1;
    const std::uint32_t sign = p.is_signed ? 1U << (p.bits_stored - 1) : 0;
    std::vector<std::int32_t> out(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t raw = sample == 1 ? bytes[i] : values[i];
        const std::uint32_t v = raw >> shift & mask;
        out[i] = static_cast<std::int32_t>(v ^ sign) - static_cast<std::int32_t>(sign);
    }
    return out;
}

Result<std::vector<std::int32_t>> PixelReader::State::compressed(const InstanceFacts& instance, DcmPixelData& pixels,
                                                                 decode::Codec codec, int frame) {
    if (Result<void> found = find_fragments(instance, pixels, codec); !found) return std::move(found).error();
    const std::size_t first = starts.at(static_cast<std::size_t>(frame));
    const std::size_t last = starts.at(static_cast<std::size_t>(frame) + 1);
    std::vector<std::byte> codestream;
    for (std::size_t f = first; f < last; ++f) {
        codestream.insert(codestream.end(), fragments[f].begin(), fragments[f].end());
        if (codestream.size() > decode::kMaxCodestream) return reject_error("the compressed image is too large");
    }
    if (!decoder || decoded >= kFramesPerDecoder) {
        decoder.reset();
        Result<DecoderProcess> started =
            DecoderProcess::start(limits.decoder, std::chrono::seconds(limits.frame_timeout_seconds));
        if (!started) return std::move(started).error();
        decoder = std::move(started).value();
        decoded = 0;
    }
    const PixelLayout& p = instance.pixels;
    decode::Request request;
    request.codec = codec;
    request.rows = static_cast<std::uint32_t>(p.rows);
    request.columns = static_cast<std::uint32_t>(p.columns);
    request.bits_allocated = static_cast<std::uint32_t>(p.bits_allocated);
    request.bits_stored = static_cast<std::uint32_t>(p.bits_stored);
    request.is_signed = p.is_signed ? 1 : 0;
    Result<DecodedFrame> frame_values = decoder->decode(request, codestream);
    if (!frame_values) {
        decoder.reset();
        return std::move(frame_values).error();
    }
    ++decoded;
    // Header and JPEG 2000 codestream may disagree on the sign (PS3.5 A.4.4). Signed in the codestream: its values are
    // the values. Unsigned there but signed in the header: two's complement of the codestream's depth, which is what
    // writers that hand signed samples to an unsigned encoder leave behind. JPEG and RLE know no sign: the header's.
    const bool is_signed = frame_values->is_signed || p.is_signed;
    const int bits = codec == decode::Codec::Jpeg2000 ? frame_values->precision : std::min(p.bits_stored, 16);
    const std::uint32_t mask = (1U << bits) - 1;
    const std::uint32_t sign = is_signed ? 1U << (bits - 1) : 0;
    std::vector<std::int32_t> out(frame_values->values.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
        const std::uint32_t v = frame_values->values[i] & mask;
        out[i] = static_cast<std::int32_t>(v ^ sign) - static_cast<std::int32_t>(sign);
    }
    return out;
}

Result<std::vector<std::int32_t>> PixelReader::read_stored(const InstanceFacts& instance, int frame) {
    Result<DcmPixelData*> pixels = state_->pixel_data(instance);
    if (!pixels) return std::move(pixels).error();
    if (is_uncompressed(instance.transfer_syntax_uid)) return state_->uncompressed(instance, **pixels, frame);
    if (const auto codec = codec_of(instance.transfer_syntax_uid)) {
        return state_->compressed(instance, **pixels, *codec, frame);
    }
    return reject_error(cannot_decode(instance.transfer_syntax_uid));
}

Result<void> PixelReader::read_hu(const InstanceFacts& instance, const FrameFacts& frame, std::span<float> hu) {
    if (!frame.slope || !frame.intercept || *frame.slope == 0) {
        return reject_error("no rescale slope and intercept: the pixels cannot be turned into Hounsfield units");
    }
    Result<std::vector<std::int32_t>> stored = read_stored(instance, std::max(0, frame.frame - 1));
    if (!stored) return std::move(stored).error();
    if (stored->size() != hu.size()) return bug_error("a frame of another size than its header says");
    const PixelLayout& p = instance.pixels;
    const auto slope = static_cast<float>(*frame.slope);
    const auto intercept = static_cast<float>(*frame.intercept);
    for (std::size_t i = 0; i < hu.size(); ++i) {
        const std::int32_t v = (*stored)[i];
        const bool padding = p.padding_low && v >= *p.padding_low && v <= *p.padding_high;
        const float value = static_cast<float>(v) * slope + intercept;
        hu[i] = padding || value < kLowestHu ? kAirHu : value;
    }
    return {};
}

}  // namespace cardionode
