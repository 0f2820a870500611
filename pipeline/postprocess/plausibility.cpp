#include "pipeline/postprocess/plausibility.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

Landmark* find(std::vector<Landmark>& landmarks, std::string_view name) {
    for (Landmark& l : landmarks) {
        if (l.name == name) return &l;
    }
    return nullptr;
}

void withdraw(Landmark& landmark, std::string reason) {
    if (!landmark.position) return;
    landmark.position.reset();
    landmark.reason = std::move(reason);
}

/// The three hinge points in the order right, left, non-coronary; none unless all are found.
std::optional<std::array<Landmark*, 3>> hinges(std::vector<Landmark>& landmarks) {
    std::array<Landmark*, 3> found{};
    for (std::size_t h = 0; h < found.size(); ++h) {
        found[h] = find(landmarks, names::kHinges[h]);
        if (!found[h] || !found[h]->position) return std::nullopt;
    }
    return found;
}

PatientPoint at(const Grid& grid, std::int64_t offset) {
    const auto& size = grid.size();
    return grid.to_patient(VoxelIndex{{offset % size[0], offset / size[0] % size[1], offset / (size[0] * size[1])}});
}

void check_ostium(Landmark* ostium, const Plane& plane, const RootLimits& limits) {
    if (!ostium || !ostium->position) return;
    const Vec3 d = subtract(ostium->position->lps_mm, plane.point.lps_mm);
    const double height = dot(d, plane.normal);
    if (height < limits.min_ostium_height_mm) {
        withdraw(*ostium, fmt::format("implausible: {:.1f} mm below the annular plane", -height));
    } else if (height > limits.max_ostium_height_mm) {
        withdraw(*ostium, fmt::format("implausible: {:.1f} mm above the annular plane", height));
    } else if (norm(d) > limits.max_ostium_from_centre_mm) {
        withdraw(*ostium, fmt::format("implausible: {:.1f} mm from the centre of the hinge points", norm(d)));
    }
}

void check_septum(std::vector<Landmark>& landmarks, const std::optional<Plane>& plane, const RootLimits& limits) {
    Landmark* upper = find(landmarks, names::kSeptumUpper);
    Landmark* lower = find(landmarks, names::kSeptumLower);
    for (Landmark* point : {upper, lower}) {
        if (!plane || !point || !point->position) continue;
        const double away = distance_mm(*point->position, plane->point);
        if (away > limits.max_septum_from_centre_mm) {
            withdraw(*point, fmt::format("implausible: {:.1f} mm from the centre of the hinge points", away));
        }
    }
    if (upper && lower && upper->position && lower->position) {
        const double length = distance_mm(*upper->position, *lower->position);
        if (length > limits.max_septum_length_mm) {
            const auto reason = fmt::format("implausible: the two septum points are {:.1f} mm apart", length);
            withdraw(*upper, reason);
            withdraw(*lower, reason);
        }
    }
}

}  // namespace

void withdraw_all(std::vector<Landmark>& landmarks, const std::string& reason) {
    for (Landmark& l : landmarks) withdraw(l, reason);
}

void withdraw_outside(std::vector<Landmark>& landmarks, const Grid& image) {
    for (Landmark& l : landmarks) {
        if (l.position && !image.nearest_voxel(*l.position)) withdraw(l, "it would lie outside of the image");
    }
}

void withdraw_far_from(std::vector<Landmark>& landmarks, const LabelMap& labels, const std::vector<int>& root,
                       const RootLimits& limits) {
    std::vector<double> nearest(landmarks.size(), std::numeric_limits<double>::infinity());
    for (std::int64_t o = 0; o < labels.grid.voxel_count(); ++o) {
        if (labels.voxels[o] == 0 || std::find(root.begin(), root.end(), labels.voxels[o]) == root.end()) continue;
        const PatientPoint p = at(labels.grid, o);
        for (std::size_t l = 0; l < landmarks.size(); ++l) {
            if (landmarks[l].position) nearest[l] = std::min(nearest[l], distance_mm(p, *landmarks[l].position));
        }
    }
    for (std::size_t l = 0; l < landmarks.size(); ++l) {
        if (!landmarks[l].position || nearest[l] <= limits.max_from_root_labels_mm) continue;
        withdraw(landmarks[l],
                 std::isfinite(nearest[l])
                     ? fmt::format("implausible: {:.1f} mm from the aorta and the left ventricle", nearest[l])
                     : std::string("implausible: neither aorta nor left ventricle was found"));
    }
}

