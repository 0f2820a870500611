#include "pipeline/read/patient_hash.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dcdatset.h>
#include <dcmtk/dcmdata/dcdeftag.h>

#include "conf/base/hash.h"
#include "pipeline/read/dicom_file.h"

namespace cardionode {
namespace {

std::string text_of(DcmDataset& dataset, const DcmTagKey& tag) {
    OFString value;
    if (dataset.findAndGetOFString(tag, value).bad()) return {};
    const std::string text(value.c_str());
    const std::size_t first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
    return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
}

}  // namespace

Result<std::string> patient_hash(const std::filesystem::path& path, std::uintmax_t max_file_bytes) {
    Result<DicomFile> file = DicomFile::open(path, DicomFile::Part::Header, max_file_bytes);
    if (!file) return std::move(file).error();
    DcmDataset& dataset = file->dataset();
    const std::string id = text_of(dataset, DCM_PatientID);
    if (!id.empty()) return sha256_hex("patient " + text_of(dataset, DCM_IssuerOfPatientID) + "\n" + id);
    const std::string study = text_of(dataset, DCM_StudyInstanceUID);
    if (study.empty()) return reject_error("neither a Patient ID nor a study UID tells whose image this is");
    return sha256_hex("study " + study);
}

}  // namespace cardionode
