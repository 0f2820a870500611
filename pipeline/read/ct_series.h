// One CT series as the pipeline sees it: the volume, and the instances it came from.
//
// Thread safety: values.
#pragma once

#include <filesystem>
#include <optional>
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
    std::string why_chosen;  ///< for people: "series 4 (CTA), 0.6 mm, contrast agent, phase 35 %: best of 3 CT series"
    std::vector<std::string> not_chosen;  ///< for people: each other series of the study, and why not that one
    std::vector<std::string> warnings;    ///< for people: "no contrast agent is named in the header"
    bool contrast_named = false;          ///< the header or the description names a contrast agent
    std::optional<double> phase_percent;  ///< of the cardiac cycle, 0..100, where the header says so
    bool lossy = false;                   ///< a slice was compressed with loss at some time (0028,2110)
};

}  // namespace cardionode
