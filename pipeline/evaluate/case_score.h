// One case: what the node found against what is true. A record that stands for itself, one JSON line a case.
//
// The truth is written as Findings too, so that both sides are measured by the same code: a landmark that is not
// there has no position, the label maps carry the same segment names, and measure() has made both sides' numbers.
// Units: mm, ml; LPS. Thread safety: values and pure functions.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/evaluate/overlap.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct PointScore {
    std::string name;
    std::optional<PatientPoint> truth, found;  ///< none: not there; not found
    double confidence = 0;
    std::string reason;  ///< why it was not found
    /// Found minus true, in the root's own directions: along the axis towards the aorta, outwards from the centre of
    /// the true hinge points, and round the axis (right-handed). None without both points or without a true plane.
    std::optional<Vec3> offset_root;

    bool present() const { return truth.has_value(); }
    /// kMissed where the point is there and was not found; none where there is nothing to be found.
    std::optional<double> error_mm() const;
    bool false_find() const { return !truth && found; }
};

struct StructureScore {
    std::string name;
    VoxelCounts voxels;
    double voxel_ml = 0;  ///< of one voxel
    std::optional<SurfaceDistances> surface;
    double found_ml() const { return static_cast<double>(voxels.found) * voxel_ml; }
    double true_ml() const { return static_cast<double>(voxels.truth) * voxel_ml; }
};

/// A measurement by its name ("annulus_area_mm2"); none: there is no number.
struct NumberScore {
    std::optional<double> truth, found;
    std::string reason;  ///< why the node gave none
};

struct CaseScore {
    std::string name;
    std::string profile;   ///< of the scanner; "-": not known
    bool contrast = true;  ///< false: an unenhanced scan, in which the root has no point to be found
    std::vector<PointScore> points;
    std::vector<StructureScore> structures;
    std::map<std::string, NumberScore> numbers;
    std::optional<double> plane_angle_deg, centre_error_mm;  ///< none unless both planes are there
    std::vector<std::string> warnings;                       ///< what the node told people
    std::map<std::string, double> seconds;                   ///< by stage

    /// Any point, or any number of the root (all but the volumes of heart structures).
    bool gives_root() const;
    std::optional<double> largest_error_mm() const;  ///< none: nothing was to be found
};

/// One structure to compare: a segment of a group on both sides.
struct StructureTask {
    std::string group, segment;
};

/// The heart's structures and the calcium that `truth` has groups for.
std::vector<StructureTask> structures_of(const Findings& truth);

/// A group or segment that the node did not give counts as empty. The points are the truth's, in its order; points
/// that the truth does not know are left out. Bug: label maps on different grids.
Result<CaseScore> score_case(const Findings& found, const Findings& truth, const std::vector<StructureTask>& tasks);

nlohmann::json to_json(const CaseScore& score);
/// Config: not what to_json writes.
Result<CaseScore> case_score_from(const nlohmann::json& json);

}  // namespace cardionode
