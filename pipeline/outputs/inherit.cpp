#include "pipeline/outputs/inherit.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>

#include "pipeline/outputs/dicom_write.h"

namespace cardionode {
namespace {

constexpr std::array kCharacterSets = {
    "ISO_IR 100",      "ISO_IR 101",      "ISO_IR 109",      "ISO_IR 110",      "ISO_IR 144",
    "ISO_IR 127",      "ISO_IR 126",      "ISO_IR 138",      "ISO_IR 148",      "ISO_IR 203",
    "ISO_IR 13",       "ISO_IR 166",      "ISO_IR 192",      "GB18030",         "GBK",
    "ISO 2022 IR 6",   "ISO 2022 IR 100", "ISO 2022 IR 101", "ISO 2022 IR 109", "ISO 2022 IR 110",
    "ISO 2022 IR 144", "ISO 2022 IR 127", "ISO 2022 IR 126", "ISO 2022 IR 138", "ISO 2022 IR 148",
    "ISO 2022 IR 203", "ISO 2022 IR 13",  "ISO 2022 IR 166", "ISO 2022 IR 87",  "ISO 2022 IR 159",
    "ISO 2022 IR 149", "ISO 2022 IR 58"};

std::string trimmed(std::string text) {
    const auto is_padding = [](char c) { return c == ' ' || c == '\0'; };
    while (!text.empty() && is_padding(text.back())) text.pop_back();
    text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), is_padding));
    return text;
}

/// The value as bytes, also where the file gives the element a wrong VR or UN.
std::string raw_value(DcmItem& item, const DcmTagKey& tag) {
    DcmElement* element = nullptr;
    if (item.findAndGetElement(tag, element).bad() || element->ident() == EVR_SQ) return {};
    Uint8* bytes = nullptr;
    if (!element->isaString() && element->getUint8Array(bytes).good() && bytes != nullptr) {
        return trimmed({reinterpret_cast<const char*>(bytes), element->getLength()});
    }
    OFString value;
    if (element->getOFStringArray(value).bad()) return {};
    return trimmed({value.data(), value.size()});
}

/// "1945.01.31", the form of ACR-NEMA, becomes "19450131".
std::string modern_date(std::string date) {
    if (date.size() == 10 && date[4] == '.' && date[7] == '.') std::erase(date, '.');
    return date;
}

bool is_text(DcmEVR vr) {
    return vr == EVR_LO || vr == EVR_SH || vr == EVR_PN || vr == EVR_LT || vr == EVR_ST || vr == EVR_UT || vr == EVR_UC;
}

/// Text VRs depend on the character set, which DCMTK's checker knows only in part: length and control characters here.
std::string clean_text(DcmEVR vr, std::string text) {
    const bool lines_allowed = vr == EVR_LT || vr == EVR_ST || vr == EVR_UT;
    std::erase_if(text, [&](char c) {
        const auto u = static_cast<unsigned char>(c);
        return u < 0x20 && u != 0x1B && !(lines_allowed && (c == '\r' || c == '\n' || c == '\t' || c == '\f'));
    });
    const std::size_t longest = vr == EVR_SH ? 16 : vr == EVR_LO ? 64 : vr == EVR_ST ? 1024 : 10240;
    if (text.size() <= longest || vr == EVR_PN) return text;
    const std::size_t characters = static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
    if (characters <= longest || text.find('\\') != std::string::npos) return text;
    text.resize(longest);
    return text;
}

bool is_allowed(const DcmTagKey& tag, const std::string& value) {
    DcmItem scratch;
    DcmElement* element = nullptr;
    return scratch.putAndInsertOFStringArray(tag, OFString(value.data(), value.size())).good() &&
           scratch.findAndGetElement(tag, element).good() && element->checkValue("1-n", OFFalse).good();
}

bool is_code_item(DcmItem& item) {
    return item.tagExists(DCM_CodingSchemeDesignator) || item.tagExists(DCM_CodeMeaning) ||
           item.tagExists(DCM_CodeValue);
}

bool is_whole_code(DcmItem& item) {
    const bool value = !raw_value(item, DCM_CodeValue).empty() || !raw_value(item, DCM_LongCodeValue).empty() ||
                       !raw_value(item, DCM_URNCodeValue).empty();
    return value && !raw_value(item, DCM_CodingSchemeDesignator).empty() && !raw_value(item, DCM_CodeMeaning).empty();
}

/// Copies what is usable of `source` into the empty `target`. false: nothing was left. Depth is bounded: the receiver
/// refuses deep nesting, and a copied patient or study sequence never needs more.
bool copy_clean_item(DcmItem& source, DcmItem& target, int depth) {
    if (depth > 4 || (is_code_item(source) && !is_whole_code(source))) return false;
    for (unsigned long i = 0; i < source.card(); ++i) {
        DcmElement* element = source.getElement(i);
        const DcmTagKey tag = element->getTag();
        if (tag.getGroup() % 2 == 1 || tag.getElement() == 0) continue;
        if (auto* sequence = dynamic_cast<DcmSequenceOfItems*>(element)) {
            for (unsigned long k = 0; k < sequence->card(); ++k) {
                auto copy = std::make_unique<DcmItem>();
                if (copy_clean_item(*sequence->getItem(k), *copy, depth + 1)) {
                    DcmItem& place = dicom::append_item(target, tag);
                    place.copyFrom(*copy);
                }
            }
        } else if (const std::string value = clean_value(source, tag); !value.empty()) {
            dicom::put(target, tag, value);
        }
    }
    return target.card() > 0;
}

