// What the points must look like to be an aortic root, and the annular plane that follows from them.
//
// A point that fails a check becomes "not found" with a reason; it is never moved, and no other point takes its name.
// Limits: sides of the hinge triangle over 203 real TAVI cases have their 5th to 95th percentile at 17..36 mm, so that
// 10..50 mm contains any adult root; the others are generous anatomical bounds, stated at each field.
// Thread safety: pure functions.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/volume/findings.h"

namespace cardionode {

struct RootLimits {
    double min_hinge_side_mm = 10, max_hinge_side_mm = 50;
    /// Between the annular plane's normal and the way from the left ventricle to the aortic root.
    double max_plane_deviation_deg = 75;
    /// Ostia above the annular plane: typical 10..20 mm, anomalous ones up to the sinotubular junction and beyond.
    double min_ostium_height_mm = 0, max_ostium_height_mm = 40;
    double max_ostium_from_centre_mm = 50;
    /// Septum points from the centroid of the hinge points, and from each other (membranous septum: 0..20 mm long).
    double max_septum_from_centre_mm = 40;
    double max_septum_length_mm = 30;
    /// Any point from the nearest voxel of the aorta or the left ventricle.
    double max_from_root_labels_mm = 15;
    /// Two points with different names: nearer, one of them is the other's.
    double min_between_points_mm = 2;
};

/// Marks every landmark that still has a position as not found.
void withdraw_all(std::vector<Landmark>& landmarks, const std::string& reason);

/// Withdraws points that `inside` refuses: outside of the image.
void withdraw_outside(std::vector<Landmark>& landmarks, const Grid& image);

/// Withdraws points further than the limit from all voxels of the labels in `root` (on any grid).
void withdraw_far_from(std::vector<Landmark>& landmarks, const LabelMap& labels, const std::vector<int>& root,
                       const RootLimits& limits);

/// Of two points nearer to each other than the limit, withdraws the one with the lower confidence.
void withdraw_twins(std::vector<Landmark>& landmarks, const RootLimits& limits);

/// Unit vector from the left ventricle's centroid to that of the aorta within 40 mm of `root`.
/// None: a label is empty there.
std::optional<Vec3> ascending_direction(const LabelMap& labels, int left_ventricle, int aorta, PatientPoint root);

/// Centroid of the three hinge points, while all three are found.
std::optional<PatientPoint> hinge_centroid(const std::vector<Landmark>& landmarks);

/// Checks hinge points, ostia and septum points against each other and withdraws what cannot be true.
/// @param ascending  from ascending_direction(); none: the order of the hinge points alone gives the plane its sign
/// @return the annular plane through the three hinge points, point = their centroid, normal =
///         (left - right) x (noncoronary - right), which points to the ascending aorta; none: a hinge point is missing
///         or the three were withdrawn
std::optional<Plane> check_root(std::vector<Landmark>& landmarks, const std::optional<Vec3>& ascending,
                                const RootLimits& limits);

}  // namespace cardionode
