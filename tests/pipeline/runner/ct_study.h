// A CT study of the phantom heart as DICOM files, and the queue entries of a receiver that has taken it.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>
#include <fmt/format.h>

#include "conf/base/hash.h"
#include "pipeline/volume/volume.h"
#include "scp/dicom/uid.h"
#include "scp/queue/queue.h"

namespace cardionode::test {

/// Writes one file a slice into spool/<name>/; the volume's axes must be those of the patient.
inline std::vector<ReceivedInstance> write_ct_study(const std::filesystem::path& spool, const std::string& name,
                                                    const Volume& ct, Moment received_at) {
    std::filesystem::create_directories(spool / name);
    const auto& size = ct.grid.size();
    const auto& spacing = ct.grid.spacing();
    std::vector<ReceivedInstance> instances;
    for (std::int64_t k = 0; k < size[2]; ++k) {
        ReceivedInstance instance;
        instance.study_instance_uid = derive_uid({"study", name});
        instance.series_instance_uid = derive_uid({"series", name});
        instance.sop_instance_uid = derive_uid({"image", name, std::to_string(k)});
        instance.sop_class_uid = UID_CTImageStorage;
        instance.transfer_syntax_uid = UID_LittleEndianExplicitTransferSyntax;
        instance.modality = "CT";
        instance.file = fmt::format("{}/{}.dcm", name, k);
        instance.received_at = received_at;

        DcmFileFormat file;
        DcmDataset& d = *file.getDataset();
        bool good = true;
        const auto text = [&](const DcmTagKey& tag, const std::string& v) {
            good = d.putAndInsertString(tag, v.c_str()).good() && good;
        };
        const auto number = [&](const DcmTagKey& tag, std::int64_t v) {
            good = d.putAndInsertUint16(tag, static_cast<Uint16>(v)).good() && good;
        };
        const Vec3 at = ct.grid.to_patient(VoxelIndex{{0, 0, k}}).lps_mm;
        text(DCM_ImageType, "ORIGINAL\\PRIMARY\\AXIAL");
        text(DCM_SOPClassUID, instance.sop_class_uid);
        text(DCM_SOPInstanceUID, instance.sop_instance_uid);
        text(DCM_StudyInstanceUID, instance.study_instance_uid);
        text(DCM_SeriesInstanceUID, instance.series_instance_uid);
        text(DCM_FrameOfReferenceUID, derive_uid({"frame", name}));
        text(DCM_PositionReferenceIndicator, "");
        text(DCM_StudyDate, "20260102");
        text(DCM_StudyTime, "101112");
        text(DCM_SeriesDate, "20260102");
        text(DCM_SeriesTime, "101112");
        text(DCM_ContentDate, "20260102");
        text(DCM_ContentTime, "101112");
        text(DCM_AccessionNumber, "A1");
        text(DCM_Modality, "CT");
        text(DCM_Manufacturer, "phantom");
        text(DCM_ReferringPhysicianName, "");
        text(DCM_PatientName, "PHANTOM^" + name);
        text(DCM_PatientID, "P-" + name);
        text(DCM_PatientBirthDate, "");
        text(DCM_PatientSex, "O");
        text(DCM_StudyID, "1");
        text(DCM_SeriesNumber, "3");
        text(DCM_SeriesDescription, "CTA heart");
        text(DCM_ContrastBolusAgent, "IOMERON");
        text(DCM_InstanceNumber, std::to_string(k + 1));
        text(DCM_ImagePositionPatient, fmt::format("{}\\{}\\{}", at[0], at[1], at[2]));
        text(DCM_ImageOrientationPatient, "1\\0\\0\\0\\1\\0");
        text(DCM_PixelSpacing, fmt::format("{}\\{}", spacing[1], spacing[0]));
        text(DCM_SliceThickness, fmt::format("{}", spacing[2]));
        text(DCM_KVP, "100");
        text(DCM_RescaleIntercept, "-1024");
        text(DCM_RescaleSlope, "1");
        text(DCM_RescaleType, "HU");
        text(DCM_PhotometricInterpretation, "MONOCHROME2");
        number(DCM_SamplesPerPixel, 1);
        number(DCM_Rows, size[1]);
        number(DCM_Columns, size[0]);
        number(DCM_BitsAllocated, 16);
        number(DCM_BitsStored, 16);
        number(DCM_HighBit, 15);
        number(DCM_PixelRepresentation, 0);
        std::vector<Uint16> pixels;
        for (std::int64_t v = 0; v < size[0] * size[1]; ++v) {
            pixels.push_back(static_cast<Uint16>(ct.voxels[k * size[0] * size[1] + v] + 1024));
        }
        good = d.putAndInsertUint16Array(DCM_PixelData, pixels.data(), pixels.size()).good() && good;
        const auto path = spool / instance.file;
        if (!good || file.saveFile(path.c_str(), EXS_LittleEndianExplicit).bad()) {
            throw std::runtime_error("cannot write the study");
        }
        instance.sha256 = sha256_of_file(path).value();
        instance.bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
        instances.push_back(std::move(instance));
    }
    return instances;
}

}  // namespace cardionode::test
