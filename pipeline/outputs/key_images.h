// Key images: a series of single-frame Secondary Capture images (PS3.3 A.8.1) that every PACS shows, with what SR
// viewers often do not draw: landmarks, contours, the annular plane, the table of measurements. See pages.h for what is
// on them.
//
// Single-frame and not multi-frame: the multi-frame true colour class is refused or shown as its first frame by much
// that stands in hospitals. RGB, 8 bits, 768 x 768, uncompressed; no patient data in the pixels.
// overview.png is the same pages in one picture, for people; it is not sent.
// Used inside pipeline/outputs only. Thread safety: as OutputContext.
#pragma once

#include <filesystem>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/outputs/context.h"

namespace cardionode {

/// Writes key_01.dcm ... into request.work_folder / `folder`.
Result<std::vector<OutputFile>> write_key_images(const OutputContext& context, const std::filesystem::path& folder);

/// Writes overview.png. @return its path relative to request.work_folder
Result<std::filesystem::path> write_overview(const OutputContext& context, const std::filesystem::path& folder);

}  // namespace cardionode
