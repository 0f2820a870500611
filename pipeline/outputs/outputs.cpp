#include "pipeline/outputs/outputs.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "pipeline/outputs/context.h"
#include "pipeline/outputs/key_images.h"
#include "pipeline/outputs/seg.h"
#include "pipeline/outputs/sr.h"
#include "scp/dicom/uid.h"

namespace cardionode {
namespace {

bool is_plain_name(const std::string& name) {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    });
}

Result<void> check_request(const CtSeries& source, const Findings& findings, const OutputRequest& request) {
    if (!is_plain_name(request.study_key)) return bug_error("the study key cannot be a folder name");
    if (request.revision < 1) return bug_error("revisions are counted from 1");
    for (const SegmentGroup& group : findings.groups) {
        if (!is_plain_name(group.name)) return bug_error("the name of a structure group cannot be a file name");
    }
    for (const Landmark& landmark : findings.landmarks) {
        if (!is_plain_name(landmark.name)) return bug_error("the name of a landmark cannot be a file name");
    }
    if (!is_valid_uid(source.study_instance_uid) || !is_valid_uid(source.series_instance_uid)) {
        return reject_error("the source has no valid study or series UID");
    }
    if (!is_valid_uid(source.frame_of_reference_uid)) return reject_error("the source has no frame of reference");
    return {};
}

/// A volume whose slices are said to be the source's must lie on them: position within half a slice, same pixels.
Result<void> check_planes(const CtSeries& source, const SourceHeader& header) {
    const Grid& grid = source.volume.grid;
    if (source.resampled) return {};
    if (static_cast<std::int64_t>(header.planes().size()) != grid.size()[2]) {
        return bug_error("the volume has another number of slices than the source");
    }
    for (std::size_t k = 0; k < header.planes().size(); ++k) {
        const SourcePlane& plane = header.planes()[k];
        const PatientPoint expected = grid.to_patient(VoxelIndex{{0, 0, static_cast<std::int64_t>(k)}});
        if (plane.columns != grid.size()[0] || plane.rows != grid.size()[1] ||
            distance_mm(plane.position, expected) > grid.spacing()[2] / 2 ||
            std::abs(plane.column_spacing - grid.spacing()[0]) > 1e-3 ||
            std::abs(plane.row_spacing - grid.spacing()[1]) > 1e-3 || dot(plane.row, grid.axes()[0]) < 0.9999 ||
            dot(plane.column, grid.axes()[1]) < 0.9999) {
            return bug_error(fmt::format("slice {} of the volume does not lie on its source image", k));
        }
    }
    return {};
}

Result<WrittenOutputs> write_all_outputs(const CtSeries& source, const Findings& findings,
                                         const OutputRequest& request) {
    if (auto checked = check_request(source, findings, request); !checked) return std::move(checked).error();
    auto header = SourceHeader::read(source);
    if (!header) return std::move(header).error();
    if (auto checked = check_planes(source, *header); !checked) return std::move(checked).error();
    const std::filesystem::path folder =
        std::filesystem::path(request.study_key) / fmt::format("r{}", request.revision);
    if (auto made = make_folder(request.work_folder / folder); !made) return std::move(made).error();

    const OutputContext context(source, findings, request, std::move(header).value());
    WrittenOutputs out;
    auto segs = write_segs(context, folder, out.notes);
    if (!segs) return std::move(segs).error();
    for (const WrittenSeg& seg : *segs) out.files.push_back(seg.file);
    auto srs = write_srs(context, folder, *segs, out.notes);
    if (!srs) return std::move(srs).error();
    out.files.insert(out.files.end(), srs->begin(), srs->end());
    auto key_images = write_key_images(context, folder);
    if (!key_images) return std::move(key_images).error();
    out.files.insert(out.files.end(), key_images->begin(), key_images->end());
    auto overview = write_overview(context, folder);
    if (!overview) return std::move(overview).error();
    out.overview = *overview;
    return out;
}

}  // namespace

Result<WrittenOutputs> write_outputs(const CtSeries& source, const Findings& findings, const OutputRequest& request) {
    try {
        return write_all_outputs(source, findings, request);
    } catch (const std::exception& e) {
        return bug_error(std::string("writing outputs: ") + e.what());
    }
}

}  // namespace cardionode
