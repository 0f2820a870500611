// DICOM Segmentation objects (PS3.3 A.51): one BINARY SEG per structure group, on exactly the source planes.
//
// Uncompressed, frames segment by segment along the normal, empty frames left out. Some viewers switch off an object of
// 400 frames or more (Weasis 4.6), so a larger group becomes several objects in one series: segments are shared out
// whole, and only a segment that alone has too many slices is cut into parts ("Aorta (part 1 of 2)") that share one
// Tracking UID.
// Used inside pipeline/outputs only. Thread safety: as OutputContext.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/outputs/context.h"

namespace cardionode {

inline constexpr int kMaxSegFrames = 399;  ///< an object

/// One segment as it stands in one SEG object.
struct WrittenSegment {
    const SegmentGroup* group = nullptr;  ///< of the findings
    const Segment* segment = nullptr;
    std::uint16_t number = 0;  ///< in its object, from 1
    int part = 1, parts = 1;   ///< of a segment with too many slices
    std::int64_t voxels = 0;   ///< of this part
    std::string label;         ///< UTF-8: the title, and which part
};

struct WrittenSeg {
    OutputFile file;
    std::string series_instance_uid;
    std::vector<WrittenSegment> segments;
};

/// Writes the SEGs of all groups into request.work_folder / `folder`. A group or segment without a voxel is not written
/// and gets a line in `notes`. Bug: label map on another grid, a label in the map without a segment, a label twice.
Result<std::vector<WrittenSeg>> write_segs(const OutputContext& context, const std::filesystem::path& folder,
                                           std::vector<std::string>& notes);

}  // namespace cardionode
