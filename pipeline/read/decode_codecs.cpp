#include "pipeline/read/decode_codecs.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dcdatset.h>
#include <dcmtk/dcmdata/dcdeftag.h>
#include <dcmtk/dcmdata/dcdict.h>
#include <dcmtk/dcmdata/dcpixel.h>
#include <dcmtk/dcmdata/dcpixseq.h>
#include <dcmtk/dcmdata/dcpxitem.h>
#include <dcmtk/dcmdata/dcrledrg.h>
#include <dcmtk/dcmjpeg/djdecode.h>
#include <dcmtk/dcmjpls/djdecode.h>
#include <dcmtk/oflog/appender.h>
#include <dcmtk/oflog/oflog.h>
#include <dcmtk/oflog/spi/logevent.h>

#include <exception>
#include <memory>
#include <optional>

namespace cardionode::decode {

namespace {

/// Keeps the first warning or error that a codec writes to DCMTK's log while a frame is decoded.
class Complaints final : public dcmtk::log4cplus::Appender {
public:
    ~Complaints() override { destructorImpl(); }
    void close() override {}
    void clear() {
        any_ = false;
        first_.clear();
    }
    bool any() const { return any_; }
    const std::string& first() const { return first_; }

protected:
    void append(const dcmtk::log4cplus::spi::InternalLoggingEvent& event) override {
        if (event.getLogLevel() < dcmtk::log4cplus::WARN_LOG_LEVEL || any_) return;
        any_ = true;
        first_.assign(event.getMessage().c_str(), event.getMessage().size());
    }

private:
    bool any_ = false;
    std::string first_;
};

Complaints* complaints = nullptr;  // owned by the logger for the life of the process

std::string plain(std::string text) {
    for (char& c : text) {
        if (c < 0x20 || c > 0x7e) c = ' ';
    }
    return text;
}

Decoded failure(std::string reason) {
    Decoded d;
    d.reason = plain(std::move(reason));
    return d;
}

E_TransferSyntax syntax_of(Codec codec) {
    switch (codec) {
        case Codec::JpegBaseline: return EXS_JPEGProcess1;
        case Codec::JpegExtended: return EXS_JPEGProcess2_4;
        case Codec::JpegSpectral: return EXS_JPEGProcess6_8;
        case Codec::JpegProgressive: return EXS_JPEGProcess10_12;
        case Codec::JpegLossless: return EXS_JPEGProcess14;
        case Codec::JpegLosslessSv1: return EXS_JPEGProcess14SV1;
        case Codec::JpegLs: return EXS_JPEGLSLossless;
        case Codec::Rle: return EXS_RLELossless;
        case Codec::Jpeg2000: break;
    }
    return EXS_Unknown;
}

/// What the frame header (SOF0..SOF15, SOF55 for JPEG-LS) of a JPEG stream says.
struct JpegFrame {
    std::uint32_t precision, rows, columns, components;
};

std::optional<JpegFrame> jpeg_frame(std::span<const std::byte> s) {
    const auto byte = [&](std::size_t at) { return static_cast<std::uint32_t>(s[at]); };
    if (s.size() < 4 || byte(0) != 0xff || byte(1) != 0xd8) return std::nullopt;
    for (std::size_t at = 2; at + 4 <= s.size();) {
        if (byte(at) != 0xff) return std::nullopt;
        const std::uint32_t marker = byte(at + 1);
        if (marker == 0xff) {  // fill byte
            ++at;
            continue;
        }
        const std::size_t length = byte(at + 2) << 8 | byte(at + 3);
        const bool frame =
            (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) || marker == 0xf7;
        if (frame) {
            if (length < 8 || at + 10 > s.size()) return std::nullopt;
            return JpegFrame{byte(at + 4), byte(at + 5) << 8 | byte(at + 6), byte(at + 7) << 8 | byte(at + 8),
                             byte(at + 9)};
        }
        if (marker == 0xda || length < 2) return std::nullopt;
        at += 2 + length;
    }
    return std::nullopt;
}

/// libjpeg fills what is missing with grey and only warns, so the end is looked for here. Padding may follow it.
bool ends_in_end_marker(std::span<const std::byte> s) {
    std::size_t end = s.size();
    while (end > 0 && s[end - 1] == std::byte{0}) --end;
    return end >= 4 && s[end - 2] == std::byte{0xff} && s[end - 1] == std::byte{0xd9};
}

Decoded decode_by_dcmtk(const Request& r, std::span<std::byte> codestream) {
    std::uint32_t precision = r.bits_stored;
    Uint16 allocated = static_cast<Uint16>(r.bits_allocated);
    if (r.codec != Codec::Rle) {
        const std::optional<JpegFrame> frame = jpeg_frame(codestream);
        if (!frame) return failure("the compressed image is damaged");
        if (frame->rows != r.rows || frame->columns != r.columns || frame->components != 1) {
            return failure("the compressed image has another size than the header says");
        }
        if (!ends_in_end_marker(codestream)) return failure("the compressed image is cut off");
        precision = frame->precision;
        if (precision < 2 || precision > 16) return failure("the compressed image has an unknown depth");
        allocated = precision > 8 ? 16 : 8;
        if (allocated < r.bits_allocated) allocated = static_cast<Uint16>(r.bits_allocated);
    }
    DcmDataset d;
    const auto stored = static_cast<Uint16>(r.codec == Codec::Rle ? r.bits_stored : precision);
    d.putAndInsertUint16(DCM_SamplesPerPixel, 1);
    d.putAndInsertString(DCM_PhotometricInterpretation, "MONOCHROME2");
    d.putAndInsertUint16(DCM_Rows, static_cast<Uint16>(r.rows));
    d.putAndInsertUint16(DCM_Columns, static_cast<Uint16>(r.columns));
    d.putAndInsertUint16(DCM_BitsAllocated, allocated);
    d.putAndInsertUint16(DCM_BitsStored, stored);
    d.putAndInsertUint16(DCM_HighBit, static_cast<Uint16>(stored - 1));
    d.putAndInsertUint16(DCM_PixelRepresentation, static_cast<Uint16>(r.is_signed));

    auto sequence = std::make_unique<DcmPixelSequence>(DcmTag(DCM_PixelData, EVR_OB));
    auto table = std::make_unique<DcmPixelItem>(DcmTag(DCM_Item, EVR_OB));
    auto item = std::make_unique<DcmPixelItem>(DcmTag(DCM_Item, EVR_OB));
    if (item->putUint8Array(reinterpret_cast<const Uint8*>(codestream.data()), codestream.size()).bad() ||
        sequence->insert(table.get()).bad()) {
        return failure("no memory for the compressed image");
    }
    table.release();  // the sequence owns what was inserted
    if (sequence->insert(item.get()).bad()) return failure("no memory for the compressed image");
    item.release();
    auto* pixels = new DcmPixelData(DCM_PixelData);
    if (d.insert(pixels).bad()) {
        delete pixels;
        return failure("no memory for the compressed image");
    }
    pixels->putOriginalRepresentation(syntax_of(r.codec), nullptr, sequence.release());

    const std::size_t count = static_cast<std::size_t>(r.rows) * r.columns;
    Decoded out;
    std::vector<std::uint16_t> values(count);
    std::vector<std::uint8_t> bytes(allocated == 8 ? count + count % 2 : 0);
    void* buffer = allocated == 8 ? static_cast<void*>(bytes.data()) : values.data();
    const std::size_t room = allocated == 8 ? bytes.size() : 2 * count;
    Uint32 fragment = 0;
    OFString model;
    complaints->clear();
    const OFCondition done = pixels->getUncompressedFrame(&d, 0, fragment, buffer, static_cast<Uint32>(room), model);
    if (done.bad()) return failure(std::string("the compressed image is damaged (") + done.text() + ")");
    if (complaints->any()) return failure("the compressed image is damaged (" + complaints->first() + ")");
    if (allocated == 8) {
        for (std::size_t p = 0; p < count; ++p) values[p] = bytes[p];
    }
    out.values = std::move(values);
    out.precision = precision;
    out.is_signed = r.is_signed;
    return out;
}

}  // namespace

void prepare_codecs() {
    (void)dcmDataDict.isDictionaryLoaded();
    DJDecoderRegistration::registerCodecs();
    DJLSDecoderRegistration::registerCodecs();
    DcmRLEDecoderRegistration::registerCodecs();
    dcmtk::log4cplus::Logger root = dcmtk::log4cplus::Logger::getRoot();
    OFLog::configure(OFLogger::WARN_LOG_LEVEL);
    root.removeAllAppenders();
    complaints = new Complaints;
    root.addAppender(dcmtk::log4cplus::SharedAppenderPtr(complaints));
    // One decode of each kind before the sandbox closes, so that whatever is loaded lazily is there.
    Request tiny{Codec::Rle, 1, 1, 8, 8, 0, 66};
    std::vector<std::byte> rle(66);
    rle[0] = std::byte{1};
    rle[4] = std::byte{64};
    (void)decode_frame(tiny, rle);
}

Decoded decode_frame(const Request& request, std::span<std::byte> codestream) {
    try {
        if (request.codec == Codec::Jpeg2000) return decode_jpeg_2000(request, codestream);
        return decode_by_dcmtk(request, codestream);
    } catch (const std::bad_alloc&) {
        return failure("the compressed image needs more memory than any CT image does");
    } catch (const std::exception&) {
        return failure("the compressed image is damaged");
    }
}

}  // namespace cardionode::decode
