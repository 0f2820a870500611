// Points as an MITK point set file (.mps), the form in which the FedKD paper's tools keep and write them.
//
// XML, file version 0.1, one time step, identity geometry, ids from 0 in the order given, specification 0 (no special
// meaning); coordinates are MITK's world, which is LPS mm. The order gives each point its name, so that a set with a
// point missing would be read wrongly: only whole sets are written.
// Thread safety: pure functions.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/volume/findings.h"

namespace cardionode {

std::string point_set_mps(std::span<const PatientPoint> points);

/// The sets of the paper: "hps" (right, left, non-coronary hinge point, right and left ostium) and "ms" (upper, lower
/// point of the membranous septum).
struct PointSet {
    std::string name;                  ///< "hps"
    std::vector<PatientPoint> points;  ///< empty: not whole
    std::string missing;               ///< titles of what is missing, for people; empty: whole
};
std::vector<PointSet> point_sets(const Findings& findings);

}  // namespace cardionode
