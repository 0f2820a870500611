#include "pipeline/outputs/check.h"

#include <cmath>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmsr/dsrdoc.h>
#include <fmt/format.h>

#include "pipeline/outputs/dicom_write.h"
#include "pipeline/outputs/source_header.h"

namespace cardionode {
namespace {

using dicom::text_of;

constexpr double kPlaneToleranceMm = 0.01;
constexpr double kAxisTolerance = 1e-4;

/// Thrown inside this file and turned into a Bug at its edge: a check is a long row of conditions.
struct Wrong : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void require(bool holds, const std::string& what) {
    if (!holds) throw Wrong(what);
}

std::vector<DcmItem*> items_of(DcmItem& parent, const DcmTagKey& tag) {
    std::vector<DcmItem*> items;
    DcmSequenceOfItems* sequence = nullptr;
    if (parent.findAndGetSequence(tag, sequence).good()) {
        for (unsigned long n = 0; n < sequence->card(); ++n) items.push_back(sequence->getItem(n));
    }
    return items;
}

DcmItem& only_item(DcmItem& parent, const DcmTagKey& tag, const char* what) {
    const auto items = items_of(parent, tag);
    require(items.size() == 1, fmt::format("{} is missing or there are several", what));
    return *items.front();
}

std::vector<double> numbers_of(DcmItem& item, const DcmTagKey& tag, std::size_t count, const char* what) {
    std::vector<double> values(count);
    for (std::size_t n = 0; n < count; ++n) {
        require(item.findAndGetFloat64(tag, values[n], n).good(), fmt::format("{} is missing", what));
    }
    return values;
}

std::uint16_t us_of(DcmItem& item, const DcmTagKey& tag) {
    Uint16 value = 0;
    item.findAndGetUint16(tag, value);
    return value;
}

class Checker {
public:
    Checker(const CtSeries& source, const SourceHeader& header, std::span<const OutputFile> outputs,
            const std::filesystem::path& work_folder)
        : source_(source), header_(header), outputs_(outputs), work_folder_(work_folder) {
        for (const SourceSlice& slice : source.slices) source_uids_.insert(slice.sop_instance_uid);
    }

    void run() {
        std::set<std::string> uids = source_uids_;
        for (const OutputFile& output : outputs_) {
            require(uids.insert(output.sop_instance_uid).second, output.file + ": its instance UID is used twice");
        }
        // SEGs first: what the reports refer to must be known by then, whatever the order of the files.
        for (const OutputFile& output : outputs_) {
            if (output.kind == "SEG") check_file(output);
        }
        for (const OutputFile& output : outputs_) {
            if (output.kind != "SEG") check_file(output);
        }
    }

private:
    void check_file(const OutputFile& output) {
        DcmFileFormat format;
        const OFCondition loaded = format.loadFile((work_folder_ / output.file).c_str());
        require(loaded.good(), output.file + ": cannot be read back: " + loaded.text());
        format.loadAllDataIntoMemory();
        DcmDataset& dataset = *format.getDataset();
        try {
            require(text_of(dataset, DCM_SOPInstanceUID) == output.sop_instance_uid, "another instance than announced");
            require(text_of(dataset, DCM_SOPClassUID) == output.sop_class_uid, "another SOP class than announced");
            require(text_of(dataset, DCM_StudyInstanceUID) == source_.study_instance_uid, "another study");
            require(!text_of(dataset, DCM_SeriesInstanceUID).empty() &&
                        text_of(dataset, DCM_SeriesInstanceUID) != source_.series_instance_uid,
                    "no series of its own");
            if (output.kind == "SEG") check_seg(dataset, output);
            else if (output.kind == "SR") check_sr(dataset);
            else check_picture(dataset);
        } catch (const Wrong& wrong) {
            throw Wrong(output.file + ": " + wrong.what());
        }
    }

    // --- SEG

    void check_seg(DcmDataset& dataset, const OutputFile& output) {
        const auto& size = source_.volume.grid.size();
        require(text_of(dataset, DCM_FrameOfReferenceUID) == source_.frame_of_reference_uid,
                "another frame of reference than the source");
        require(us_of(dataset, DCM_Columns) == size[0] && us_of(dataset, DCM_Rows) == size[1],
                "other rows or columns than the source");
        DcmItem& series = only_item(dataset, DCM_ReferencedSeriesSequence, "the referenced series");
        require(text_of(series, DCM_SeriesInstanceUID) == source_.series_instance_uid, "refers to another series");
        std::set<std::string> listed;
        for (DcmItem* item : items_of(series, DCM_ReferencedInstanceSequence)) {
            listed.insert(text_of(*item, DCM_ReferencedSOPInstanceUID));
        }
        require(listed == source_uids_, "the referenced instances are not those of the source");

        const auto segments = items_of(dataset, DCM_SegmentSequence);
        require(!segments.empty(), "no segment");
        for (std::size_t n = 0; n < segments.size(); ++n) {
            require(us_of(*segments[n], DCM_SegmentNumber) == n + 1, "segments are not numbered from 1");
        }
        segments_of_[output.sop_instance_uid] = segments.size();
        check_shared_groups(dataset);
        check_frames(dataset, segments.size());
        check_pixels(dataset);
    }

