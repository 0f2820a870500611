// The evaluation to look at: how the errors are spread, and what the worst cases look like.
// Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include "pipeline/evaluate/case_score.h"
#include "pipeline/outputs/canvas.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

/// One row a landmark: every error as a dot, box of the quartiles, misses in a column of their own; below, one row a
/// structure with the Dice of every case. @param title  one line above
Canvas distribution_picture(const std::vector<CaseScore>& cases, const std::string& title);

/// Three slices (axial, coronal, sagittal) of 60 mm through the true place of the case's worst point, with the true
/// points as green crosses and the found ones as red rings, the worst pair joined; below, the case's errors.
/// Points more than 3 mm off the slice are drawn faintly.
/// @param note  ends the caption: "A phantom, no patient."
Canvas worst_case_picture(const Volume& ct, const CaseScore& score, const std::string& note);

}  // namespace cardionode
