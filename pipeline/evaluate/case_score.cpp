#include "pipeline/evaluate/case_score.h"

#include <algorithm>
#include <cmath>

#include "pipeline/evaluate/statistics.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

const SegmentGroup* group_of(const Findings& findings, const std::string& name) {
    for (const SegmentGroup& g : findings.groups) {
        if (g.name == name) return &g;
    }
    return nullptr;
}

/// None: the group has no such segment.
std::optional<int> label_of(const SegmentGroup* group, const std::string& segment) {
    if (!group) return std::nullopt;
    for (const Segment& s : group->segments) {
        if (s.name == segment) return s.label;
    }
    return std::nullopt;
}

std::optional<Vec3> in_root(const PointScore& point, const std::optional<Plane>& plane) {
    if (!point.truth || !point.found || !plane) return std::nullopt;
    const Vec3 offset = subtract(point.found->lps_mm, point.truth->lps_mm);
    const Vec3 from_centre = subtract(point.truth->lps_mm, plane->point.lps_mm);
    const Vec3 lateral = subtract(from_centre, scale(plane->normal, dot(from_centre, plane->normal)));
    if (norm(lateral) < 1e-6) return std::nullopt;
    const Vec3 out = normalised(lateral);
    return Vec3{dot(offset, plane->normal), dot(offset, out), dot(offset, cross(plane->normal, out))};
}

std::vector<PointScore> score_points(const Findings& found, const Findings& truth) {
    std::vector<PointScore> points;
    for (const Landmark& t : truth.landmarks) {
        PointScore p;
        p.name = t.name;
        p.truth = t.position;
        if (const Landmark* f = found.landmark(t.name)) {
            p.found = f->position;
            p.confidence = f->confidence;
            p.reason = f->reason;
        } else {
            p.reason = "the model was not made to find this point";
        }
        p.offset_root = in_root(p, truth.annular_plane);
        points.push_back(std::move(p));
    }
    return points;
}

Result<StructureScore> score_structure(const Findings& found, const Findings& truth, const StructureTask& task) {
    const SegmentGroup* t = group_of(truth, task.group);
    const SegmentGroup* f = group_of(found, task.group);
    StructureScore score;
    score.name = task.segment;
    if (!t && !f) return score;
    const Grid& grid = t ? t->labels.grid : f->labels.grid;
    score.voxel_ml = grid.voxel_volume_mm3() / 1000;
    const auto true_label = label_of(t, task.segment), found_label = label_of(f, task.segment);
    // What is not there is compared as an empty mask.
    std::optional<LabelMap> nothing;
    if (!true_label || !found_label) nothing.emplace(grid, std::uint8_t{0});
    const LabelMap& true_map = true_label ? t->labels : *nothing;
    const LabelMap& found_map = found_label ? f->labels : *nothing;
    auto counts = count_voxels(found_map, found_label.value_or(1), true_map, true_label.value_or(1));
    if (!counts) return std::move(counts).error();
    score.voxels = *counts;
    auto surface = surface_distances(found_map, found_label.value_or(1), true_map, true_label.value_or(1));
    if (!surface) return std::move(surface).error();
    score.surface = *surface;
    return score;
}

void add_numbers(const Findings& findings, bool truth, std::map<std::string, NumberScore>& numbers) {
    for (const Measurement& m : findings.measurements) {
        NumberScore& number = numbers[m.name];
        (truth ? number.truth : number.found) = m.value;
        if (!truth && !m.value) number.reason = m.reason;
    }
}

bool ends_with(const std::string& text, std::string_view end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::optional<double> PointScore::error_mm() const {
    if (!truth) return std::nullopt;
    return found ? distance_mm(*truth, *found) : kMissed;
}

bool CaseScore::gives_root() const {
    return std::any_of(points.begin(), points.end(), [](const PointScore& p) { return p.found.has_value(); }) ||
           std::any_of(numbers.begin(), numbers.end(),
                       [](const auto& n) { return n.second.found && !ends_with(n.first, "_volume_ml"); });
}

std::optional<double> CaseScore::largest_error_mm() const {
    std::optional<double> largest;
    for (const PointScore& p : points) {
        if (const auto error = p.error_mm()) largest = std::max(largest.value_or(0), *error);
    }
    return largest;
}

std::vector<StructureTask> structures_of(const Findings& truth) {
    std::vector<StructureTask> tasks;
    for (const SegmentGroup& g : truth.groups) {
        for (const Segment& s : g.segments) tasks.push_back({g.name, s.name});
    }
    return tasks;
}

Result<CaseScore> score_case(const Findings& found, const Findings& truth, const std::vector<StructureTask>& tasks) {
    CaseScore score;
    score.points = score_points(found, truth);
    for (const StructureTask& task : tasks) {
        auto structure = score_structure(found, truth, task);
        if (!structure) return std::move(structure).error().in(task.segment);
        score.structures.push_back(std::move(*structure));
    }
    add_numbers(truth, true, score.numbers);
    add_numbers(found, false, score.numbers);
    if (truth.annular_plane && found.annular_plane) {
        const double cosine = dot(truth.annular_plane->normal, found.annular_plane->normal);
        score.plane_angle_deg = std::acos(std::clamp(cosine, -1.0, 1.0)) * 180 / M_PI;
        score.centre_error_mm = distance_mm(truth.annular_plane->point, found.annular_plane->point);
    }
    score.warnings = found.warnings;
    return score;
}

}  // namespace cardionode