void copy_clean_sequence(DcmItem& source, DcmItem& target, const DcmTagKey& tag) {
    DcmSequenceOfItems* sequence = nullptr;
    if (source.findAndGetSequence(tag, sequence).bad()) return;
    for (unsigned long k = 0; k < sequence->card(); ++k) {
        DcmItem copy;
        if (copy_clean_item(*sequence->getItem(k), copy, 0)) dicom::append_item(target, tag).copyFrom(copy);
    }
}

/// A PACS files an object by these: whatever the source says is what the outputs say.
void copy_verbatim(DcmItem& source, DcmItem& target, const DcmTagKey& tag) {
    DcmItem scratch;
    const std::string value = raw_value(source, tag);
    dicom::put(target, tag, value);
}

void copy_type_2(DcmItem& source, DcmItem& target, const DcmTagKey& tag) {
    dicom::put(target, tag, clean_value(source, tag));
}

void copy_type_3(DcmItem& source, DcmItem& target, const DcmTagKey& tag) {
    if (const std::string value = clean_value(source, tag); !value.empty()) dicom::put(target, tag, value);
}

}  // namespace

std::string clean_value(DcmItem& source, const DcmTagKey& tag) {
    std::string value = raw_value(source, tag);
    const DcmEVR vr = DcmTag(tag).getEVR();
    if (is_text(vr)) return clean_text(vr, value);
    if (vr == EVR_DA) value = modern_date(value);
    return !value.empty() && is_allowed(tag, value) ? value : std::string{};
}

std::string usable_character_set(DcmItem& source) {
    std::vector<std::string> terms;
    std::string value = raw_value(source, DCM_SpecificCharacterSet);
    std::size_t begin = 0;
    while (begin <= value.size()) {
        const std::size_t end = std::min(value.find('\\', begin), value.size());
        terms.push_back(trimmed(value.substr(begin, end - begin)));
        begin = end + 1;
    }
    std::string out;
    for (std::size_t i = 0; i < terms.size(); ++i) {
        std::string& term = terms[i];
        if (term.starts_with("ISO-IR ")) term.replace(0, 7, "ISO_IR ");
        if (term.starts_with("ISO IR ")) term.replace(0, 7, "ISO_IR ");
        if (term == "ISO_IR 6") term.clear();  // no defined term: the default repertoire is an absent value
        if (!term.empty() && std::find(kCharacterSets.begin(), kCharacterSets.end(), term) == kCharacterSets.end()) {
            return {};
        }
        if (i > 0) out += '\\';
        out += term;
    }
    return out;
}

void inherit_patient_and_study(DcmItem& source, DcmItem& target) {
    for (const DcmTagKey& tag : {DCM_PatientName, DCM_PatientID, DCM_StudyID, DCM_AccessionNumber}) {
        copy_verbatim(source, target, tag);
    }
    for (const DcmTagKey& tag : {DCM_PatientBirthDate, DCM_StudyDate, DCM_StudyTime, DCM_ReferringPhysicianName}) {
        copy_type_2(source, target, tag);
    }
    const std::string sex = clean_value(source, DCM_PatientSex);
    dicom::put(target, DCM_PatientSex, sex == "M" || sex == "F" || sex == "O" ? sex : "");
    // Clinical trial modules are left out: their type 1 attributes are empty in much anonymised data.
    for (const DcmTagKey& tag :
         {DCM_IssuerOfPatientID, DCM_PatientBirthTime, DCM_EthnicGroup, DCM_PatientComments, DCM_PatientAge,
          DCM_PatientSize, DCM_PatientWeight, DCM_AdditionalPatientHistory, DCM_StudyDescription,
          DCM_PhysiciansOfRecord, DCM_NameOfPhysiciansReadingStudy, DCM_TimezoneOffsetFromUTC}) {
        copy_type_3(source, target, tag);
    }
    for (const DcmTagKey& tag : {DCM_IssuerOfPatientIDQualifiersSequence, DCM_OtherPatientIDsSequence,
                                 DCM_IssuerOfAccessionNumberSequence, DCM_ProcedureCodeSequence}) {
        copy_clean_sequence(source, target, tag);
    }
    copy_type_3(source, target, DCM_DeidentificationMethod);
    copy_clean_sequence(source, target, DCM_DeidentificationMethodCodeSequence);
    const std::string removed = clean_value(source, DCM_PatientIdentityRemoved);
    const bool method =
        target.tagExists(DCM_DeidentificationMethod) || target.tagExists(DCM_DeidentificationMethodCodeSequence);
    if (removed == "NO" || (removed == "YES" && method)) dicom::put(target, DCM_PatientIdentityRemoved, removed);
}

}  // namespace cardionode
