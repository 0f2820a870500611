#include "pipeline/outputs/seg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmiod/cielabutil.h>
#include <fmt/format.h>

namespace cardionode {
namespace {

using dicom::append_code;
using dicom::append_item;
using dicom::put;
using dicom::put_short_text;
using dicom::put_us;

/// Slices of one segment that go into one object.
struct Piece {
    WrittenSegment written;
    std::vector<std::int64_t> slices;
};

using Object = std::vector<Piece>;

/// Voxels of each label on each slice: counts[label][k].
using Counts = std::vector<std::vector<std::int64_t>>;

Counts count_voxels(const LabelMap& labels) {
    const auto& size = labels.grid.size();
    const std::size_t per_slice = static_cast<std::size_t>(size[0] * size[1]);
    Counts counts(256, std::vector<std::int64_t>(static_cast<std::size_t>(size[2])));
    for (std::size_t k = 0; k < static_cast<std::size_t>(size[2]); ++k) {
        std::array<std::int64_t, 256> slice{};
        const std::uint8_t* voxel = labels.voxels.data() + k * per_slice;
        for (std::size_t n = 0; n < per_slice; ++n) ++slice[voxel[n]];
        for (std::size_t label = 0; label < slice.size(); ++label) counts[label][k] = slice[label];
    }
    return counts;
}

Result<void> check_group(const OutputContext& context, const SegmentGroup& group, const Counts& counts) {
    if (!group.labels.grid.same_as(context.source.volume.grid)) {
        return bug_error(group.name + ": the label map is not on the grid of the source series");
    }
    std::array<bool, 256> known{};
    for (const Segment& segment : group.segments) {
        if (segment.label < 1 || segment.label > 255 || known[static_cast<std::size_t>(segment.label)]) {
            return bug_error(fmt::format("{}: label {} is out of range or used twice", group.name, segment.label));
        }
        known[static_cast<std::size_t>(segment.label)] = true;
    }
    for (std::size_t label = 1; label < counts.size(); ++label) {
        const bool used = std::any_of(counts[label].begin(), counts[label].end(), [](auto n) { return n > 0; });
        if (used && !known[label]) {
            return bug_error(fmt::format("{}: label {} of the map is no segment", group.name, label));
        }
    }
    return {};
}

std::vector<Piece> pieces_of(const SegmentGroup& group, const Segment& segment, const Counts& counts) {
    const auto& per_slice = counts[static_cast<std::size_t>(segment.label)];
    std::vector<std::int64_t> slices;
    for (std::size_t k = 0; k < per_slice.size(); ++k) {
        if (per_slice[k] > 0) slices.push_back(static_cast<std::int64_t>(k));
    }
    const std::size_t parts = (slices.size() + kMaxSegFrames - 1) / kMaxSegFrames;
    std::vector<Piece> pieces;
    for (std::size_t part = 0; part < parts; ++part) {
        const auto begin = slices.begin() + static_cast<std::ptrdiff_t>(slices.size() * part / parts);
        const auto end = slices.begin() + static_cast<std::ptrdiff_t>(slices.size() * (part + 1) / parts);
        Piece piece;
        piece.slices.assign(begin, end);
        piece.written = {&group, &segment, 0, static_cast<int>(part) + 1, static_cast<int>(parts), 0, segment.title};
        for (const auto k : piece.slices) piece.written.voxels += per_slice[static_cast<std::size_t>(k)];
        if (parts > 1) piece.written.label += fmt::format(" (part {} of {})", part + 1, parts);
        pieces.push_back(std::move(piece));
    }
    return pieces;
}

/// Each piece goes into the first object that has room for it, so that segments keep their order within an object.
std::vector<Object> share_out(std::vector<Piece> pieces) {
    std::vector<Object> objects;
    std::vector<std::size_t> frames;
    for (Piece& piece : pieces) {
        std::size_t at = 0;
        while (at < objects.size() && frames[at] + piece.slices.size() > kMaxSegFrames) ++at;
        if (at == objects.size()) {
            objects.emplace_back();
            frames.push_back(0);
        }
        frames[at] += piece.slices.size();
        piece.written.number = static_cast<std::uint16_t>(objects[at].size() + 1);
        objects[at].push_back(std::move(piece));
    }
    return objects;
}

/// One bit a voxel, lowest bit first; rows and frames follow each other without padding (PS3.5 8.1.1).
std::vector<Uint8> pack(const LabelMap& labels, const Object& object, std::size_t frames) {
    const std::size_t per_slice = static_cast<std::size_t>(labels.grid.size()[0] * labels.grid.size()[1]);
    std::vector<Uint8> bits((frames * per_slice + 7) / 8);
    if (bits.size() % 2 == 1) bits.push_back(0);
    std::size_t bit = 0;
    for (const Piece& piece : object) {
        const auto label = static_cast<std::uint8_t>(piece.written.segment->label);
        for (const std::int64_t k : piece.slices) {
            const std::uint8_t* voxel = labels.voxels.data() + static_cast<std::size_t>(k) * per_slice;
            for (std::size_t n = 0; n < per_slice; ++n, ++bit) {
                if (voxel[n] == label) bits[bit / 8] |= static_cast<Uint8>(1U << (bit % 8));
            }
        }
    }
    return bits;
}

/// Position of slice k: the source file's own where the grid is the source's.
PatientPoint plane_position(const OutputContext& context, std::int64_t k) {
    if (!context.source.resampled) return context.header.planes()[static_cast<std::size_t>(k)].position;
    return context.source.volume.grid.to_patient(VoxelIndex{{0, 0, k}});
}

/// The source slice that a frame at slice k comes from: itself, or the nearest to the frame's centre.
const SourceSlice& source_of(const OutputContext& context, std::int64_t k) {
    const CtSeries& source = context.source;
    if (!source.resampled) return source.slices[static_cast<std::size_t>(k)];
    const auto& size = source.volume.grid.size();
    const PatientPoint centre = source.volume.grid.to_patient(ContinuousIndex{
        {(static_cast<double>(size[0]) - 1) / 2, (static_cast<double>(size[1]) - 1) / 2, static_cast<double>(k)}});
    std::size_t best = 0;
    double shortest = std::numeric_limits<double>::infinity();
    for (std::size_t n = 0; n < source.slices.size(); ++n) {
        const SourcePlane& plane = context.header.planes()[n];
        const Vec3 normal = normalised(cross(plane.row, plane.column));
        const double away = std::abs(dot(normal, subtract(centre.lps_mm, plane.position.lps_mm)));
        if (away < shortest) {
            shortest = away;
            best = n;
        }
    }
    return source.slices[best];
}

void put_segment(const OutputContext& context, DcmItem& dataset, const WrittenSegment& written) {
    const Segment& segment = *written.segment;
    DcmItem& item = append_item(dataset, DCM_SegmentSequence);
    put_us(item, DCM_SegmentNumber, written.number);
    put_short_text(item, DCM_SegmentLabel, context.text(written.label));
    append_code(item, DCM_SegmentedPropertyCategoryCodeSequence, context.code(segment.category));
    append_code(item, DCM_SegmentedPropertyTypeCodeSequence, context.code(segment.type));
    put(item, DCM_SegmentAlgorithmType, "AUTOMATIC");
    put_short_text(item, DCM_SegmentAlgorithmName, context.algorithm_name());
    DcmItem& algorithm = append_item(item, DCM_SegmentationAlgorithmIdentificationSequence);
    append_code(algorithm, DCM_AlgorithmFamilyCodeSequence, {"123110", "DCM", "Artificial Intelligence"});
    put_short_text(algorithm, DCM_AlgorithmName, context.algorithm_name());
    put_short_text(algorithm, DCM_AlgorithmVersion, context.algorithm_version());
    put(algorithm, DCM_AlgorithmParameters, "weights SHA-256 " + context.text(context.findings.model.sha256));
    double l = 0, a = 0, b = 0;
    IODCIELabUtil::rgb2DicomLab(l, a, b, segment.rgb[0] / 255.0, segment.rgb[1] / 255.0, segment.rgb[2] / 255.0);
    const std::array<Uint16, 3> lab = {static_cast<Uint16>(std::lround(l)), static_cast<Uint16>(std::lround(a)),
                                       static_cast<Uint16>(std::lround(b))};
    item.putAndInsertUint16Array(DCM_RecommendedDisplayCIELabValue, lab.data(), 3);
    put(item, DCM_TrackingID, context.text(segment.title));
    put(item, DCM_TrackingUID, context.tracking_uid(written.group->name + "/" + segment.name));
}

void put_shared_groups(const OutputContext& context, DcmItem& dataset) {
    const Grid& grid = context.source.volume.grid;
    Vec3 row = grid.axes()[0], column = grid.axes()[1];
    double row_spacing = grid.spacing()[1], column_spacing = grid.spacing()[0];
    if (!context.source.resampled) {
        const SourcePlane& plane = context.header.planes().front();
        row = plane.row;
        column = plane.column;
        row_spacing = plane.row_spacing;
        column_spacing = plane.column_spacing;
    }
    DcmItem& shared = append_item(dataset, DCM_SharedFunctionalGroupsSequence);
    DcmItem& orientation = append_item(shared, DCM_PlaneOrientationSequence);
    std::string axes;
    for (const double value : {row[0], row[1], row[2], column[0], column[1], column[2]}) {
        axes += (axes.empty() ? "" : "\\") + dicom::decimal_string(value);
    }
    put(orientation, DCM_ImageOrientationPatient, axes);
    DcmItem& measures = append_item(shared, DCM_PixelMeasuresSequence);
    put(measures, DCM_SliceThickness, dicom::decimal_string(grid.spacing()[2]));
    put(measures, DCM_SpacingBetweenSlices, dicom::decimal_string(grid.spacing()[2]));
    put(measures, DCM_PixelSpacing, dicom::decimal_string(row_spacing) + "\\" + dicom::decimal_string(column_spacing));
}

void put_frame(const OutputContext& context, DcmItem& dataset, std::uint16_t segment, std::int64_t k,
               Uint32 position_index) {
    DcmItem& frame = append_item(dataset, DCM_PerFrameFunctionalGroupsSequence);
    DcmItem& derivation = append_item(frame, DCM_DerivationImageSequence);
    append_code(derivation, DCM_DerivationCodeSequence, {"113076", "DCM", "Segmentation"});
    DcmItem& image = append_item(derivation, DCM_SourceImageSequence);
    const SourceSlice& slice = source_of(context, k);
    put(image, DCM_ReferencedSOPClassUID, slice.sop_class_uid);
    put(image, DCM_ReferencedSOPInstanceUID, slice.sop_instance_uid);
    if (slice.frame > 0) put(image, DCM_ReferencedFrameNumber, std::to_string(slice.frame));
    put(image, DCM_SpatialLocationsPreserved, context.source.resampled ? "NO" : "YES");
    append_code(image, DCM_PurposeOfReferenceCodeSequence,
                {"121322", "DCM", "Source image for image processing operation"});
    const std::array<Uint32, 2> index = {segment, position_index};
    append_item(frame, DCM_FrameContentSequence).putAndInsertUint32Array(DCM_DimensionIndexValues, index.data(), 2);
    const PatientPoint position = plane_position(context, k);
    std::string text;
    for (const double value : position.lps_mm) text += (text.empty() ? "" : "\\") + dicom::decimal_string(value);
    put(append_item(frame, DCM_PlanePositionSequence), DCM_ImagePositionPatient, text);
    put_us(append_item(frame, DCM_SegmentIdentificationSequence), DCM_ReferencedSegmentNumber, segment);
}

void put_dimensions(const OutputContext& context, DcmItem& dataset, const std::string& sop_instance_uid) {
    const std::string organization = context.uid({"dimensions", sop_instance_uid});
    put(append_item(dataset, DCM_DimensionOrganizationSequence), DCM_DimensionOrganizationUID, organization);
    const auto index = [&](const DcmTagKey& pointer, const DcmTagKey& group, const char* label) {
        DcmItem& item = append_item(dataset, DCM_DimensionIndexSequence);
        put(item, DCM_DimensionOrganizationUID, organization);
        item.putAndInsertTagKey(DCM_DimensionIndexPointer, pointer);
        item.putAndInsertTagKey(DCM_FunctionalGroupPointer, group);
        put(item, DCM_DimensionDescriptionLabel, label);
    };
    index(DCM_ReferencedSegmentNumber, DCM_SegmentIdentificationSequence, "Segment Number");
    index(DCM_ImagePositionPatient, DCM_PlanePositionSequence, "Image Position Patient");
}

/// An image that was ever compressed with loss stays marked, and so does what was derived from it (PS3.3 C.7.6.1.1.5).
void put_lossy(const OutputContext& context, DcmItem& dataset) {
    DcmItem& source = context.header.first();
    const std::string ratio = dicom::text_of(source, DCM_LossyImageCompressionRatio);
    const bool lossy = dicom::text_of(source, DCM_LossyImageCompression) == "01" && !ratio.empty();
    put(dataset, DCM_LossyImageCompression, lossy ? "01" : "00");
    if (!lossy) return;
    put(dataset, DCM_LossyImageCompressionRatio, ratio);
    const std::string method = dicom::text_of(source, DCM_LossyImageCompressionMethod);
    if (!method.empty()) put(dataset, DCM_LossyImageCompressionMethod, method);
}

void fill(const OutputContext& context, DcmDataset& dataset, const SegmentGroup& group, const Object& object,
          const ObjectIdentity& identity, const std::string& description) {
    context.begin(dataset, identity);
    context.put_frame_of_reference(dataset);
    put(dataset, DCM_ImageType, "DERIVED\\PRIMARY");
    put(dataset, DCM_ContentQualification, "RESEARCH");
    put(dataset, DCM_BurnedInAnnotation, "NO");
    put_lossy(context, dataset);
    std::string label;
    for (const char c : group.name) label += std::isalnum(static_cast<unsigned char>(c)) ? std::toupper(c) : '_';
    put(dataset, DCM_ContentLabel, label.substr(0, 16));
    put_short_text(dataset, DCM_ContentDescription, context.text(description));
    put(dataset, DCM_ContentCreatorName, "Cardionode^Automatic");
    put(dataset, DCM_SegmentationType, "BINARY");
    put(dataset, DCM_SegmentsOverlap, "NO");

    DcmItem& series = append_item(dataset, DCM_ReferencedSeriesSequence);
    put(series, DCM_SeriesInstanceUID, context.source.series_instance_uid);
    context.append_source_instances(series, DCM_ReferencedInstanceSequence);

    std::vector<Code> codes;
    std::vector<std::int64_t> planes;
    std::size_t frames = 0;
    for (const Piece& piece : object) {
        put_segment(context, dataset, piece.written);
        codes.push_back(piece.written.segment->category);
        codes.push_back(piece.written.segment->type);
        planes.insert(planes.end(), piece.slices.begin(), piece.slices.end());
        frames += piece.slices.size();
    }
    context.put_coding_schemes(dataset, codes);
    std::sort(planes.begin(), planes.end());
    planes.erase(std::unique(planes.begin(), planes.end()), planes.end());

    put_dimensions(context, dataset, identity.sop_instance_uid);
    put_shared_groups(context, dataset);
    for (const Piece& piece : object) {
        for (const std::int64_t k : piece.slices) {
            const auto rank = std::lower_bound(planes.begin(), planes.end(), k) - planes.begin() + 1;
            put_frame(context, dataset, piece.written.number, k, static_cast<Uint32>(rank));
        }
    }
    put(dataset, DCM_NumberOfFrames, std::to_string(frames));
    put_us(dataset, DCM_SamplesPerPixel, 1);
    put(dataset, DCM_PhotometricInterpretation, "MONOCHROME2");
    put_us(dataset, DCM_Rows, static_cast<std::uint16_t>(group.labels.grid.size()[1]));
    put_us(dataset, DCM_Columns, static_cast<std::uint16_t>(group.labels.grid.size()[0]));
    put_us(dataset, DCM_BitsAllocated, 1);
    put_us(dataset, DCM_BitsStored, 1);
    put_us(dataset, DCM_HighBit, 0);
    put_us(dataset, DCM_PixelRepresentation, 0);
    const std::vector<Uint8> bits = pack(group.labels, object, frames);
    dataset.putAndInsertUint8Array(DCM_PixelData, bits.data(), bits.size());
}

}  // namespace

Result<std::vector<WrittenSeg>> write_segs(const OutputContext& context, const std::filesystem::path& folder,
                                           std::vector<std::string>& notes) {
    std::vector<WrittenSeg> out;
    int series_number = 9100;
    for (const SegmentGroup& group : context.findings.groups) {
        ++series_number;
        const Counts counts = count_voxels(group.labels);
        if (auto checked = check_group(context, group, counts); !checked) return std::move(checked).error();
        std::vector<Piece> pieces;
        std::string empty;
        for (const Segment& segment : group.segments) {
            auto more = pieces_of(group, segment, counts);
            if (more.empty()) empty += (empty.empty() ? "" : ", ") + segment.title;
            std::move(more.begin(), more.end(), std::back_inserter(pieces));
        }
        if (pieces.empty()) {
            notes.push_back(group.title + ": nothing found, no SEG written");
            continue;
        }
        if (!empty.empty()) notes.push_back(group.title + ": not found: " + empty);
        const std::vector<Object> objects = share_out(std::move(pieces));
        if (objects.size() > 1) {
            notes.push_back(fmt::format("{}: shared out over {} SEG objects, because viewers refuse {} frames or more",
                                        group.title, objects.size(), kMaxSegFrames + 1));
        }
        for (std::size_t n = 0; n < objects.size(); ++n) {
            const std::string number = std::to_string(n + 1);
            const bool several = objects.size() > 1;
            WrittenSeg seg;
            seg.series_instance_uid = context.uid({"series", "SEG", group.name});
            seg.file = {
                "SEG", UID_SegmentationStorage, context.uid({"SEG", group.name, number}),
                (folder / (several ? "seg_" + group.name + "_" + number + ".dcm" : "seg_" + group.name + ".dcm"))
                    .string()};
            for (const Piece& piece : objects[n]) seg.segments.push_back(piece.written);
            const ObjectIdentity identity{seg.file.sop_class_uid,  seg.file.sop_instance_uid,
                                          seg.series_instance_uid, "SEG",
                                          series_number,           group.title,
                                          static_cast<int>(n) + 1};
            const std::string description =
                several ? fmt::format("{}, object {} of {}", group.title, n + 1, objects.size()) : group.title;
            DcmDataset dataset;
            fill(context, dataset, group, objects[n], identity, description);
            if (auto saved = dicom::save(dataset, context.request.work_folder / seg.file.file); !saved) {
                return std::move(saved).error().in("writing SEG " + group.name);
            }
            out.push_back(std::move(seg));
        }
    }
    return out;
}

}  // namespace cardionode
