#include "tests/support/written_ct.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <fmt/format.h>
#include <zlib.h>

#include "scp/dicom/uid.h"

namespace cardionode::test {
namespace {

std::string ds(double value) { return fmt::format("{:.10g}", value); }

std::string ds(const Vec3& v) { return ds(v[0]) + "\\" + ds(v[1]) + "\\" + ds(v[2]); }

Grid grid_of(const CtShape& s) {
    return Grid::create(s.origin, {s.row, s.column, cross(s.row, s.column)}, s.spacing, {s.columns, s.rows, s.slices})
        .value();
}

float ball_hu(const Grid& grid, VoxelIndex index) {
    double r2 = 0;
    for (std::size_t a = 0; a < 3; ++a) {
        const double half = static_cast<double>(grid.size()[a]) / 2;
        const double x = (static_cast<double>(index.ijk[a]) - half) / half;
        r2 += x * x;
    }
    return r2 < 0.35 ? 320.0F : r2 < 0.8 ? 40.0F : -800.0F;
}

CtSeries series_of(Volume volume) {
    return CtSeries{.volume = std::move(volume),
                    .slices = {},
                    .resampled = false,
                    .study_instance_uid = {},
                    .series_instance_uid = {},
                    .frame_of_reference_uid = {},
                    .why_chosen = "only series",
                    .not_chosen = {},
                    .warnings = {},
                    .contrast_named = true,
                    .phase_percent = {},
                    .lossy = false};
}

void put(DcmItem& item, const DcmTagKey& tag, const std::string& value) {
    if (item.putAndInsertOFStringArray(tag, OFString(value.data(), value.size())).bad()) {
        throw std::runtime_error("test fixture: cannot put an element");
    }
}

void put_patient(DcmDataset& d, const CtShape& s) {
    put(d, DCM_SpecificCharacterSet, s.character_set);
    put(d, DCM_PatientName, s.patient_name);
    put(d, DCM_PatientID, "SYN-0001");
    put(d, DCM_StudyDate, "20250102");
    put(d, DCM_StudyTime, "101500");
    put(d, DCM_AccessionNumber, "ACC1");
    put(d, DCM_Manufacturer, "SYNTHETIC");
    put(d, DCM_InstitutionName, "Test bench");
    put(d, DCM_StudyDescription, "CT heart");
    put(d, DCM_SeriesDescription, "synthetic");
    put(d, DCM_StudyID, "1");
    if (!s.bad_attributes) {
        put(d, DCM_PatientBirthDate, "19450101");
        put(d, DCM_PatientSex, "M");
        put(d, DCM_PatientAge, "080Y");
        put(d, DCM_ReferringPhysicianName, "Referrer^Test");
        return;
    }
    put(d, DCM_PatientBirthDate, "1945.01.01");  // ACR-NEMA form
    put(d, DCM_PatientSex, "male");
    put(d, DCM_PatientAge, "80");
    put(d, DCM_PatientWeight, "ninety");
    DcmItem* item = nullptr;
    d.findOrCreateSequenceItem(DCM_ProcedureCodeSequence, item, -2);  // an item without a code
    put(*item, DCM_CodeMeaning, "CT");
    d.insert(new DcmSequenceOfItems(DCM_DeidentificationMethodCodeSequence), OFTrue);
    put(d, DCM_PatientIdentityRemoved, "YES");
}

}  // namespace

CtShape oblique(CtShape s) {
    const double a = 0.4, b = -0.25, c = 0.15;
    const auto rotate = [&](Vec3 v) {
        v = {std::cos(a) * v[0] - std::sin(a) * v[1], std::sin(a) * v[0] + std::cos(a) * v[1], v[2]};
        v = {std::cos(b) * v[0] + std::sin(b) * v[2], v[1], -std::sin(b) * v[0] + std::cos(b) * v[2]};
        return Vec3{v[0], std::cos(c) * v[1] - std::sin(c) * v[2], std::sin(c) * v[1] + std::cos(c) * v[2]};
    };
    s.row = rotate(s.row);
    s.column = rotate(s.column);
    return s;
}

CtSeries write_ct(const std::filesystem::path& folder, const CtShape& s) {
    const Grid grid = grid_of(s);
    Volume volume(grid, -1000.0F);
    CtSeries series = series_of(std::move(volume));
    series.study_instance_uid = derive_uid({"test study", folder.filename().string()});
    series.series_instance_uid = derive_uid({"test series", folder.filename().string()});
    series.frame_of_reference_uid = derive_uid({"test frame", folder.filename().string()});
    std::filesystem::create_directories(folder);
    const Vec3 normal = cross(s.row, s.column);
    for (std::int64_t k = 0; k < s.slices; ++k) {
        std::vector<Sint16> pixels;
        for (std::int64_t j = 0; j < s.rows; ++j) {
            for (std::int64_t i = 0; i < s.columns; ++i) {
                const VoxelIndex index{{i, j, k}};
                series.volume.at(index) = ball_hu(grid, index);
                pixels.push_back(static_cast<Sint16>(series.volume.at(index)));
            }
        }
        const double jitter = s.jitter_mm.empty() ? 0 : s.jitter_mm[static_cast<std::size_t>(k) % s.jitter_mm.size()];
        const Vec3 position = add(grid.to_patient(VoxelIndex{{0, 0, k}}).lps_mm, scale(normal, jitter));
        const std::int64_t number = s.files_backwards ? s.slices - k : k + 1;
        DcmFileFormat format;
        DcmDataset& d = *format.getDataset();
        put_patient(d, s);
        const std::string sop = derive_uid({"test sop", folder.filename().string(), std::to_string(k)});
        put(d, DCM_SOPClassUID, UID_CTImageStorage);
        put(d, DCM_SOPInstanceUID, sop);
        put(d, DCM_ImageType, "ORIGINAL\\PRIMARY\\AXIAL");
        put(d, DCM_Modality, "CT");
        put(d, DCM_KVP, "120");
        put(d, DCM_AcquisitionNumber, "1");
        put(d, DCM_SliceThickness, ds(s.spacing[2]));
        put(d, DCM_StudyInstanceUID, series.study_instance_uid);
        put(d, DCM_SeriesInstanceUID, series.series_instance_uid);
        put(d, DCM_FrameOfReferenceUID, series.frame_of_reference_uid);
        d.insertEmptyElement(DCM_PositionReferenceIndicator);
        put(d, DCM_SeriesNumber, "3");
        put(d, DCM_InstanceNumber, std::to_string(number));
        put(d, DCM_ImagePositionPatient, ds(position));
        put(d, DCM_ImageOrientationPatient, ds(s.row) + "\\" + ds(s.column));
        put(d, DCM_PixelSpacing, ds(s.spacing[1]) + "\\" + ds(s.spacing[0]));
        put(d, DCM_PhotometricInterpretation, "MONOCHROME2");
        put(d, DCM_RescaleIntercept, "0");
        put(d, DCM_RescaleSlope, "1");
        d.putAndInsertUint16(DCM_SamplesPerPixel, 1);
        d.putAndInsertUint16(DCM_Rows, static_cast<Uint16>(s.rows));
        d.putAndInsertUint16(DCM_Columns, static_cast<Uint16>(s.columns));
        d.putAndInsertUint16(DCM_BitsAllocated, 16);
        d.putAndInsertUint16(DCM_BitsStored, 16);
        d.putAndInsertUint16(DCM_HighBit, 15);
        d.putAndInsertUint16(DCM_PixelRepresentation, 1);
        d.putAndInsertUint16Array(DCM_PixelData, reinterpret_cast<const Uint16*>(pixels.data()), pixels.size());
        const auto file = folder / fmt::format("IM{:04}.dcm", number);
        if (format.saveFile(file.c_str(), EXS_LittleEndianExplicit).bad()) throw std::runtime_error("cannot write CT");
        series.slices.push_back({file, UID_CTImageStorage, sop, 0, dot(position, normal)});
    }
    return series;
}

CtSeries as_enhanced_ct(const CtSeries& single, const std::filesystem::path& file) {
    CtSeries out = single;
    DcmFileFormat first;
    if (first.loadFile(single.slices.front().file.c_str()).bad()) throw std::runtime_error("cannot read CT");
    DcmFileFormat format;
    DcmDataset& d = *format.getDataset();
    DcmDataset& source = *first.getDataset();
    for (unsigned long n = 0; n < source.card(); ++n) {  // what is not about one slice
        DcmElement* element = source.getElement(n);
        const DcmTagKey tag = element->getTag();
        const bool plane =
            tag == DCM_ImagePositionPatient || tag == DCM_ImageOrientationPatient || tag == DCM_PixelSpacing;
        if (!plane && tag != DCM_PixelData) d.insert(static_cast<DcmElement*>(element->clone()), OFTrue);
    }
    const std::string sop = derive_uid({"enhanced", single.series_instance_uid});
    put(d, DCM_SOPClassUID, UID_EnhancedCTImageStorage);
    put(d, DCM_SOPInstanceUID, sop);
    put(d, DCM_NumberOfFrames, std::to_string(single.slices.size()));
    const Grid& grid = single.volume.grid;
    DcmItem *shared = nullptr, *item = nullptr;
    d.findOrCreateSequenceItem(DCM_SharedFunctionalGroupsSequence, shared, -2);
    shared->findOrCreateSequenceItem(DCM_PlaneOrientationSequence, item, -2);
    put(*item, DCM_ImageOrientationPatient, ds(grid.axes()[0]) + "\\" + ds(grid.axes()[1]));
    shared->findOrCreateSequenceItem(DCM_PixelMeasuresSequence, item, -2);
    put(*item, DCM_PixelSpacing, ds(grid.spacing()[1]) + "\\" + ds(grid.spacing()[0]));
    for (std::size_t k = 0; k < single.slices.size(); ++k) {
        DcmItem* frame = nullptr;
        d.findOrCreateSequenceItem(DCM_PerFrameFunctionalGroupsSequence, frame, -2);
        frame->findOrCreateSequenceItem(DCM_PlanePositionSequence, item, -2);
        put(*item, DCM_ImagePositionPatient,
            ds(grid.to_patient(VoxelIndex{{0, 0, static_cast<std::int64_t>(k)}}).lps_mm));
        out.slices[k] = {file, UID_EnhancedCTImageStorage, sop, static_cast<int>(k) + 1, single.slices[k].position_mm};
    }
    std::vector<Sint16> pixels;
    for (const float hu : single.volume.voxels) pixels.push_back(static_cast<Sint16>(hu));
    d.putAndInsertUint16Array(DCM_PixelData, reinterpret_cast<const Uint16*>(pixels.data()), pixels.size());
    if (format.saveFile(file.c_str(), EXS_LittleEndianExplicit).bad()) throw std::runtime_error("cannot write CT");
    return out;
}

CtSeries read_ct(const std::filesystem::path& folder) {
    struct Slice {
        SourceSlice source;
        Vec3 position;
        std::vector<float> hu;
    };
    std::vector<Slice> slices;
    const Grid unit = Grid::create({}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {1, 1, 1}, {1, 1, 1}).value();
    CtSeries series = series_of(Volume(unit, 0.0F));
    Vec3 row{}, column{};
    double spacing[2] = {};
    Uint16 rows = 0, columns = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        DcmFileFormat format;
        if (format.loadFile(entry.path().c_str()).bad())
            throw std::runtime_error("cannot read " + entry.path().string());
        DcmDataset& d = *format.getDataset();
        const auto text = [&](const DcmTagKey& tag) {
            OFString value;
            d.findAndGetOFString(tag, value);
            return std::string(value.c_str());
        };
        if (text(DCM_Modality) != "CT") continue;
        Slice slice;
        for (unsigned long a = 0; a < 3; ++a) {
            d.findAndGetFloat64(DCM_ImagePositionPatient, slice.position[a], a);
            d.findAndGetFloat64(DCM_ImageOrientationPatient, row[a], a);
            d.findAndGetFloat64(DCM_ImageOrientationPatient, column[a], a + 3);
        }
        for (unsigned long a = 0; a < 2; ++a) d.findAndGetFloat64(DCM_PixelSpacing, spacing[a], a);
        d.findAndGetUint16(DCM_Rows, rows);
        d.findAndGetUint16(DCM_Columns, columns);
        Float64 slope = 1, intercept = 0;
        d.findAndGetFloat64(DCM_RescaleSlope, slope);
        d.findAndGetFloat64(DCM_RescaleIntercept, intercept);
        const Uint16* pixels = nullptr;
        unsigned long count = 0;
        const bool compressed = DcmXfer(d.getOriginalXfer()).isEncapsulated();
        if (!compressed) d.findAndGetUint16Array(DCM_PixelData, pixels, &count);
        for (unsigned long n = 0; n < count; ++n) {
            slice.hu.push_back(static_cast<float>(static_cast<Sint16>(pixels[n]) * slope + intercept));
        }
        slice.hu.resize(static_cast<std::size_t>(rows) * columns, -1000.0F);  // compressed pixels stay unread
        const double away = dot(slice.position, cross(row, column));
        slice.source = {entry.path(), text(DCM_SOPClassUID), text(DCM_SOPInstanceUID), 0, away};
        series.study_instance_uid = text(DCM_StudyInstanceUID);
        series.series_instance_uid = text(DCM_SeriesInstanceUID);
        series.frame_of_reference_uid = text(DCM_FrameOfReferenceUID);
        slices.push_back(std::move(slice));
    }
    std::sort(slices.begin(), slices.end(),
              [](const Slice& a, const Slice& b) { return a.source.position_mm < b.source.position_mm; });
    const double step =
        (slices.back().source.position_mm - slices.front().source.position_mm) / static_cast<double>(slices.size() - 1);
    std::vector<float> voxels;
    for (Slice& slice : slices) {
        voxels.insert(voxels.end(), slice.hu.begin(), slice.hu.end());
        series.slices.push_back(slice.source);
    }
    series.volume =
        Volume(Grid::create({slices.front().position}, {row, column, cross(row, column)},
                            {spacing[1], spacing[0], step}, {columns, rows, static_cast<std::int64_t>(slices.size())})
                   .value(),
               std::move(voxels));
    return series;
}

