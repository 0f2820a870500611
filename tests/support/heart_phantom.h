// What a perfect model would say about a simple heart: boxes and balls with known places, as probabilities.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/volume/findings.h"
#include "pipeline/volume/volume.h"

namespace cardionode::test {

inline Grid cube_grid(double spacing, std::int64_t side, PatientPoint origin = {{-80, -80, -80}}) {
    return Grid::create(origin, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {spacing, spacing, spacing},
                        {side, side, side})
        .value();
}

/// Calls `paint(point, offset)` for every voxel.
inline void each_voxel(const Grid& grid, const std::function<void(const PatientPoint&, std::size_t)>& paint) {
    std::size_t offset = 0;
    for (std::int64_t k = 0; k < grid.size()[2]; ++k) {
        for (std::int64_t j = 0; j < grid.size()[1]; ++j) {
            for (std::int64_t i = 0; i < grid.size()[0]; ++i) paint(grid.to_patient(VoxelIndex{{i, j, k}}), offset++);
        }
    }
}

inline HeadProbabilities background_only(const std::string& head, const Grid& grid, int classes) {
    HeadProbabilities p{head, {}};
    for (int c = 0; c <= classes; ++c) p.channels.emplace_back(grid, c == 0 ? 1.0F : 0.0F);
    return p;
}

/// Gives `channel` the probability `peak` inside, and background the rest.
inline void paint(HeadProbabilities& head, int channel, float peak,
                  const std::function<bool(const PatientPoint&)>& inside) {
    each_voxel(head.channels[0].grid, [&](const PatientPoint& p, std::size_t o) {
        if (!inside(p)) return;
        for (auto& c : head.channels) c.voxels[o] = 0;
        head.channels[0].voxels[o] = 1 - peak;
        head.channels[channel].voxels[o] = peak;
    });
}

inline std::function<bool(const PatientPoint&)> ball(PatientPoint centre, double radius_mm) {
    return [=](const PatientPoint& p) { return distance_mm(p, centre) <= radius_mm; };
}

inline ClassManifest labelled(int value, const std::string& name) {
    ClassManifest c;
    c.value = value;
    c.name = name;
    c.title = name;
    c.category = {"91723000", "SCT", "Anatomical Structure"};
    c.code = {"P" + std::to_string(value), "99CARDIONODE", name};
    c.site = {"77583004", "SCT", "Aortic valve ring"};
    return c;
}

inline BundleManifest manifest() {
    BundleManifest m;
    m.name = "phantom";
    m.version = "1";
    m.weights = {"none.safetensors", std::string(64, 'a')};
    HeadManifest heart{"heart", "labels", "Heart", {}};
    const char* parts[] = {"myocardium",      "left_atrium", "left_ventricle",  "right_atrium",
                           "right_ventricle", "aorta",       "pulmonary_artery"};
    for (int v = 1; v <= 7; ++v) heart.classes.push_back(labelled(v, parts[v - 1]));
    HeadManifest hps{"hps", "points", "Root", {}};
    const char* points[] = {"hinge_right", "hinge_left", "hinge_noncoronary", "ostium_right", "ostium_left"};
    for (int v = 1; v <= 5; ++v) hps.classes.push_back(labelled(v, points[v - 1]));
    HeadManifest ms{"ms", "points", "Septum", {labelled(1, "septum_upper"), labelled(2, "septum_lower")}};
    HeadManifest calc{"calc", "labels", "Calcium", {labelled(1, "valve_calcium")}};
    hps.min_component_voxels = ms.min_component_voxels = 5;
    m.heads = {heart, hps, ms, calc};
    m.calcium = {"fixed", 850, 2};
    return m;
}

/// Points of a root whose annular plane is z = 0 with its centre at the origin; x left, y back, z head.
inline const std::vector<PatientPoint>& root_points() {
    static const std::vector<PatientPoint> points = {
        {{0, -13, 0}},      // hinge right: in front
        {{11.3, 6.5, 0}},   // hinge left: left, behind
        {{-11.3, 6.5, 0}},  // hinge non-coronary: right, behind
        {{-1, -14, 15}},    // ostium right
        {{12, 5, 13}},      // ostium left
        {{-6, -9, 1}},      // septum upper
        {{-7, -10, -5}},    // septum lower
    };
    return points;
}

/// Left ventricle: a ball below the plane; aorta: a tube above it; the other chambers beside.
inline Prediction prediction(double spacing = 2) {
    const Grid grid = cube_grid(spacing, static_cast<std::int64_t>(160 / spacing) + 1);
    HeadProbabilities heart = background_only("heart", grid, 7);
    paint(heart, 1, 0.9F, [](const PatientPoint& p) { return distance_mm(p, {{5, 5, -32}}) <= 38 && p.lps_mm[2] < 0; });
    paint(heart, 3, 0.9F, [](const PatientPoint& p) { return distance_mm(p, {{5, 5, -30}}) <= 31 && p.lps_mm[2] < 0; });
    paint(heart, 6, 0.9F, [](const PatientPoint& p) {
        return std::hypot(p.lps_mm[0], p.lps_mm[1]) <= 13 && p.lps_mm[2] >= 0 && p.lps_mm[2] < 60;
    });
    paint(heart, 3, 0.9F, [](const PatientPoint& p) {
        return std::hypot(p.lps_mm[0], p.lps_mm[1]) <= 13 && p.lps_mm[2] < 0 && p.lps_mm[2] > -20;
    });
    paint(heart, 5, 0.9F, ball({{-45, -20, -30}}, 22));
    HeadProbabilities hps = background_only("hps", grid, 5), ms = background_only("ms", grid, 2);
    for (int c = 1; c <= 5; ++c) paint(hps, c, 0.8F, ball(root_points()[c - 1], 4));
    // Wide apart enough not to overwrite each other.
    paint(ms, 1, 0.8F, ball(root_points()[5], 2.9));
    paint(ms, 2, 0.8F, ball(root_points()[6], 2.9));
    HeadProbabilities calc = background_only("calc", grid, 1);
    paint(calc, 1, 0.7F, ball({{3, 3, 4}}, 4));
    return {{heart, hps, ms, calc}, "cpu", {}};
}

/// A CT that fits: blood 350 HU, a cube of calcium of 6 mm around (3, 3, 4) with 1100 HU, everything else 40 HU.
inline Volume contrast_ct(float blood_hu = 350, double spacing = 1) {
    Volume ct(cube_grid(spacing, static_cast<std::int64_t>(150 / spacing) + 1, {{-75, -75, -75}}), 40.0F);
    each_voxel(ct.grid, [&](const PatientPoint& p, std::size_t o) {
        const auto& [x, y, z] = p.lps_mm;
        if (distance_mm(p, {{5, 5, -30}}) <= 31 || (std::hypot(x, y) <= 13 && z > -20 && z < 60))
            ct.voxels[o] = blood_hu;
        if (std::max({std::abs(x - 3), std::abs(y - 3), std::abs(z - 4)}) < 3) ct.voxels[o] = 1100;
    });
    return ct;
}

inline Landmark* landmark(std::vector<Landmark>& all, const std::string& name) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const Landmark& l) { return l.name == name; });
    return found == all.end() ? nullptr : &*found;
}

}  // namespace cardionode::test
