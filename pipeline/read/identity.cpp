#include "pipeline/read/identity.h"

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>

#include <algorithm>

#include "pipeline/read/dicom_file.h"

namespace cardionode {
namespace {

/// "Doe^Jane" -> "Doe, Jane"; further parts follow as they are, the ideographic and phonetic groups after "=" do not.
std::string person(std::string name) {
    name = name.substr(0, name.find('='));
    if (const auto caret = name.find('^'); caret != std::string::npos) name.replace(caret, 1, ", ");
    std::replace(name.begin(), name.end(), '^', ' ');
    name.erase(name.find_last_not_of(", ") + 1);
    return name;
}

std::string date(const std::string& da) {
    if (da.size() != 8) return da;
    return da.substr(0, 4) + "-" + da.substr(4, 2) + "-" + da.substr(6, 2);
}

}  // namespace

Result<std::vector<std::pair<std::string, std::string>>> read_identity(const std::filesystem::path& file,
                                                                       std::uintmax_t max_file_bytes) {
    auto opened = DicomFile::open(file, DicomFile::Part::Header, max_file_bytes);
    if (!opened) return std::move(opened).error();
    DcmDataset& dataset = opened->dataset();
    // Where the character set cannot be converted, the bytes are taken as they are: better than no name at all.
    (void)dataset.convertToUTF8();
    const auto text = [&](const DcmTagKey& tag) {
        OFString value;
        if (dataset.findAndGetOFString(tag, value).bad()) return std::string();
        std::string out(value.data(), value.size());
        out.erase(out.find_last_not_of(' ') + 1);
        return out;
    };
    std::vector<std::pair<std::string, std::string>> rows;
    const auto add = [&](const char* title, std::string value) {
        if (!value.empty()) rows.emplace_back(title, std::move(value));
    };
    add("Patient", person(text(DCM_PatientName)));
    add("ID", text(DCM_PatientID));
    add("born", date(text(DCM_PatientBirthDate)));
    add("study of", date(text(DCM_StudyDate)));
    add("accession", text(DCM_AccessionNumber));
    return rows;
}

}  // namespace cardionode