void withdraw_twins(std::vector<Landmark>& landmarks, const RootLimits& limits) {
    for (Landmark& a : landmarks) {
        for (Landmark& b : landmarks) {
            if (&a == &b || !a.position || !b.position || a.confidence < b.confidence) continue;
            const double apart = distance_mm(*a.position, *b.position);
            if (apart >= limits.min_between_points_mm) continue;
            withdraw(b, fmt::format("implausible: {:.1f} mm from {}, of which the model is surer", apart, a.title));
        }
    }
}

std::optional<Vec3> ascending_direction(const LabelMap& labels, int left_ventricle, int aorta, PatientPoint root) {
    constexpr double kNearMm = 40;
    Vec3 ventricle_sum{}, aorta_sum{};
    std::int64_t ventricle_count = 0, aorta_count = 0;
    for (std::int64_t o = 0; o < labels.grid.voxel_count(); ++o) {
        const int label = labels.voxels[o];
        if (label != left_ventricle && label != aorta) continue;
        const PatientPoint p = at(labels.grid, o);
        if (label == left_ventricle) {
            ventricle_sum = add(ventricle_sum, p.lps_mm);
            ++ventricle_count;
        } else if (distance_mm(p, root) < kNearMm) {
            aorta_sum = add(aorta_sum, p.lps_mm);
            ++aorta_count;
        }
    }
    if (ventricle_count == 0 || aorta_count == 0) return std::nullopt;
    const Vec3 way = subtract(scale(aorta_sum, 1.0 / static_cast<double>(aorta_count)),
                              scale(ventricle_sum, 1.0 / static_cast<double>(ventricle_count)));
    if (norm(way) < 1) return std::nullopt;
    return normalised(way);
}

std::optional<PatientPoint> hinge_centroid(const std::vector<Landmark>& landmarks) {
    Vec3 sum{};
    for (const std::string_view name : names::kHinges) {
        const auto found =
            std::find_if(landmarks.begin(), landmarks.end(), [&](const Landmark& l) { return l.name == name; });
        if (found == landmarks.end() || !found->position) return std::nullopt;
        sum = add(sum, found->position->lps_mm);
    }
    return PatientPoint{scale(sum, 1.0 / 3)};
}

std::optional<Plane> check_root(std::vector<Landmark>& landmarks, const std::optional<Vec3>& ascending,
                                const RootLimits& limits) {
    std::optional<Plane> plane;
    if (const auto found = hinges(landmarks)) {
        const auto& [right, left, non] = *found;
        const auto withdraw_hinges = [&](const std::string& reason) {
            for (Landmark* hinge : *found) withdraw(*hinge, reason);
        };
        const PatientPoint r = *right->position, l = *left->position, n = *non->position;
        const std::array<double, 3> sides = {distance_mm(l, r), distance_mm(r, n), distance_mm(l, n)};
        const auto [shortest, longest] = std::minmax_element(sides.begin(), sides.end());
        const Vec3 perpendicular = cross(subtract(l.lps_mm, r.lps_mm), subtract(n.lps_mm, r.lps_mm));
        // Twice the area over the longest side is the height: three points on a line give no plane.
        const double height = *longest > 0 ? norm(perpendicular) / *longest : 0;
        if (*shortest < limits.min_hinge_side_mm || *longest > limits.max_hinge_side_mm ||
            height < limits.min_hinge_side_mm / 2) {
            withdraw_hinges(
                fmt::format("implausible triangle (sides {:.1f}, {:.1f}, {:.1f} mm)", sides[0], sides[1], sides[2]));
        } else {
            const Vec3 normal = normalised(perpendicular);
            const double along = ascending ? dot(normal, *ascending) : 1.0;
            const double least = std::cos(limits.max_plane_deviation_deg * M_PI / 180);
            if (along <= -least) {
                withdraw_hinges("implausible: their order around the root is reversed, labels may be exchanged");
            } else if (along < least) {
                withdraw_hinges(fmt::format("implausible: their plane stands {:.0f} degrees off the axis of the root",
                                            std::acos(std::clamp(along, -1.0, 1.0)) * 180 / M_PI));
            } else {
                plane = Plane{*hinge_centroid(landmarks), normal};
            }
        }
    }
    if (plane) {
        check_ostium(find(landmarks, names::kOstiumRight), *plane, limits);
        check_ostium(find(landmarks, names::kOstiumLeft), *plane, limits);
    }
    check_septum(landmarks, plane, limits);
    return plane;
}

}  // namespace cardionode
