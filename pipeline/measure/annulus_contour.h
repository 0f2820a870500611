// The border of the lumen in the annular plane: a label map resliced, and what a TAVI planner reads from it.
//
// The annulus is not the circle through the hinge points: it is the outline of the blood (aorta and left ventricle
// together, since the border between them is arbitrary) in the plane through them.
// Definitions (facts, section 3): D_area = 2 sqrt(A / pi); D_perimeter = P / pi; minimum and maximum diameter are the
// smallest and largest distance of two parallel tangents (caliper); eccentricity = 1 - Dmin / Dmax.
// Thread safety: pure functions.
#pragma once

#include <array>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct AnnulusContour {
    double area_mm2 = 0;
    double perimeter_mm = 0;
    double min_diameter_mm = 0;
    double max_diameter_mm = 0;
};

/// Samples the labels every 0.25 mm within 40 mm around the plane's point, smooths the staircase of the voxels of
/// source and network (sigma 1 mm, or 0.6 of the largest voxel side), and follows the half-way line round the region at
/// the plane's point; what smoothing shrinks is taken back. Holes are filled.
/// Error on oblique ellipses of known size, 30 positions each: area at most 0.2 % for voxels of 0.5 mm, 0.7 % at 1 mm,
/// 1.8 % at 1.5 mm, 2.4 % at 2 mm; perimeter 0.1..0.7 % too long, diameters within 0.2 mm on average.
/// Reject, with words for people: no lumen within 10 mm of the plane's point; the region runs out of the window;
/// an area outside 100..1500 mm2, which no adult annulus has (reference cohort: 492 +- 95 mm2); an outline whose
/// D_perimeter is more than 1.1 times its D_area (cohort: 1.02; an ellipse twice as long as wide: 1.09), which means
/// that the labels run out into a neighbour there.
Result<AnnulusContour> annulus_contour(const LabelMap& labels, const std::vector<int>& lumen, const Plane& plane);

}  // namespace cardionode
