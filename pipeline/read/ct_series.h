// One CT series as the pipeline sees it: the volume, and the instances it came from.
//
// Thread safety: values.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/volume/volume.h"

namespace cardionode {

/// The instance (and frame, for Enhanced CT) that a slice of the volume came from.
struct SourceSlice {
    std::filesystem::path file;  ///< Part 10 file in the spool
    std::string sop_class_uid;
    std::string sop_instance_uid;
    int frame = 0;           ///< 1-based frame of an Enhanced multi-frame instance; 0: single-frame
    double position_mm = 0;  ///< along the normal
};

struct CtSeries {
    Volume volume;                    ///< HU; slice k grows along the normal (row axis x column axis)
    std::vector<SourceSlice> slices;  ///< in the order of k when !resampled; else all source slices by position
    bool resampled = false;           ///< true: the grid is ours (tilt or uneven spacing), not the source's
    std::string study_instance_uid;
    std::string series_instance_uid;
    std::string frame_of_reference_uid;
    std::string why_chosen;  ///< for people: "CTA 0.6 mm, contrast, phase 35 %: best of 3 CT series"
    std::vector<std::string> warnings;
};

}  // namespace cardionode