std::vector<std::uint8_t> read_mask(const std::filesystem::path& file, const Grid& grid) {
    gzFile gz = gzopen(file.c_str(), "rb");
    if (gz == nullptr) throw std::runtime_error("cannot open " + file.string());
    std::vector<std::uint8_t> bytes;
    std::uint8_t buffer[65536];
    for (int n = 0; (n = gzread(gz, buffer, sizeof buffer)) > 0;) bytes.insert(bytes.end(), buffer, buffer + n);
    gzclose(gz);
    const auto at = [&]<class T>(std::size_t offset, T) {
        T value;
        std::memcpy(&value, bytes.data() + offset, sizeof value);
        return value;
    };
    if (bytes.size() < 352 || at(70, std::int16_t{}) != 2) throw std::runtime_error("the mask is not 8-bit NIfTI");
    std::int64_t dim[3];
    double affine[3][4];
    for (std::size_t a = 0; a < 3; ++a) {
        dim[a] = at(42 + 2 * a, std::int16_t{});
        for (std::size_t c = 0; c < 4; ++c) affine[a][c] = at(280 + 16 * a + 4 * c, float{});
    }
    const auto begin = static_cast<std::size_t>(at(108, float{}));
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(grid.voxel_count()));
    std::size_t n = begin;
    for (std::int64_t k = 0; k < dim[2]; ++k) {
        for (std::int64_t j = 0; j < dim[1]; ++j) {
            for (std::int64_t i = 0; i < dim[0]; ++i, ++n) {
                if (bytes.at(n) == 0) continue;
                Vec3 ras{};
                for (std::size_t a = 0; a < 3; ++a) {
                    ras[a] = affine[a][0] * static_cast<double>(i) + affine[a][1] * static_cast<double>(j) +
                             affine[a][2] * static_cast<double>(k) + affine[a][3];
                }
                const auto voxel = grid.nearest_voxel({{-ras[0], -ras[1], ras[2]}});
                if (voxel) mask[static_cast<std::size_t>(grid.offset(*voxel))] = 1;
            }
        }
    }
    return mask;
}

OutputRequest request_for(const std::filesystem::path& work_folder) {
    OutputRequest request;
    request.work_folder = work_folder;
    request.study_key = "T3ST";
    request.software_version = "0.1.0";
    request.device_name = "CARDIONODE";
    request.moment = Moment(Milliseconds(1'763'757'791'042));
    return request;
}

}  // namespace cardionode::test
