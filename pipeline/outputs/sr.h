// Two Comprehensive 3D SR documents of TID 1500 (PS3.16): landmarks with their measurements, and segment volumes.
//
// They are two because a document that mixes groups with 3D coordinates and groups without turns OHIF 3.13 black, and
// PixelMed's validator finds it wrong as well.
//
// Landmarks: one Measurement Group (TID 1410) per found landmark: a 3D point, the network's peak probability, and the
// measurements whose first found landmark it is (Measurement::rests_on). What was not found or could not be measured is
// said, with its reason, as texts under "Qualitative Evaluations", which TID 1500 has for statements without a number:
// a group without coordinates would not be allowed, and silence would read as "normal".
// Volumes: one Measurement Group (TID 1411) per written segment (part), referring to it in its SEG, with its volume and
// the measurements that rest on that segment alone.
// Used inside pipeline/outputs only. Thread safety: as OutputContext.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/outputs/context.h"
#include "pipeline/outputs/seg.h"

namespace cardionode {

/// Writes sr_landmarks.dcm, and sr_volumes.dcm when there is a SEG, into request.work_folder / `folder`.
/// Bug: a landmark outside the volume.
Result<std::vector<OutputFile>> write_srs(const OutputContext& context, const std::filesystem::path& folder,
                                          std::span<const WrittenSeg> segs, std::vector<std::string>& notes);

}  // namespace cardionode
