#include "tests/pipeline/read/compressed_ct.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dcpixseq.h>
#include <dcmtk/dcmdata/dcpxitem.h>
#include <dcmtk/dcmdata/dctk.h>
#include <openjpeg.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>

namespace cardionode::test {

namespace {

struct Sink {
    std::vector<std::uint8_t> bytes;
    std::size_t at = 0;
};
OPJ_SIZE_T write_some(void* from, OPJ_SIZE_T n, void* user) {
    auto* s = static_cast<Sink*>(user);
    if (s->bytes.size() < s->at + n) s->bytes.resize(s->at + n);
    std::memcpy(s->bytes.data() + s->at, from, n);
    s->at += n;
    return n;
}
OPJ_BOOL seek_to(OPJ_OFF_T at, void* user) {
    static_cast<Sink*>(user)->at = static_cast<std::size_t>(at);
    return OPJ_TRUE;
}
OPJ_OFF_T skip_some(OPJ_OFF_T n, void* user) {
    static_cast<Sink*>(user)->at += static_cast<std::size_t>(n);
    return n;
}
void need(bool ok) {
    if (!ok) throw std::runtime_error("cannot write the test's image");
}

}  // namespace

std::vector<std::uint8_t> jpeg_2000(const std::vector<std::int32_t>& values, int columns, int rows, int precision,
                                    bool is_signed) {
    opj_image_cmptparm_t p{};
    p.dx = p.dy = 1;
    p.w = static_cast<OPJ_UINT32>(columns);
    p.h = static_cast<OPJ_UINT32>(rows);
    p.prec = static_cast<OPJ_UINT32>(precision);
    p.sgnd = is_signed ? 1 : 0;
    opj_image_t* image = opj_image_create(1, &p, OPJ_CLRSPC_GRAY);
    image->x1 = p.w;
    image->y1 = p.h;
    std::copy(values.begin(), values.end(), image->comps[0].data);
    opj_cparameters_t parameters;
    opj_set_default_encoder_parameters(&parameters);
    parameters.numresolution = 3;
    parameters.tcp_numlayers = 1;
    parameters.cp_disto_alloc = 1;
    opj_codec_t* codec = opj_create_compress(OPJ_CODEC_J2K);
    need(opj_setup_encoder(codec, &parameters, image) != OPJ_FALSE);
    Sink sink;
    opj_stream_t* stream = opj_stream_create(1 << 16, OPJ_FALSE);
    opj_stream_set_user_data(stream, &sink, nullptr);
    opj_stream_set_write_function(stream, write_some);
    opj_stream_set_seek_function(stream, seek_to);
    opj_stream_set_skip_function(stream, skip_some);
    need(opj_start_compress(codec, image, stream) != OPJ_FALSE && opj_encode(codec, stream) != OPJ_FALSE &&
         opj_end_compress(codec, stream) != OPJ_FALSE);
    opj_stream_destroy(stream);
    opj_destroy_codec(codec);
    opj_image_destroy(image);
    if (sink.bytes.size() % 2 != 0) sink.bytes.push_back(0);
    return sink.bytes;
}

std::vector<std::vector<std::uint8_t>> cut(const std::vector<std::uint8_t>& bytes, std::size_t piece) {
    std::vector<std::vector<std::uint8_t>> pieces;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        pieces.emplace_back(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                            bytes.begin() + static_cast<std::ptrdiff_t>(std::min(bytes.size(), at + piece)));
    }
    return pieces;
}

void encapsulate(const std::filesystem::path& path, const Encapsulated& with, const char* uid) {
    DcmFileFormat file;
    need(file.loadFile(path.c_str()).good());
    file.loadAllDataIntoMemory();
    DcmDataset& d = *file.getDataset();
    d.findAndDeleteElement(DCM_PixelData);
    auto* sequence = new DcmPixelSequence(DcmTag(DCM_PixelData, EVR_OB));
    auto* table = new DcmPixelItem(DcmTag(DCM_Item, EVR_OB));
    if (!with.offset_table.empty()) {
        need(
            table->putUint8Array(reinterpret_cast<const Uint8*>(with.offset_table.data()), 4 * with.offset_table.size())
                .good());
    }
    need(sequence->insert(table).good());
    for (const auto& f : with.fragments) {
        auto* item = new DcmPixelItem(DcmTag(DCM_Item, EVR_OB));
        need(item->putUint8Array(f.data(), f.size()).good());
        need(sequence->insert(item).good());
    }
    const E_TransferSyntax syntax = DcmXfer(uid).getXfer();
    auto* pixels = new DcmPixelData(DCM_PixelData);
    pixels->putOriginalRepresentation(syntax, nullptr, sequence);
    need(d.insert(pixels, true).good());
    d.removeAllButCurrentRepresentations();
    d.chooseRepresentation(syntax, nullptr);
    need(file.saveFile(path.c_str(), syntax).good());
}

}  // namespace cardionode::test
