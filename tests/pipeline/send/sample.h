// A small secondary-capture image as an output of the pipeline.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <vector>

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>

#include "scp/dicom/uid.h"
#include "scp/queue/queue.h"

namespace cardionode::test {

/// Writes work/<name> and says what it is. @param side  pixels a side
inline OutputFile write_sample(const std::filesystem::path& work, const std::string& name, int side = 32,
                               E_TransferSyntax syntax = EXS_LittleEndianExplicit) {
    const OutputFile output{"KEY_IMAGE", UID_SecondaryCaptureImageStorage, derive_uid({"sample", name}), name};
    DcmFileFormat file;
    DcmDataset& d = *file.getDataset();
    const std::vector<Uint8> pixels(static_cast<std::size_t>(side) * side, 7);
    bool good = true;
    const auto text = [&](const DcmTagKey& tag, const std::string& v) {
        good = d.putAndInsertString(tag, v.c_str()).good() && good;
    };
    const auto number = [&](const DcmTagKey& tag, int v) {
        good = d.putAndInsertUint16(tag, static_cast<Uint16>(v)).good() && good;
    };
    text(DCM_SOPClassUID, output.sop_class_uid);
    text(DCM_SOPInstanceUID, output.sop_instance_uid);
    text(DCM_StudyInstanceUID, derive_uid({"study"}));
    text(DCM_SeriesInstanceUID, derive_uid({"series"}));
    text(DCM_Modality, "OT");
    text(DCM_PatientID, "SAMPLE");
    text(DCM_PhotometricInterpretation, "MONOCHROME2");
    number(DCM_SamplesPerPixel, 1);
    number(DCM_Rows, side);
    number(DCM_Columns, side);
    number(DCM_BitsAllocated, 8);
    number(DCM_BitsStored, 8);
    number(DCM_HighBit, 7);
    number(DCM_PixelRepresentation, 0);
    good = d.putAndInsertUint8Array(DCM_PixelData, pixels.data(), pixels.size()).good() && good;
    if (!good || file.saveFile((work / name).c_str(), syntax).bad())
        throw std::runtime_error("cannot write the sample");
    return output;
}

}  // namespace cardionode::test
