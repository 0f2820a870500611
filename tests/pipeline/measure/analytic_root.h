// An analytic root: a leaning elliptic tube, its CT, and findings that fit it. Known numbers for the tests of
// measuring.
#pragma once

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "pipeline/measure/lumen_contour.h"
#include "pipeline/measure/measure.h"

namespace cardionode::test {

inline constexpr double kA = 13.5, kB = 11.5;  // half axes of the annulus, mm

/// A root whose axis leans 25 degrees to the right and 15 to the front: nothing is aligned with the grid.
struct Frame {
    Vec3 n = normalised({-0.42, -0.26, 0.87});
    Vec3 u = normalised(cross({0, 1, 0}, n));
    Vec3 v = cross(n, u);
    PatientPoint centre{{5.3, -7.1, 11.9}};
    PatientPoint at(double along_u, double along_v, double along_n) const {
        return {add(centre.lps_mm, add(scale(u, along_u), add(scale(v, along_v), scale(n, along_n))))};
    }
};

inline Grid grid_of(double spacing, std::int64_t side) {
    const double half = spacing * static_cast<double>(side - 1) / 2;
    return Grid::create({{-half + 5, -half - 7, -half + 12}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}},
                        {spacing, spacing, spacing}, {side, side, side})
        .value();
}

/// An elliptic tube along the frame's axis: left ventricle (1) below the plane, aorta (2) above.
inline LabelMap tube(const Grid& grid, const Frame& frame, double a, double b) {
    LabelMap map(grid, std::uint8_t{0});
    for (std::int64_t k = 0; k < grid.size()[2]; ++k) {
        for (std::int64_t j = 0; j < grid.size()[1]; ++j) {
            for (std::int64_t i = 0; i < grid.size()[0]; ++i) {
                const Vec3 d = subtract(grid.to_patient(VoxelIndex{{i, j, k}}).lps_mm, frame.centre.lps_mm);
                const double x = dot(d, frame.u) / a, y = dot(d, frame.v) / b;
                if (x * x + y * y <= 1) map.at({{i, j, k}}) = dot(d, frame.n) < 0 ? 1 : 2;
            }
        }
    }
    return map;
}

inline double ellipse_perimeter(double a, double b) {
    double sum = 0;
    constexpr int kSteps = 100000;
    for (int s = 0; s < kSteps; ++s) {
        const double t = 2 * M_PI * s / kSteps;
        sum += std::hypot(a * std::sin(t), b * std::cos(t)) * 2 * M_PI / kSteps;
    }
    return sum;
}

inline Landmark point(const char* name, std::optional<PatientPoint> position, const char* reason = "") {
    Landmark l;
    l.name = name;
    l.title = name;
    l.position = position;
    l.reason = reason;
    return l;
}

inline Findings findings_of(double spacing = 0.8, std::int64_t side = 100) {
    const Frame f;
    Findings findings;
    Segment ventricle, aorta;
    ventricle.label = 1;
    ventricle.name = "left_ventricle";
    ventricle.title = "Left ventricle";
    ventricle.volume_ml = 90;
    aorta.label = 2;
    aorta.name = "aorta";
    aorta.title = "Aorta";
    findings.groups.push_back({"heart", "Heart", tube(grid_of(spacing, side), f, kA, kB), {ventricle, aorta}});
    findings.landmarks = {point("hinge_right", f.at(13.5, 0, 0)),
                          point("hinge_left", f.at(-6.75, 9.96, 0)),
                          point("hinge_noncoronary", f.at(-6.75, -9.96, 0)),
                          point("ostium_right", f.at(12, 3, 14.5)),
                          point("ostium_left", f.at(-3, 12, 12.25)),
                          point("septum_upper", f.at(4, -12, 1)),
                          point("septum_lower", f.at(6, -13, -3.5))};
    findings.annular_plane = Plane{f.centre, f.n};
    return findings;
}

/// The CT that goes with the labels: blood of 400 HU in a wall of 50 HU.
inline Volume ct_of(const LabelMap& map, float blood = 400, float wall = 50) {
    Volume ct(map.grid, wall);
    for (std::size_t v = 0; v < map.voxels.size(); ++v) {
        if (map.voxels[v] != 0) ct.voxels[v] = blood;
    }
    return ct;
}

inline Result<LumenContour> by_labels(const LabelMap& map, const std::vector<int>& lumen, const Plane& plane) {
    return LumenTracer(nullptr, map, lumen).trace(plane);
}

inline Measured measured(const Findings& findings, const CalciumContext& calcium = {"not asked", 0, ""}) {
    MeasureRules rules;
    rules.samples = 4;
    return measure(findings, ct_of(findings.groups.front().labels), calcium, rules);
}

inline const Measurement& find(const std::vector<Measurement>& all, const std::string& name) {
    for (const Measurement& m : all) {
        if (m.name == name) return m;
    }
    throw std::runtime_error("no measurement " + name);
}

}  // namespace cardionode::test
