#include "tests/support/synthetic_ct.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>

namespace cardionode::test {

namespace {

int counter = 0;

void need(const OFCondition& c) {
    if (c.bad()) throw std::runtime_error(c.text());
}

std::string numbers(const Vec3& v) { return fmt::format("{:.10g}\\{:.10g}\\{:.10g}", v[0], v[1], v[2]); }

std::vector<Uint16> stored_values(const SyntheticSlice& s, const Field& field) {
    std::vector<Uint16> out;
    for (int j = 0; j < s.rows; ++j) {
        for (int i = 0; i < s.columns; ++i) {
            const Vec3 p = add(add(s.position, scale(s.row, i * s.spacing[0])), scale(s.column, j * s.spacing[1]));
            const double hu = field(p);
            long v = std::lround(s.rescaled ? (hu - s.intercept) / s.slope : hu);
            if (s.padding && s.is_padding && s.is_padding(i, j)) v = *s.padding;
            out.push_back(static_cast<Uint16>(v & ((1L << s.bits_stored) - 1)));
        }
    }
    return out;
}

void put(DcmItem& d, const DcmTagKey& tag, const std::string& text) { need(d.putAndInsertString(tag, text.c_str())); }
void put(DcmItem& d, const DcmTagKey& tag, double v) { put(d, tag, fmt::format("{:.12g}", v)); }

void put_common(DcmDataset& d, const SyntheticSlice& s) {
    put(d, DCM_SOPClassUID, s.sop_class);
    put(d, DCM_SOPInstanceUID, s.sop_uid.empty() ? fmt::format("1.2.3.400.{}", ++counter) : s.sop_uid);
    put(d, DCM_StudyInstanceUID, s.study_uid);
    put(d, DCM_SeriesInstanceUID, s.series_uid);
    put(d, DCM_FrameOfReferenceUID, s.frame_of_reference_uid);
    put(d, DCM_Modality, s.modality);
    put(d, DCM_SeriesNumber, std::to_string(s.series_number));
    put(d, DCM_InstanceNumber, std::to_string(s.instance_number));
    if (!s.description.empty()) put(d, DCM_SeriesDescription, s.description);
    if (!s.agent.empty()) put(d, DCM_ContrastBolusAgent, s.agent);
    put(d, DCM_ImageType, s.image_type);
    need(d.putAndInsertUint16(DCM_SamplesPerPixel, 1));
    put(d, DCM_PhotometricInterpretation, "MONOCHROME2");
    need(d.putAndInsertUint16(DCM_Rows, static_cast<Uint16>(s.rows)));
    need(d.putAndInsertUint16(DCM_Columns, static_cast<Uint16>(s.columns)));
    need(d.putAndInsertUint16(DCM_BitsAllocated, 16));
    need(d.putAndInsertUint16(DCM_BitsStored, static_cast<Uint16>(s.bits_stored)));
    need(d.putAndInsertUint16(DCM_HighBit, static_cast<Uint16>(s.bits_stored - 1)));
    need(d.putAndInsertUint16(DCM_PixelRepresentation, s.is_signed ? 1 : 0));
    if (s.padding) {
        DcmTag tag(DCM_PixelPaddingValue, s.is_signed ? EVR_SS : EVR_US);
        if (s.is_signed) need(d.putAndInsertSint16(tag, static_cast<Sint16>(*s.padding)));
        else need(d.putAndInsertUint16(tag, static_cast<Uint16>(*s.padding)));
    }
}

void put_plane(DcmItem& position, DcmItem& orientation, DcmItem& measures, const SyntheticSlice& s) {
    put(position, DCM_ImagePositionPatient, numbers(s.position));
    put(orientation, DCM_ImageOrientationPatient, numbers(s.row) + "\\" + numbers(s.column));
    put(measures, DCM_PixelSpacing, fmt::format("{:.10g}\\{:.10g}", s.spacing[1], s.spacing[0]));
    if (s.thickness > 0) put(measures, DCM_SliceThickness, s.thickness);
}

void put_scale(DcmItem& d, const SyntheticSlice& s) {
    if (!s.rescaled) return;
    put(d, DCM_RescaleSlope, s.slope);
    put(d, DCM_RescaleIntercept, s.intercept);
    if (!s.rescale_type.empty()) put(d, DCM_RescaleType, s.rescale_type);
}

DcmItem& group(DcmItem& in, const DcmTagKey& sequence) {
    DcmItem* item = nullptr;
    need(in.findOrCreateSequenceItem(sequence, item, 0));
    return *item;
}

}  // namespace

std::vector<SyntheticSlice> stack(int count, double step, SyntheticSlice first) {
    std::vector<SyntheticSlice> slices;
    const Vec3 normal = cross(first.row, first.column);
    for (int k = 0; k < count; ++k) {
        SyntheticSlice s = first;
        s.position = add(first.position, scale(normal, step * k));
        s.instance_number = k + 1;
        slices.push_back(s);
    }
    return slices;
}

std::vector<StudyFile> write_slices(const std::filesystem::path& folder, const std::vector<SyntheticSlice>& slices,
                                    const Field& field) {
    std::vector<StudyFile> files;
    for (const SyntheticSlice& s : slices) {
        DcmFileFormat file;
        DcmDataset& d = *file.getDataset();
        put_common(d, s);
        put_plane(d, d, d, s);
        put_scale(d, s);
        if (!s.kernel.empty()) put(d, DCM_ConvolutionKernel, s.kernel);
        if (s.tilt) put(d, DCM_GantryDetectorTilt, *s.tilt);
        if (s.trigger_ms) put(d, DCM_TriggerTime, *s.trigger_ms);
        if (s.phase_percent)
            need(d.putAndInsertFloat32(DCM_NominalPercentageOfCardiacPhase, static_cast<Float32>(*s.phase_percent)));
        if (s.acquisition) put(d, DCM_AcquisitionNumber, std::to_string(*s.acquisition));
        if (!s.acquisition_time.empty()) put(d, DCM_AcquisitionTime, s.acquisition_time);
        const std::vector<Uint16> values = stored_values(s, field);
        need(d.putAndInsertUint16Array(DCM_PixelData, values.data(), values.size()));
        const std::filesystem::path path = folder / fmt::format("{:05}.dcm", ++counter);
        need(file.saveFile(path.c_str(), DcmXfer(s.transfer_syntax.c_str()).getXfer()));
        files.push_back({path, s.sop_class, s.modality});
    }
    // Neither the order of files nor their numbers may matter.
    std::reverse(files.begin(), files.end());
    if (files.size() > 4) std::rotate(files.begin(), files.begin() + 3, files.end());
    return files;
}

StudyFile write_enhanced(const std::filesystem::path& path, const std::vector<SyntheticSlice>& slices,
                         const Field& field) {
    DcmFileFormat file;
    DcmDataset& d = *file.getDataset();
    SyntheticSlice common = slices.front();
    common.sop_class = UID_EnhancedCTImageStorage;
    common.agent.clear();
    put_common(d, common);
    if (!slices.front().agent.empty()) put(group(d, DCM_ContrastBolusAgentSequence), DCM_CodeMeaning, "Contrast agent");
    put(d, DCM_NumberOfFrames, std::to_string(slices.size()));
    DcmItem& shared = group(d, DCM_SharedFunctionalGroupsSequence);
    DcmItem unused;
    put_plane(unused, group(shared, DCM_PlaneOrientationSequence), group(shared, DCM_PixelMeasuresSequence), common);
    put(group(shared, DCM_CTReconstructionSequence), DCM_ConvolutionKernel, common.kernel);
    std::vector<Uint16> values;
    for (std::size_t n = 0; n < slices.size(); ++n) {
        const SyntheticSlice& s = slices[n];
        DcmItem* item = nullptr;
        need(d.findOrCreateSequenceItem(DCM_PerFrameFunctionalGroupsSequence, item, -2));
        put(group(*item, DCM_PlanePositionSequence), DCM_ImagePositionPatient, numbers(s.position));
        put_scale(group(*item, DCM_PixelValueTransformationSequence), s);
        put(group(*item, DCM_CTImageFrameTypeSequence), DCM_FrameType, s.image_type);
        put(group(*item, DCM_FrameContentSequence), DCM_StackID, "1");
        if (s.phase_percent) {
            need(group(*item, DCM_CardiacSynchronizationSequence)
                     .putAndInsertFloat32(DCM_NominalPercentageOfCardiacPhase, static_cast<Float32>(*s.phase_percent)));
        }
        const std::vector<Uint16> one = stored_values(s, field);
        values.insert(values.end(), one.begin(), one.end());
    }
    need(d.putAndInsertUint16Array(DCM_PixelData, values.data(), values.size()));
    need(file.saveFile(path.c_str(), DcmXfer(common.transfer_syntax.c_str()).getXfer()));
    return {path, common.sop_class, common.modality};
}

SeriesSettings small_series() {
    SeriesSettings s;
    s.min_slices = 3;
    s.min_coverage_mm = 3;
    s.min_field_of_view_mm = 5;
    return s;
}

double worst_difference(const Volume& volume, const Field& field) {
    double worst = 0;
    const auto& size = volume.grid.size();
    for (std::int64_t k = 0; k < size[2]; ++k) {
        for (std::int64_t j = 0; j < size[1]; ++j) {
            for (std::int64_t i = 0; i < size[0]; ++i) {
                const VoxelIndex at{{i, j, k}};
                worst = std::max(worst, std::abs(volume.at(at) - field(volume.grid.to_patient(at).lps_mm)));
            }
        }
    }
    return worst;
}

}  // namespace cardionode::test
