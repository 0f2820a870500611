// A phantom as a CT and its truth as Findings, in the form that the node's result has.
//
// The truth's numbers are made by measure() from exact labels and points, so that a difference is the model's and not
// the measuring's. Calcium stands in it twice: "calcium_region" is the drawn label, "valve_calcium" what the node's own
// rule (dilation, threshold by the lumen) finds on the same image inside that label.
// Thread safety: pure functions.
#pragma once

#include "conf/base/result.h"
#include "models/bundle.h"
#include "models/train/phantom.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

inline constexpr std::string_view kCalciumRegion = "calcium_region";

/// HU rounded to whole numbers, as a scanner stores them.
Result<Volume> ct_of(const train::Phantom& phantom);

/// Points that lie outside of the grid or the scan, or in a phantom without contrast agent, have no position.
/// Config: the manifest's calcium rule.
Result<Findings> truth_of(const train::Phantom& phantom, const Volume& ct, const BundleManifest& manifest);

}  // namespace cardionode
