#include "pipeline/outputs/ct_series_write.h"

#include <cmath>
#include <stdexcept>
#include <vector>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <fmt/format.h>

#include "conf/base/files.h"
#include "pipeline/outputs/dicom_write.h"
#include "scp/dicom/uid.h"

namespace cardionode {
namespace {

using namespace dicom;

std::string joined(std::initializer_list<double> values) {
    std::string text;
    for (const double v : values) text += (text.empty() ? "" : "\\") + decimal_string(v);
    return text;
}

void fill_header(DcmDataset& d, const Grid& grid, const CtSeriesText& text) {
    put(d, DCM_SpecificCharacterSet, "ISO_IR 192");
    put(d, DCM_ImageType, "ORIGINAL\\PRIMARY\\AXIAL");
    put(d, DCM_SOPClassUID, UID_CTImageStorage);
    // One day for all: a phantom was never scanned.
    for (const DcmTagKey& tag : {DCM_StudyDate, DCM_SeriesDate, DCM_AcquisitionDate, DCM_ContentDate})
        put(d, tag, "20000101");
    for (const DcmTagKey& tag : {DCM_StudyTime, DCM_SeriesTime, DCM_AcquisitionTime, DCM_ContentTime})
        put(d, tag, "120000");
    put(d, DCM_AccessionNumber, "");
    put(d, DCM_Modality, "CT");
    put(d, DCM_Manufacturer, "cardionode phantom generator");
    put(d, DCM_ReferringPhysicianName, "");
    put_short_text(d, DCM_StudyDescription, text.study_description);
    put_short_text(d, DCM_SeriesDescription, text.series_description);
    put(d, DCM_PatientName, "PHANTOM");
    put_short_text(d, DCM_PatientID, text.patient_id);
    put(d, DCM_PatientBirthDate, "");
    put(d, DCM_PatientSex, "");
    if (text.contrast) put(d, DCM_ContrastBolusAgent, "DRAWN");
    put(d, DCM_BodyPartExamined, "HEART");
    put(d, DCM_SliceThickness, decimal_string(grid.spacing()[2]));
    put(d, DCM_KVP, "");
    put(d, DCM_PatientPosition, "HFS");
    put(d, DCM_StudyInstanceUID, derive_uid({text.identity, "study"}));
    put(d, DCM_SeriesInstanceUID, derive_uid({text.identity, "series"}));
    put(d, DCM_StudyID, "1");
    put(d, DCM_SeriesNumber, "1");
    put(d, DCM_AcquisitionNumber, "1");
    put(d, DCM_FrameOfReferenceUID, derive_uid({text.identity, "frame"}));
    put(d, DCM_PositionReferenceIndicator, "");
    const auto& [row, column, normal] = grid.axes();
    put(d, DCM_ImageOrientationPatient, joined({row[0], row[1], row[2], column[0], column[1], column[2]}));
    put(d, DCM_PixelSpacing, joined({grid.spacing()[1], grid.spacing()[0]}));
    put(d, DCM_QualityControlImage, "YES");
    put_us(d, DCM_SamplesPerPixel, 1);
    put(d, DCM_PhotometricInterpretation, "MONOCHROME2");
    put_us(d, DCM_Rows, static_cast<std::uint16_t>(grid.size()[1]));
    put_us(d, DCM_Columns, static_cast<std::uint16_t>(grid.size()[0]));
    put_us(d, DCM_BitsAllocated, 16);
    put_us(d, DCM_BitsStored, 16);
    put_us(d, DCM_HighBit, 15);
    put_us(d, DCM_PixelRepresentation, 1);
    put(d, DCM_WindowCenter, "200");
    put(d, DCM_WindowWidth, "800");
    put(d, DCM_RescaleIntercept, "0");
    put(d, DCM_RescaleSlope, "1");
    put(d, DCM_RescaleType, "HU");
}

}  // namespace

Result<void> write_ct_series(const Volume& volume, const CtSeriesText& text, const std::filesystem::path& folder) try {
    const auto [columns, rows, slices] = volume.grid.size();
    if (columns > 65535 || rows > 65535 || slices > 9999) {
        return reject_error("the volume is too large for a series of CT images");
    }
    for (const float hu : volume.voxels) {
        if (!(std::abs(hu) <= 32767)) return reject_error("a CT number does not fit into 16 bits");
    }
    if (Result<void> made = make_folder(folder); !made) return made;
    const auto plane = static_cast<std::size_t>(columns * rows);
    std::vector<std::uint16_t> pixels(plane);
    for (std::int64_t k = 0; k < slices; ++k) {
        DcmDataset d;
        fill_header(d, volume.grid, text);
        put(d, DCM_SOPInstanceUID, derive_uid({text.identity, "image", std::to_string(k)}));
        put(d, DCM_InstanceNumber, std::to_string(k + 1));
        const Vec3 at = volume.grid.to_patient(VoxelIndex{{0, 0, k}}).lps_mm;
        put(d, DCM_ImagePositionPatient, joined({at[0], at[1], at[2]}));
        for (std::size_t i = 0; i < plane; ++i) {
            const float hu = volume.voxels[static_cast<std::size_t>(k) * plane + i];
            pixels[i] = static_cast<std::uint16_t>(static_cast<std::int16_t>(std::lround(hu)));
        }
        if (d.putAndInsertUint16Array(DCM_PixelData, pixels.data(), static_cast<unsigned long>(plane)).bad()) {
            return bug_error("cannot put pixel data");
        }
        if (Result<void> saved = save(d, folder / fmt::format("{:04}.dcm", k + 1)); !saved) return saved;
    }
    return {};
} catch (const std::logic_error& mistake) {
    return bug_error(mistake.what());
}

}  // namespace cardionode
