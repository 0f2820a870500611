// Many cases as one table's numbers: per landmark, per structure, per measurement, per scanner profile.
//
// Rules, so that nothing looks better than it is:
//   - A point that is there and was not found has an infinite error; so has a distance between surfaces of which one is
//     empty, and a measurement, plane angle or centre that the node did not give although the truth has it.
//   - Points, structures and measurements are summed up over the cases with contrast agent. Unenhanced cases answer
//     one question only: does the node invent a root?
//   - Dice where both masks are empty does not exist and is counted apart ("agreed that there is none").
// Thread safety: values and pure functions.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/evaluate/case_score.h"
#include "pipeline/evaluate/statistics.h"

namespace cardionode {

struct PointSummary {
    std::string name;     ///< a landmark, or a group of them: "all points", "hinge points and ostia", "septum points"
    int present = 0;      ///< there to be found
    int found = 0;        ///< of them
    int absent = 0;       ///< not there: outside of the scan
    int false_finds = 0;  ///< of them, found all the same
    Distribution error_mm;
    double within_2mm = 0, within_3mm = 0, within_5mm = 0;  ///< shares of all present ones
    /// Mean of found minus true over the found ones: left, back, head; and up the root's axis, outwards, round it.
    std::optional<Vec3> bias_lps_mm, bias_root_mm;
    /// Root mean square of what remains of the error after the mean offset in the root's directions is taken away: when
    /// it is much smaller than the error, a shift is what is wrong.
    std::optional<double> spread_root_mm;
    std::map<std::string, int> why_missed;  ///< reasons with their figures taken out, and how often
};

struct StructureSummary {
    std::string name;
    int cases = 0, agreed_none = 0, only_found = 0, only_true = 0;
    std::optional<double> pooled_dice;  ///< over the voxels of all cases
    Distribution dice;                  ///< of the cases in which it exists
    Distribution surface_mm, hausdorff95_mm;
    Distribution volume_error_ml;       ///< found minus true
    Distribution volume_error_percent;  ///< of cases with a true volume
};

struct NumberSummary {
    std::string name;
    int both = 0, not_given = 0, invented = 0;  ///< invented: a number where the truth has none
    Distribution absolute_error;                ///< not given counts as infinite
    Distribution error;                         ///< found minus true, where both are there
    std::map<std::string, int> why_not_given;   ///< as why_missed
    Distribution absolute_percent;              ///< of the truth, where that is above zero
};

struct GroupSummary {
    std::string title;  ///< "all", or a scanner profile
    int cases = 0, with_contrast = 0, without_contrast = 0;
    int invented_root = 0;             ///< unenhanced cases in which a point or a number of the root was given
    std::vector<PointSummary> points;  ///< the groups first
    std::vector<StructureSummary> structures;
    std::vector<NumberSummary> numbers;
    Distribution plane_angle_deg, centre_error_mm;
    Distribution seconds;  ///< a case
};

struct Summary {
    GroupSummary all;
    std::vector<GroupSummary> profiles;  ///< by name; none where only one profile occurs
    /// The profile with the highest median error over all points (by the lower share found when equal); empty where
    /// there is nothing to choose from.
    std::string worst_profile;
};

/// @param seed  of the bootstrap
Summary summarise(const std::vector<CaseScore>& cases, std::uint64_t seed = 1);
nlohmann::json to_json(const Summary& summary);

/// The names of the cases by their largest point error, the worst first; misses before everything, the case with more
/// of them first. Cases without contrast agent or without points do not stand in it.
std::vector<std::string> worst_first(const std::vector<CaseScore>& cases);

}  // namespace cardionode
