#include <cmath>

#include "tests/support/written_ct.h"

namespace cardionode::test {
namespace {

const Code kAnatomy{"91723000", "SCT", "Anatomical Structure"};
const Code kAbnormal{"49755003", "SCT", "Morphologically Abnormal Structure"};
const Code kMm{"mm", "UCUM", "mm"};

/// Index at these fractions of the grid.
VoxelIndex at_fraction(const Grid& grid, const Vec3& f) {
    VoxelIndex index;
    for (std::size_t a = 0; a < 3; ++a) {
        index.ijk[a] = std::lround(f[a] * static_cast<double>(grid.size()[a] - 1));
    }
    return index;
}

void paint(LabelMap& labels, const Vec3& centre, const Vec3& radius, std::uint8_t label) {
    const auto& size = labels.grid.size();
    for (std::int64_t k = 0; k < size[2]; ++k) {
        for (std::int64_t j = 0; j < size[1]; ++j) {
            for (std::int64_t i = 0; i < size[0]; ++i) {
                const Vec3 at{static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)};
                double r2 = 0;
                for (std::size_t a = 0; a < 3; ++a) {
                    const double x = at[a] / static_cast<double>(size[a]) - centre[a];
                    r2 += x * x / (radius[a] * radius[a]);
                }
                if (r2 <= 1) labels.at({{i, j, k}}) = label;
            }
        }
    }
}

Landmark point(const Grid& grid, const char* name, const char* title, const char* code, const Code& site, Vec3 f) {
    Landmark landmark;
    landmark.name = name;
    landmark.title = title;
    landmark.finding = {code, "99CARDIONODE", title};
    landmark.finding_site = site;
    // Off the voxel centres, so that a wrong half voxel shows.
    ContinuousIndex index{};
    for (std::size_t a = 0; a < 3; ++a) index.ijk[a] = f[a] * static_cast<double>(grid.size()[a] - 1) + 0.2;
    landmark.position = grid.to_patient(index);
    landmark.confidence = 0.87;
    landmark.component_voxels = 40;
    return landmark;
}

}  // namespace

void measure_volumes(SegmentGroup& group) {
    for (Segment& segment : group.segments) {
        segment.volume_ml.reset();
        std::int64_t voxels = 0;
        for (const std::uint8_t v : group.labels.voxels) voxels += v == segment.label;
        if (voxels > 0) segment.volume_ml = static_cast<double>(voxels) * group.labels.grid.voxel_volume_mm3() / 1000;
    }
}