    void check_shared_groups(DcmDataset& dataset) {
        DcmItem& shared = only_item(dataset, DCM_SharedFunctionalGroupsSequence, "the shared functional group");
        const auto axes = numbers_of(only_item(shared, DCM_PlaneOrientationSequence, "the plane orientation"),
                                     DCM_ImageOrientationPatient, 6, "the orientation");
        const auto spacing = numbers_of(only_item(shared, DCM_PixelMeasuresSequence, "the pixel measures"),
                                        DCM_PixelSpacing, 2, "the pixel spacing");
        const Grid& grid = source_.volume.grid;
        std::vector<SourcePlane> planes = header_.planes();
        if (source_.resampled) {
            planes = {{grid.origin(), grid.axes()[0], grid.axes()[1], grid.spacing()[1], grid.spacing()[0],
                       static_cast<int>(grid.size()[1]), static_cast<int>(grid.size()[0])}};
        }
        for (const SourcePlane& plane : planes) {
            for (std::size_t a = 0; a < 3; ++a) {
                require(std::abs(axes[a] - plane.row[a]) < kAxisTolerance &&
                            std::abs(axes[a + 3] - plane.column[a]) < kAxisTolerance,
                        "another orientation than the source");
            }
            require(std::abs(spacing[0] - plane.row_spacing) < kAxisTolerance &&
                        std::abs(spacing[1] - plane.column_spacing) < kAxisTolerance,
                    "another pixel spacing than the source");
        }
    }

    /// Where a frame that names this source image has to lie; for a resampled series: on some plane of the grid.
    double distance_to_plane(const PatientPoint& position, const std::string& uid, int frame) const {
        if (source_.resampled) {
            const double k = std::round(source_.volume.grid.to_index(position).ijk[2]);
            return distance_mm(position, source_.volume.grid.to_patient(ContinuousIndex{{0, 0, k}}));
        }
        for (std::size_t n = 0; n < source_.slices.size(); ++n) {
            if (source_.slices[n].sop_instance_uid == uid && source_.slices[n].frame == frame) {
                return distance_mm(position, header_.planes()[n].position);
            }
        }
        throw Wrong("a frame names a source image that does not exist");
    }

    void check_frames(DcmDataset& dataset, std::size_t segments) {
        const auto frames = items_of(dataset, DCM_PerFrameFunctionalGroupsSequence);
        Sint32 announced = 0;
        dataset.findAndGetSint32(DCM_NumberOfFrames, announced);
        require(!frames.empty() && announced == static_cast<Sint32>(frames.size()), "a wrong number of frames");
        require(frames.size() < 400, "400 frames or more");
        std::set<std::pair<int, std::string>> places;
        std::set<int> used;
        for (DcmItem* frame : frames) {
            DcmItem& derivation = only_item(*frame, DCM_DerivationImageSequence, "the derivation image of a frame");
            DcmItem& image = only_item(derivation, DCM_SourceImageSequence, "the source image of a frame");
            const std::string uid = text_of(image, DCM_ReferencedSOPInstanceUID);
            require(source_uids_.count(uid) == 1, "a frame names a source image that does not exist");
            Sint32 source_frame = 0;
            image.findAndGetSint32(DCM_ReferencedFrameNumber, source_frame);
            const auto at = numbers_of(only_item(*frame, DCM_PlanePositionSequence, "the plane position of a frame"),
                                       DCM_ImagePositionPatient, 3, "the position of a frame");
            const double off = distance_to_plane({{at[0], at[1], at[2]}}, uid, source_frame);
            require(off <= kPlaneToleranceMm, fmt::format("a frame lies {:.3f} mm off its source plane", off));
            DcmItem& identification = only_item(*frame, DCM_SegmentIdentificationSequence, "the segment of a frame");
            const int segment = us_of(identification, DCM_ReferencedSegmentNumber);
            require(segment >= 1 && static_cast<std::size_t>(segment) <= segments, "a frame of an unknown segment");
            require(places.emplace(segment, fmt::format("{:.3f} {:.3f} {:.3f}", at[0], at[1], at[2])).second,
                    "two frames of a segment on one plane");
            used.insert(segment);
        }
        require(used.size() == segments, "a segment without a frame");
    }

    void check_pixels(DcmDataset& dataset) {
        Sint32 frames = 0;
        dataset.findAndGetSint32(DCM_NumberOfFrames, frames);
        const std::size_t per_frame = static_cast<std::size_t>(us_of(dataset, DCM_Rows)) * us_of(dataset, DCM_Columns);
        const std::size_t bits = per_frame * static_cast<std::size_t>(frames);
        const Uint8* pixels = nullptr;
        unsigned long length = 0;
        dataset.findAndGetUint8Array(DCM_PixelData, pixels, &length);
        const std::size_t expected = (bits + 7) / 8;
        require(pixels != nullptr && length == expected + expected % 2, "pixel data of a wrong length");
        for (std::size_t frame = 0; frame < static_cast<std::size_t>(frames); ++frame) {
            bool any = false;
            for (std::size_t bit = frame * per_frame; bit < (frame + 1) * per_frame && !any;) {
                if (pixels[bit / 8] == 0) bit = (bit / 8 + 1) * 8;
                else any = (pixels[bit / 8] >> (bit % 8) & 1) != 0, ++bit;
            }
            require(any, "a frame without a voxel");
        }
    }

