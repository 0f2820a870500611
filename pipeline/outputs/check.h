// The geometry check that no public validator does: reads the written files back and compares them with the source.
//
// Found by it and by none of dciodvfy, PixelMed and dsrdump: another frame of reference, planes that are shifted, a
// point outside the volume, instances missing from the evidence.
// Thread safety: pure but for reading files.
#pragma once

#include <filesystem>
#include <span>

#include "conf/base/result.h"
#include "pipeline/read/ct_series.h"
#include "scp/queue/queue.h"

namespace cardionode {

/// Verifies every file of `outputs` (paths relative to `work_folder`):
///  - all: readable, SOP class and instance as announced, study of the source, instance UIDs unique
///  - SEG: frame of reference, rows and columns, orientation and pixel spacing of the source; each frame's plane is the
///    plane of the source image it says it comes from within 0.01 mm (read from the source files, not from CtSeries),
///    or of our own grid when the source was resampled; source images exist and are listed; fewer than 400 frames;
///    pixel data of the announced length; segments numbered from 1; no frame without a voxel; no plane twice in a
///    segment
///  - SR: a valid content tree; each 3D point in the frame of reference and inside the volume; the evidence holds every
///    source instance and every object that the tree refers to; referenced SEGs and segments exist among `outputs`
///  - key images: source images exist
/// Bug: the first of these that does not hold. Reject: a source file cannot be read. Never names a UID.
Result<void> check_outputs(const CtSeries& source, std::span<const OutputFile> outputs,
                           const std::filesystem::path& work_folder);

}  // namespace cardionode
