#include <openjpeg.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "pipeline/read/decode_codecs.h"

namespace cardionode::decode {

namespace {

struct Source {
    std::span<const std::byte> bytes;
    std::size_t at = 0;
};

OPJ_SIZE_T read_some(void* to, OPJ_SIZE_T wanted, void* user) {
    auto* s = static_cast<Source*>(user);
    const std::size_t n = std::min<std::size_t>(wanted, s->bytes.size() - s->at);
    if (n == 0) return static_cast<OPJ_SIZE_T>(-1);
    std::memcpy(to, s->bytes.data() + s->at, n);
    s->at += n;
    return n;
}

OPJ_OFF_T skip_some(OPJ_OFF_T wanted, void* user) {
    auto* s = static_cast<Source*>(user);
    if (wanted < 0) return -1;
    const std::size_t n = std::min<std::size_t>(static_cast<std::size_t>(wanted), s->bytes.size() - s->at);
    if (n == 0 && wanted > 0) return -1;
    s->at += n;
    return static_cast<OPJ_OFF_T>(n);
}

OPJ_BOOL seek_to(OPJ_OFF_T position, void* user) {
    auto* s = static_cast<Source*>(user);
    if (position < 0 || static_cast<std::size_t>(position) > s->bytes.size()) return OPJ_FALSE;
    s->at = static_cast<std::size_t>(position);
    return OPJ_TRUE;
}

void keep_first(const char* message, void* user) {
    auto* text = static_cast<std::string*>(user);
    if (text->empty() && message != nullptr) *text = message;
}

struct FreeCodec {
    void operator()(opj_codec_t* c) const { opj_destroy_codec(c); }
};
struct FreeStream {
    void operator()(opj_stream_t* s) const { opj_stream_destroy(s); }
};
struct FreeImage {
    void operator()(opj_image_t* i) const { opj_image_destroy(i); }
};

Decoded failure(std::string reason) {
    Decoded d;
    for (char& c : reason) {
        if (c < 0x20 || c > 0x7e) c = ' ';
    }
    d.reason = std::move(reason);
    return d;
}

}  // namespace

Decoded decode_jpeg_2000(const Request& request, std::span<const std::byte> codestream) {
    // A bare codestream starts with SOC; some writers wrap it in a JP2 file, against PS3.5 A.4.4.
    constexpr std::array<unsigned char, 4> kSoc = {0xff, 0x4f, 0xff, 0x51};
    constexpr std::array<unsigned char, 8> kJp2 = {0, 0, 0, 12, 'j', 'P', ' ', ' '};
    OPJ_CODEC_FORMAT format = OPJ_CODEC_J2K;
    if (codestream.size() > 12 && std::memcmp(codestream.data(), kJp2.data(), kJp2.size()) == 0) format = OPJ_CODEC_JP2;
    else if (codestream.size() < 4 || std::memcmp(codestream.data(), kSoc.data(), kSoc.size()) != 0) {
        return failure("the compressed image is damaged");
    }
    std::string complaint;  // outlives the codec, which writes to it
    Source source{codestream};
    std::unique_ptr<opj_stream_t, FreeStream> stream(opj_stream_create(1 << 16, OPJ_TRUE));
    std::unique_ptr<opj_codec_t, FreeCodec> codec(opj_create_decompress(format));
    if (!stream || !codec) return failure("no memory for the compressed image");
    opj_stream_set_read_function(stream.get(), read_some);
    opj_stream_set_skip_function(stream.get(), skip_some);
    opj_stream_set_seek_function(stream.get(), seek_to);
    opj_stream_set_user_data(stream.get(), &source, nullptr);
    opj_stream_set_user_data_length(stream.get(), codestream.size());
    opj_set_error_handler(codec.get(), keep_first, &complaint);
    opj_set_warning_handler(codec.get(), keep_first, &complaint);
    opj_dparameters_t parameters;
    opj_set_default_decoder_parameters(&parameters);
    if (opj_setup_decoder(codec.get(), &parameters) == OPJ_FALSE ||
        opj_decoder_set_strict_mode(codec.get(), OPJ_TRUE) == OPJ_FALSE) {
        return failure("the JPEG 2000 decoder could not be set up");
    }
    const auto damaged = [&] {
        return failure("the compressed image is damaged" + (complaint.empty() ? "" : " (" + complaint + ")"));
    };
    opj_image_t* raw = nullptr;
    if (opj_read_header(stream.get(), codec.get(), &raw) == OPJ_FALSE || raw == nullptr) return damaged();
    const std::unique_ptr<opj_image_t, FreeImage> image(raw);
    // Sizes are checked before the decoder allocates by them.
    if (image->numcomps != 1) return failure("the compressed image is no grey image");
    const opj_image_comp_t& component = image->comps[0];
    if (image->x1 - image->x0 != request.columns || image->y1 - image->y0 != request.rows || component.dx != 1 ||
        component.dy != 1) {
        return failure("the compressed image has another size than the header says");
    }
    if (component.prec < 1 || component.prec > 16) return failure("the compressed image has an unknown depth");
    if (opj_decode(codec.get(), stream.get(), image.get()) == OPJ_FALSE ||
        opj_end_decompress(codec.get(), stream.get()) == OPJ_FALSE || !complaint.empty()) {
        return damaged();
    }
    const opj_image_comp_t& done = image->comps[0];
    if (done.data == nullptr || done.w != request.columns || done.h != request.rows) return damaged();
    Decoded d;
    const std::size_t count = static_cast<std::size_t>(request.rows) * request.columns;
    d.values.resize(count);
    for (std::size_t p = 0; p < count; ++p) d.values[p] = static_cast<std::uint16_t>(done.data[p]);
    d.precision = done.prec;
    d.is_signed = done.sgnd != 0 ? 1 : 0;
    return d;
}

}  // namespace cardionode::decode