    // --- SR

    void check_sr(DcmDataset& dataset) {
        DSRDocument document;
        const OFCondition read = document.read(dataset);
        require(read.good() && document.isValid(), std::string("no valid structured report: ") + read.text());
        std::set<std::string> evidence;
        for (DcmItem* study : items_of(dataset, DCM_CurrentRequestedProcedureEvidenceSequence)) {
            require(text_of(*study, DCM_StudyInstanceUID) == source_.study_instance_uid, "evidence of another study");
            for (DcmItem* series : items_of(*study, DCM_ReferencedSeriesSequence)) {
                for (DcmItem* item : items_of(*series, DCM_ReferencedSOPSequence)) {
                    evidence.insert(text_of(*item, DCM_ReferencedSOPInstanceUID));
                }
            }
        }
        for (const std::string& uid : source_uids_) {
            require(evidence.count(uid) == 1, "a source image is missing from the evidence");
        }
        for (const std::string& uid : evidence)
            require(exists(uid), "the evidence names an object that does not exist");
        check_content(dataset, evidence);
    }

    void check_content(DcmItem& parent, const std::set<std::string>& evidence) {
        for (DcmItem* item : items_of(parent, DCM_ContentSequence)) {
            const std::string type = text_of(*item, DCM_ValueType);
            if (type == "SCOORD3D") check_points(*item);
            if (type == "IMAGE" || type == "COMPOSITE") check_reference(*item, evidence);
            check_content(*item, evidence);
        }
    }

    void check_points(DcmItem& item) {
        require(text_of(item, DCM_ReferencedFrameOfReferenceUID) == source_.frame_of_reference_uid,
                "a point in another frame of reference than the source");
        const Float32* values = nullptr;
        unsigned long count = 0;
        item.findAndGetFloat32Array(DCM_GraphicData, values, &count);
        require(values != nullptr && count > 0 && count % 3 == 0, "a 3D region without coordinates");
        for (unsigned long n = 0; n < count; n += 3) {
            const PatientPoint point{{values[n], values[n + 1], values[n + 2]}};
            require(source_.volume.grid.nearest_voxel(point).has_value(), "a point outside the volume");
        }
    }

    void check_reference(DcmItem& item, const std::set<std::string>& evidence) {
        DcmItem& reference = only_item(item, DCM_ReferencedSOPSequence, "the reference of an image item");
        const std::string uid = text_of(reference, DCM_ReferencedSOPInstanceUID);
        require(exists(uid), "refers to an object that does not exist");
        require(evidence.count(uid) == 1, "refers to an object that is missing from the evidence");
        const auto seg = segments_of_.find(uid);
        const int segment = us_of(reference, DCM_ReferencedSegmentNumber);
        if (seg != segments_of_.end()) {
            require(segment >= 1 && static_cast<std::size_t>(segment) <= seg->second,
                    "refers to a segment that does not exist");
        } else {
            require(segment == 0, "refers to a segment of an object that has none");
        }
    }

    bool exists(const std::string& uid) const {
        if (source_uids_.count(uid) == 1) return true;
        for (const OutputFile& output : outputs_) {
            if (output.sop_instance_uid == uid) return true;
        }
        return false;
    }

    // --- key images

    void check_picture(DcmDataset& dataset) {
        const Uint8* pixels = nullptr;
        unsigned long length = 0;
        dataset.findAndGetUint8Array(DCM_PixelData, pixels, &length);
        const std::size_t expected = std::size_t{3} * us_of(dataset, DCM_Rows) * us_of(dataset, DCM_Columns);
        require(pixels != nullptr && expected > 0 && length == expected + expected % 2, "pixel data of a wrong length");
        for (DcmItem* item : items_of(dataset, DCM_SourceImageSequence)) {
            require(source_uids_.count(text_of(*item, DCM_ReferencedSOPInstanceUID)) == 1,
                    "a source image that does not exist");
        }
    }

    const CtSeries& source_;
    const SourceHeader& header_;
    std::span<const OutputFile> outputs_;
    const std::filesystem::path& work_folder_;
    std::set<std::string> source_uids_;
    std::map<std::string, std::size_t> segments_of_;  ///< number of segments by SEG
};

}  // namespace

Result<void> check_outputs(const CtSeries& source, std::span<const OutputFile> outputs,
                           const std::filesystem::path& work_folder) {
    auto header = SourceHeader::read(source);
    if (!header) return std::move(header).error().in("checking outputs");
    try {
        Checker(source, *header, outputs, work_folder).run();
    } catch (const std::exception& wrong) {
        return bug_error(std::string("checking outputs: ") + wrong.what());
    }
    return {};
}

}  // namespace cardionode
