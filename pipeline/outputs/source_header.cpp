#include "pipeline/outputs/source_header.h"

#include <cmath>
#include <filesystem>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <fmt/format.h>

namespace cardionode {
namespace {

bool numbers(DcmItem* item, const DcmTagKey& tag, double* out, unsigned long count) {
    if (item == nullptr) return false;
    for (unsigned long i = 0; i < count; ++i) {
        if (item->findAndGetFloat64(tag, out[i], i).bad() || !std::isfinite(out[i])) return false;
    }
    return true;
}

/// The first item of `sequence` in the frame's own functional groups, or else in the shared ones.
DcmItem* functional_group(DcmItem& dataset, int frame, const DcmTagKey& sequence) {
    DcmItem* groups = nullptr;
    DcmItem* item = nullptr;
    if (dataset.findAndGetSequenceItem(DCM_PerFrameFunctionalGroupsSequence, groups, frame - 1).good() &&
        groups->findAndGetSequenceItem(sequence, item, 0).good()) {
        return item;
    }
    if (dataset.findAndGetSequenceItem(DCM_SharedFunctionalGroupsSequence, groups, 0).good() &&
        groups->findAndGetSequenceItem(sequence, item, 0).good()) {
        return item;
    }
    return nullptr;
}

bool read_plane(DcmItem& dataset, int frame, SourcePlane& plane) {
    DcmItem* position = &dataset;
    DcmItem* orientation = &dataset;
    DcmItem* measures = &dataset;
    if (frame > 0) {
        position = functional_group(dataset, frame, DCM_PlanePositionSequence);
        orientation = functional_group(dataset, frame, DCM_PlaneOrientationSequence);
        measures = functional_group(dataset, frame, DCM_PixelMeasuresSequence);
    }
    double axes[6];
    double spacing[2];
    Uint16 rows = 0, columns = 0;
    if (!numbers(position, DCM_ImagePositionPatient, plane.position.lps_mm.data(), 3) ||
        !numbers(orientation, DCM_ImageOrientationPatient, axes, 6) ||
        !numbers(measures, DCM_PixelSpacing, spacing, 2) || dataset.findAndGetUint16(DCM_Rows, rows).bad() ||
        dataset.findAndGetUint16(DCM_Columns, columns).bad()) {
        return false;
    }
    plane.row = {axes[0], axes[1], axes[2]};
    plane.column = {axes[3], axes[4], axes[5]};
    plane.row_spacing = spacing[0];
    plane.column_spacing = spacing[1];
    plane.rows = rows;
    plane.columns = columns;
    return norm(plane.row) > 0.9 && norm(plane.column) > 0.9;
}

}  // namespace

struct SourceHeader::File {
    DcmFileFormat format;
    std::filesystem::path path;

    Result<void> load(const std::filesystem::path& file) {
        path = file;
        // Values of more than 4 KiB, pixel data above all, stay in the file.
        const OFCondition loaded = format.loadFile(file.c_str(), EXS_Unknown, EGL_noChange, 4096, ERM_autoDetect);
        if (loaded.bad()) {
            return reject_error(fmt::format("source file {}: {}", file.filename().string(), loaded.text()));
        }
        return {};
    }
};

SourceHeader::SourceHeader() = default;
SourceHeader::SourceHeader(SourceHeader&&) noexcept = default;
SourceHeader& SourceHeader::operator=(SourceHeader&&) noexcept = default;
SourceHeader::~SourceHeader() = default;

DcmItem& SourceHeader::first() const { return *first_->format.getDataset(); }

Result<SourceHeader> SourceHeader::read(const CtSeries& source) {
    if (source.slices.empty()) return reject_error("the source series has no slices");
    SourceHeader header;
    header.first_ = std::make_unique<File>();
    if (auto loaded = header.first_->load(source.slices.front().file); !loaded) return std::move(loaded).error();
    File other;
    for (const SourceSlice& slice : source.slices) {
        File* file = header.first_.get();
        if (slice.file != file->path) {
            file = &other;
            if (slice.file != other.path) {  // the frames of an Enhanced CT share one file
                if (auto loaded = other.load(slice.file); !loaded) return std::move(loaded).error();
            }
        }
        SourcePlane plane;
        if (!read_plane(*file->format.getDataset(), slice.frame, plane)) {
            return reject_error(fmt::format("source file {}: position, orientation or pixel spacing missing",
                                            slice.file.filename().string()));
        }
        header.planes_.push_back(plane);
    }
    return header;
}

}  // namespace cardionode
