#include "pipeline/outputs/dicom_write.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string_view>
#include <vector>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcostrmb.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmdata/dcwcache.h>

#include "conf/base/files.h"

namespace cardionode::dicom {
namespace {

void require(const OFCondition& condition, const DcmTagKey& tag) {
    if (condition.bad()) {
        throw std::logic_error(std::string("cannot write ") + DcmTag(tag).getTagName() + ": " + condition.text());
    }
}

std::size_t longest(DcmEVR vr) {
    switch (vr) {
        case EVR_SH: return 16;
        case EVR_LO: return 64;
        case EVR_PN: return 64;
        case EVR_ST: return 1024;
        default: return 10240;
    }
}

}  // namespace

void put(DcmItem& item, const DcmTagKey& tag, const std::string& value) {
    if (value.empty()) require(item.insertEmptyElement(tag), tag);
    else require(item.putAndInsertOFStringArray(tag, OFString(value.data(), value.size())), tag);
}

void put_us(DcmItem& item, const DcmTagKey& tag, std::uint16_t value) {
    require(item.putAndInsertUint16(tag, value), tag);
}

void put_short_text(DcmItem& item, const DcmTagKey& tag, const std::string& value) {
    const DcmEVR vr = DcmTag(tag).getEVR();
    const bool one_line = vr == EVR_SH || vr == EVR_LO || vr == EVR_PN;
    std::string text = value;
    if (one_line) {
        for (char& c : text) {
            if (static_cast<unsigned char>(c) < 0x20 || c == '\\') c = ' ';
        }
    }
    if (text.size() > longest(vr)) {
        std::size_t end = longest(vr);
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
        text.resize(end);
    }
    put(item, tag, text);
}

DcmItem& append_item(DcmItem& parent, const DcmTagKey& sequence) {
    DcmItem* item = nullptr;
    require(parent.findOrCreateSequenceItem(sequence, item, -2), sequence);
    return *item;
}

void append_code(DcmItem& parent, const DcmTagKey& sequence, const Code& code) {
    DcmItem& item = append_item(parent, sequence);
    put(item, code.value.size() > 16 ? DCM_LongCodeValue : DCM_CodeValue, code.value);
    put_short_text(item, DCM_CodingSchemeDesignator, code.scheme);
    put_short_text(item, DCM_CodeMeaning, code.meaning.empty() ? code.value : code.meaning);
}

std::string decimal_string(double value) {
    if (!std::isfinite(value)) throw std::logic_error("a number that is not finite cannot be a decimal string");
    if (std::abs(value) < 1e-12) return "0";
    std::array<char, 40> text{};
    for (int digits = 15; digits > 0; --digits) {
        const int length = std::snprintf(text.data(), text.size(), "%.*g", digits, value);
        if (length <= 16) break;
    }
    return text.data();
}

std::string text_of(DcmItem& item, const DcmTagKey& tag) {
    OFString value;
    if (item.findAndGetOFStringArray(tag, value).bad()) return {};
    return {value.data(), value.size()};
}

Result<void> save(DcmDataset& dataset, const std::filesystem::path& file) {
    constexpr E_TransferSyntax kSyntax = EXS_LittleEndianExplicit;
    DcmFileFormat format(&dataset, OFFalse);
    struct GiveBack {  // the caller keeps the data set
        DcmFileFormat& format;
        ~GiveBack() { format.getAndRemoveDataset(); }
    } give_back{format};
    OFCondition written = dataset.chooseRepresentation(kSyntax, nullptr);
    if (written.good()) written = format.validateMetaInfo(kSyntax, EWM_createNewMeta);
    if (written.bad()) throw std::logic_error(std::string("cannot encode: ") + written.text());
    // In memory first: DCMTK's file stream loses the error of its last flush, and a full disk must not go unseen.
    std::vector<char> bytes(format.calcElementLength(kSyntax, EET_ExplicitLength) + 4096);
    DcmOutputBufferStream stream(bytes.data(), static_cast<offile_off_t>(bytes.size()));
    DcmWriteCache cache;
    format.transferInit();
    written = format.write(stream, kSyntax, EET_ExplicitLength, &cache, EGL_withoutGL, EPD_noChange, 0, 0, 0,
                           EWM_createNewMeta);
    format.transferEnd();
    if (written.bad()) throw std::logic_error(std::string("cannot encode: ") + written.text());
    void* begin = nullptr;
    offile_off_t length = 0;
    stream.flushBuffer(begin, length);
    return write_file_durably(file,
                              std::string_view(static_cast<const char*>(begin), static_cast<std::size_t>(length)));
}

}  // namespace cardionode::dicom