Findings findings_for(const CtSeries& source) {
    const Grid& grid = source.volume.grid;
    Findings f;
    f.model = {"test-bundle", "1.2.0", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "cpu"};

    SegmentGroup heart{"heart", "Heart chambers", LabelMap(grid, 0), {}};
    paint(heart.labels, {0.5, 0.5, 0.4}, {0.3, 0.3, 0.3}, 1);
    paint(heart.labels, {0.55, 0.5, 0.7}, {0.12, 0.14, 0.25}, 2);
    paint(heart.labels, {0.0, 0.98, 0.5}, {0.08, 0.1, 0.2}, 4);  // touches the first column and the last row
    heart.segments = {
        {1, "left_ventricle", "Left ventricle", kAnatomy, {"87878005", "SCT", "Left ventricle"}, {220, 60, 60}, {}},
        {2, "aorta", "Aorta", kAnatomy, {"15825003", "SCT", "Aorta"}, {240, 160, 40}, {}},
        {3, "left_atrium", "Left atrium", kAnatomy, {"82471001", "SCT", "Left atrium"}, {90, 140, 240}, {}},
        {4, "right_atrium", "Right atrium", kAnatomy, {"73829009", "SCT", "Right atrium"}, {80, 200, 120}, {}}};
    measure_volumes(heart);

    SegmentGroup calcium{"valve_calcium", "Aortic valve calcification", LabelMap(grid, 0), {}};
    calcium.labels.at(at_fraction(grid, {0.52, 0.5, 0.55})) = 1;
    calcium.labels.at(at_fraction(grid, {0.6, 0.5, 0.55})) = 1;
    calcium.segments = {{1,
                         "aortic_valve_calcium",
                         "Aortic valve calcification",
                         kAbnormal,
                         {"18115005", "SCT", "Pathologic calcification"},
                         {255, 255, 255},
                         {}}};
    measure_volumes(calcium);
    f.groups = {heart, calcium};

    const Code annulus{"77583004", "SCT", "Aortic valve ring"};
    const Code septum{"589001", "SCT", "Interventricular septum"};
    f.landmarks = {
        point(grid, "hinge_right", "Right coronary cusp nadir", "hinge-rcc", annulus, {0.44, 0.42, 0.55}),
        point(grid, "hinge_left", "Left coronary cusp nadir", "hinge-lcc", annulus, {0.66, 0.45, 0.56}),
        point(grid, "hinge_non", "Non-coronary cusp nadir", "hinge-ncc", annulus, {0.52, 0.62, 0.52}),
        point(grid, "ostium_right", "Right coronary ostium", "unused", annulus, {0.45, 0.38, 0.72}),
        point(grid, "ostium_left", "Left main ostium", "unused", annulus, {0.68, 0.44, 0.74}),
        point(grid, "septum_upper", "Membranous septum, upper point", "ms-upper", septum, {0.47, 0.52, 0.5}),
        point(grid, "septum_lower", "Membranous septum, lower point", "ms-lower", septum, {0.46, 0.53, 0.44})};
    f.landmarks[3].finding = {"56789007", "SCT", "Right coronary ostium"};
    f.landmarks[4].finding = {"1256091001", "SCT", "Left main ostium"};
    Landmark& missing = f.landmarks[6];
    missing.position.reset();
    missing.confidence = 0.12;
    missing.reason = "peak probability 0.12 is below 0.30";

    f.measurements = {{"annulus_area_mm2",
                       "Annulus area",
                       {"42798000", "SCT", "Area"},
                       {"mm2", "UCUM", "mm2"},
                       492.25,
                       "hinge_right,hinge_left,hinge_non",
                       ""},
                      {"annulus_max_diameter_mm",
                       "Annulus maximum diameter",
                       {"131143", "DCM", "Aortic Valve Annulus Maximum Diameter"},
                       kMm,
                       27.5,
                       "hinge_right,hinge_left,hinge_non",
                       ""},
                      {"left_main_height_mm",
                       "Left main ostium height",
                       {"131166", "DCM", "Left Main Ostium Height"},
                       kMm,
                       13.125,
                       "ostium_left,hinge_right,hinge_left,hinge_non",
                       ""},
                      {"septum_length_mm",
                       "Membranous septum length",
                       {"ms-length", "99CARDIONODE", "Membranous septum length"},
                       kMm,
                       std::nullopt,
                       "septum_upper,septum_lower",
                       "the lower point was not found"},
                      {"calcium_volume_mm3",
                       "Aortic valve calcium volume",
                       {"calcium-volume", "99CARDIONODE", "Aortic valve calcium volume"},
                       {"mm3", "UCUM", "mm3"},
                       120.0,
                       "valve_calcium (voxels of 850 HU or more)",
                       ""}};
    f.measurements[0].uncertainty = 25.5;
    f.measurements[4].uncertainty = 18.25;
    const PatientPoint a = *f.landmarks[0].position, b = *f.landmarks[1].position, c = *f.landmarks[2].position;
    Vec3 normal = normalised(cross(subtract(b.lps_mm, a.lps_mm), subtract(c.lps_mm, a.lps_mm)));
    if (dot(normal, subtract(f.landmarks[4].position->lps_mm, a.lps_mm)) < 0) normal = scale(normal, -1);
    f.annular_plane = Plane{{scale(add(add(a.lps_mm, b.lps_mm), c.lps_mm), 1.0 / 3)}, normal};
    f.warnings = {"synthetic data"};
    return f;
}

}  // namespace cardionode::test
