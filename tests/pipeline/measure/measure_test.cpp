#include "pipeline/measure/measure.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/measure/lumen_contour.h"
#include "pipeline/measure/root_sections.h"
#include "pipeline/measure/uncertainty.h"

using namespace cardionode;

namespace {

constexpr double kA = 13.5, kB = 11.5;  // half axes of the annulus, mm

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

Grid grid_of(double spacing, std::int64_t side) {
    const double half = spacing * static_cast<double>(side - 1) / 2;
    return Grid::create({{-half + 5, -half - 7, -half + 12}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}},
                        {spacing, spacing, spacing}, {side, side, side})
        .value();
}

/// An elliptic tube along the frame's axis: left ventricle (1) below the plane, aorta (2) above.
LabelMap tube(const Grid& grid, const Frame& frame, double a, double b) {
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

double ellipse_perimeter(double a, double b) {
    double sum = 0;
    constexpr int kSteps = 100000;
    for (int s = 0; s < kSteps; ++s) {
        const double t = 2 * M_PI * s / kSteps;
        sum += std::hypot(a * std::sin(t), b * std::cos(t)) * 2 * M_PI / kSteps;
    }
    return sum;
}

Landmark point(const char* name, std::optional<PatientPoint> position, const char* reason = "") {
    Landmark l;
    l.name = name;
    l.title = name;
    l.position = position;
    l.reason = reason;
    return l;
}

Findings findings_of(double spacing = 0.8, std::int64_t side = 100) {
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
Volume ct_of(const LabelMap& map, float blood = 400, float wall = 50) {
    Volume ct(map.grid, wall);
    for (std::size_t v = 0; v < map.voxels.size(); ++v) {
        if (map.voxels[v] != 0) ct.voxels[v] = blood;
    }
    return ct;
}

Result<LumenContour> by_labels(const LabelMap& map, const std::vector<int>& lumen, const Plane& plane) {
    return LumenTracer(nullptr, map, lumen).trace(plane);
}

Measured measured(const Findings& findings, const CalciumContext& calcium = {"not asked", 0, ""}) {
    MeasureRules rules;
    rules.samples = 8;
    return measure(findings, ct_of(findings.groups.front().labels), calcium, rules);
}

const Measurement& find(const std::vector<Measurement>& all, const std::string& name) {
    for (const Measurement& m : all) {
        if (m.name == name) return m;
    }
    throw std::runtime_error("no measurement " + name);
}

}  // namespace

TEST(LumenContour, AnObliqueEllipseIsMeasuredWithinTwoPercentOnFineVoxels) {
    const Frame f;
    struct Case {
        double spacing;
        std::int64_t side;
        double share;  // tolerance of area and perimeter; a binary label of 1.5 mm voxels cannot say it better
        double mm;
    };
    for (const auto& [spacing, side, share, mm] :
         {Case{0.5, 140, 0.005, 0.2}, Case{1.0, 70, 0.01, 0.5}, Case{1.5, 47, 0.02, 1.0}}) {
        const auto contour = by_labels(tube(grid_of(spacing, side), f, kA, kB), {1, 2}, {f.centre, f.n});
        ASSERT_TRUE(contour) << contour.error().message;
        EXPECT_NEAR(contour->area_mm2, M_PI * kA * kB, share * M_PI * kA * kB) << spacing;
        EXPECT_NEAR(contour->perimeter_mm, ellipse_perimeter(kA, kB), share * ellipse_perimeter(kA, kB)) << spacing;
        EXPECT_NEAR(contour->max_diameter_mm, 2 * kA, mm) << spacing;
        EXPECT_NEAR(contour->min_diameter_mm, 2 * kB, mm) << spacing;
    }
}

TEST(LumenContour, APlaneThatCutsObliquelySeesTheLongerEllipse) {
    // A tube of radius 12 cut 30 degrees off its axis is an ellipse of half axes 12 and 12 / cos 30.
    const Frame f;
    const double angle = M_PI / 6;
    const Vec3 normal = add(scale(f.n, std::cos(angle)), scale(f.u, std::sin(angle)));
    const auto contour = by_labels(tube(grid_of(0.8, 120), f, 12, 12), {1, 2}, {f.centre, normal});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_NEAR(contour->area_mm2, M_PI * 144 / std::cos(angle), 0.02 * M_PI * 144 / std::cos(angle));
    EXPECT_NEAR(contour->max_diameter_mm, 24 / std::cos(angle), 0.5);
    EXPECT_NEAR(contour->min_diameter_mm, 24, 0.5);
}

TEST(LumenContour, TheStaircaseOfACoarseNetworkDoesNotLengthenThePerimeter) {
    // Labels of 2 mm voxels, copied to a source of 0.5 mm: as a model gives them that is sure of everything.
    const Frame f;
    const LabelMap coarse = tube(grid_of(2, 40), f, 13, 13);
    LabelMap fine(grid_of(0.5, 120), std::uint8_t{0});
    for (std::int64_t k = 0; k < 120; ++k) {
        for (std::int64_t j = 0; j < 120; ++j) {
            for (std::int64_t i = 0; i < 120; ++i) {
                const auto there = coarse.grid.nearest_voxel(fine.grid.to_patient(VoxelIndex{{i, j, k}}));
                if (there) fine.at({{i, j, k}}) = coarse.at(*there);
            }
        }
    }
    const auto contour = by_labels(fine, {1, 2}, {f.centre, f.n});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_NEAR(contour->area_mm2, M_PI * 169, 0.035 * M_PI * 169);
    EXPECT_NEAR(contour->perimeter_mm, 26 * M_PI, 0.035 * 26 * M_PI);
}

TEST(LumenContour, AHoleInTheLabelsIsFilled) {
    const Frame f;
    LabelMap map = tube(grid_of(0.8, 100), f, kA, kB);
    for (std::size_t v = 0; v < map.voxels.size(); ++v) {
        const auto& size = map.grid.size();
        const auto o = static_cast<std::int64_t>(v);
        const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        if (distance_mm(map.grid.to_patient(index), f.at(3, 2, 0)) < 4) map.voxels[v] = 0;
    }
    const auto contour = by_labels(map, {1, 2}, {f.centre, f.n});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_NEAR(contour->area_mm2, M_PI * kA * kB, 0.02 * M_PI * kA * kB);
}

TEST(LumenContour, BothLabelsTogetherAreTheLumen) {
    // With the aorta alone the plane at the border of the two labels shows half of the truth or nothing.
    const Frame f;
    const LabelMap map = tube(grid_of(0.8, 100), f, kA, kB);
    const auto both = by_labels(map, {1, 2}, {f.centre, f.n});
    const auto below = by_labels(map, {2}, {f.at(0, 0, -5), f.n});
    ASSERT_TRUE(both);
    EXPECT_FALSE(below);
}

TEST(LumenContour, NoBloodAtThePlaneIsSaid) {
    const Frame f;
    const auto contour = by_labels(tube(grid_of(0.8, 100), f, kA, kB), {1, 2}, {f.at(30, 0, 0), f.n});
    ASSERT_FALSE(contour);
    EXPECT_THAT(contour.error().message, testing::HasSubstr("no blood"));
}

TEST(RootSections, AnAnnulusThatNobodyHasIsRefused) {
    const Frame f;
    const auto annulus = [&](double radius, double spacing) {
        const LabelMap map = tube(grid_of(spacing, 100), f, radius, radius);
        return find_sections(LumenTracer(nullptr, map, {1, 2}), {f.centre, f.n}).annulus;
    };
    const auto small = annulus(5, 0.8);
    ASSERT_FALSE(small);
    EXPECT_THAT(small.error().message, testing::HasSubstr("implausible"));
    EXPECT_FALSE(annulus(25, 1.0));
    const auto endless = annulus(200, 1.0);
    ASSERT_FALSE(endless);
    EXPECT_THAT(endless.error().message, testing::HasSubstr("no border"));
}

/// A tongue of label, 8 mm wide and 14 mm long, where there is no blood.
LabelMap with_tongue(LabelMap map, const Frame& f) {
    for (std::size_t v = 0; v < map.voxels.size(); ++v) {
        const auto& size = map.grid.size();
        const auto o = static_cast<std::int64_t>(v);
        const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        const Vec3 d = subtract(map.grid.to_patient(index).lps_mm, f.centre.lps_mm);
        if (dot(d, f.u) > 0 && dot(d, f.u) < 26 && std::abs(dot(d, f.v)) < 4) map.voxels[v] = 2;
    }
    return map;
}

TEST(LumenContour, ALabelThatRunsOutIntoItsNeighbourIsRefusedWithoutTheCt) {
    const Frame f;
    const LabelMap map = with_tongue(tube(grid_of(0.8, 100), f, 12, 12), f);
    const auto contour = by_labels(map, {1, 2}, {f.centre, f.n});
    ASSERT_FALSE(contour);
    EXPECT_THAT(contour.error().message, testing::HasSubstr("ragged"));
    EXPECT_TRUE(by_labels(tube(grid_of(0.8, 100), f, 16, 8.5), {1, 2}, {f.centre, f.n})) << "an oval is not";
}

TEST(LumenContour, TheCtPutsRightALabelThatRunsOutIntoItsNeighbour) {
    const Frame f;
    const LabelMap truth = tube(grid_of(0.8, 100), f, 12, 12);
    const Volume ct = ct_of(truth);
    const LabelMap wrong = with_tongue(truth, f);
    const auto contour = LumenTracer(&ct, wrong, {1, 2}).trace({f.centre, f.n});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_EQ(contour->basis, LumenContour::Basis::Ct);
    EXPECT_NEAR(contour->area_mm2, M_PI * 144, 0.02 * M_PI * 144);
}

TEST(LumenContour, OnTheCtAnObliqueEllipseIsExactOnFineAndOnUnevenVoxels) {
    const Frame f;
    // Left-handed, turned, and with slices three times as thick as the pixels.
    const Vec3 row = normalised({0.96, 0.2, -0.1}), column = normalised(cross({0.1, 0.1, 1}, row));
    const Vec3 slices = scale(cross(row, column), -1);
    struct Case {
        Vec3 spacing;
        double share, mm;
    };
    for (const auto& [spacing, share, mm] : {Case{{0.4, 0.4, 0.5}, 0.007, 0.15}, Case{{0.7, 0.7, 0.7}, 0.01, 0.25},
                                             Case{{0.5, 0.5, 1.5}, 0.013, 0.3}, Case{{1.5, 1.5, 1.5}, 0.02, 0.5}}) {
        std::array<std::int64_t, 3> size{};
        Vec3 corner = f.centre.lps_mm;
        for (std::size_t a = 0; a < 3; ++a) {
            size[a] = static_cast<std::int64_t>(60 / spacing[a]);
            corner = subtract(corner, scale(a == 0 ? row : a == 1 ? column : slices, 30));
        }
        const Grid grid = Grid::create({corner}, {row, column, slices}, spacing, size).value();
        Volume ct(grid, 50.0F);
        LabelMap labels(grid, std::uint8_t{0});
        for (std::int64_t o = 0; o < grid.voxel_count(); ++o) {
            const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
            const Vec3 d = subtract(grid.to_patient(index).lps_mm, f.centre.lps_mm);
            const double x = dot(d, f.u), y = dot(d, f.v), rho = std::hypot(x / kA, y / kB);
            // Distance to the ellipse to first order; a scanner's blur of 0.6 mm and more with thicker voxels.
            const double gradient = std::hypot(x / (kA * kA), y / (kB * kB)) / std::max(rho, 1e-6);
            const double away = (rho - 1) / std::max(gradient, 1e-6);
            const double blur = 0.6 + 0.3 * spacing[2];
            ct.voxels[o] = static_cast<float>(50 + 350 * 0.5 * std::erfc(away / (blur * M_SQRT2)));
            if (rho <= 1) labels.voxels[o] = 2;
        }
        const auto contour = LumenTracer(&ct, labels, {2}).trace({f.centre, f.n});
        ASSERT_TRUE(contour) << contour.error().message;
        EXPECT_EQ(contour->basis, LumenContour::Basis::Ct);
        EXPECT_GT(contour->edge_share, 0.95);
        EXPECT_NEAR(contour->area_mm2, M_PI * kA * kB, share * M_PI * kA * kB) << spacing[2];
        EXPECT_NEAR(contour->perimeter_mm, ellipse_perimeter(kA, kB), share * ellipse_perimeter(kA, kB));
        EXPECT_NEAR(contour->max_diameter_mm, 2 * kA, mm) << spacing[2];
        EXPECT_NEAR(contour->min_diameter_mm, 2 * kB, mm) << spacing[2];
    }
}

TEST(LumenContour, CalciumAtTheRimNeitherInflatesNorNotchesIt) {
    const Frame f;
    const LabelMap labels = tube(grid_of(0.8, 100), f, 12, 12);
    for (const double at : {11.0, 12.5, 14.0}) {  // inside, in the wall, outside
        Volume ct = ct_of(labels);
        for (std::int64_t o = 0; o < ct.grid.voxel_count(); ++o) {
            const auto& size = ct.grid.size();
            const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
            if (distance_mm(ct.grid.to_patient(index), f.at(at, 0, 0)) < 3) ct.voxels[o] = 1200;
        }
        const auto contour = LumenTracer(&ct, labels, {1, 2}).trace({f.centre, f.n});
        ASSERT_TRUE(contour) << contour.error().message;
        EXPECT_NEAR(contour->area_mm2, M_PI * 144, 0.02 * M_PI * 144) << at;
        EXPECT_NEAR(contour->radius_at(contour->frame.angle_of(f.at(12, 0, 0))), 12, 0.5) << at;
    }
}

TEST(LumenContour, AnAtriumBehindAThinWallIsNotTakenIn) {
    const Frame f;
    const LabelMap labels = tube(grid_of(0.6, 120), f, 12, 12);
    Volume ct = ct_of(labels);
    for (std::int64_t o = 0; o < ct.grid.voxel_count(); ++o) {
        const auto& size = ct.grid.size();
        const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        const Vec3 d = subtract(ct.grid.to_patient(index).lps_mm, f.centre.lps_mm);
        const double rho = std::hypot(dot(d, f.u), dot(d, f.v));
        if (dot(d, f.u) > 0 && rho > 14 && rho < 30) ct.voxels[o] = 420;
    }
    const auto contour = LumenTracer(&ct, labels, {1, 2}).trace({f.centre, f.n});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_NEAR(contour->area_mm2, M_PI * 144, 0.02 * M_PI * 144);
}

TEST(LumenContour, WithoutContrastAgentTheLabelsSpeakAlone) {
    const Frame f;
    const LabelMap labels = tube(grid_of(0.8, 100), f, kA, kB);
    const Volume ct = ct_of(labels, 45, 40);
    const auto contour = LumenTracer(&ct, labels, {1, 2}).trace({f.centre, f.n});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_EQ(contour->basis, LumenContour::Basis::Labels);
    EXPECT_NEAR(contour->area_mm2, M_PI * kA * kB, 0.02 * M_PI * kA * kB);
}

TEST(Measure, AnAnalyticRootGivesItsKnownNumbers) {
    const auto all = measured(findings_of(), {"not asked", 0, ""}).measurements;
    const Frame f;
    const double area = *find(all, "annulus_area_mm2").value, perimeter = *find(all, "annulus_perimeter_mm").value;
    EXPECT_NEAR(area, M_PI * kA * kB, 0.02 * M_PI * kA * kB);
    EXPECT_NEAR(*find(all, "annulus_area_diameter_mm").value, 2 * std::sqrt(area / M_PI), 1e-9);
    EXPECT_NEAR(*find(all, "annulus_perimeter_diameter_mm").value, perimeter / M_PI, 1e-9);
    EXPECT_GE(*find(all, "annulus_perimeter_diameter_mm").value, *find(all, "annulus_area_diameter_mm").value);
    EXPECT_NEAR(*find(all, "annulus_eccentricity").value, 1 - kB / kA, 0.03);
    EXPECT_NEAR(*find(all, "annulus_tilt_deg").value, std::acos(f.n[2]) * 180 / M_PI, 1e-6);
    EXPECT_NEAR(*find(all, "left_ostium_height_mm").value, 12.25, 1e-6);
    EXPECT_NEAR(*find(all, "right_ostium_height_mm").value, 14.5, 1e-6);
    EXPECT_NEAR(*find(all, "septum_depth_mm").value, 3.5, 1e-6);
    EXPECT_NEAR(*find(all, "septum_length_mm").value, std::sqrt(4 + 1 + 4.5 * 4.5), 1e-6);
    EXPECT_NEAR(*find(all, "hinge_left_noncoronary_mm").value, 2 * 9.96, 1e-6);
    EXPECT_NEAR(*find(all, "hinge_left_right_mm").value, std::hypot(20.25, 9.96), 1e-6);
    EXPECT_NEAR(*find(all, "hinge_right_noncoronary_mm").value, std::hypot(20.25, 9.96), 1e-6);
    EXPECT_EQ(find(all, "left_ventricle_volume_ml").value, 90);
    EXPECT_FALSE(find(all, "aorta_volume_ml").value);
}

TEST(Measure, EveryMeasurementHasACodeAUnitAndSaysWhatItRestsOn) {
    for (const Measurement& m : measured(findings_of(), {"not asked", 0, ""}).measurements) {
        EXPECT_FALSE(m.concept_name.value.empty()) << m.name;
        EXPECT_LE(m.concept_name.value.size(), 16U) << m.name;  // VR SH of Code Value (0008,0100)
        EXPECT_THAT(m.concept_name.scheme, testing::AnyOf("DCM", "SCT", "99CARDIONODE")) << m.name;
        EXPECT_LE(m.concept_name.meaning.size(), 64U) << m.name;  // VR LO of Code Meaning (0008,0104)
        EXPECT_EQ(m.unit.scheme, "UCUM") << m.name;
        EXPECT_FALSE(m.rests_on.empty()) << m.name;
        EXPECT_EQ(m.value.has_value(), m.reason.empty()) << m.name;
    }
}

TEST(Measure, AMissingHingePointLeavesNoPlaneNumberButAReason) {
    Findings findings = findings_of();
    findings.landmarks[1] = point("hinge_left", std::nullopt, "the model marked no voxel");
    findings.annular_plane.reset();
    const auto all = measured(findings, {"the hinge points were not found", 0, ""}).measurements;
    for (const char* name : {"annulus_area_mm2", "annulus_perimeter_mm", "annulus_min_diameter_mm", "annulus_tilt_deg",
                             "left_ostium_height_mm", "septum_depth_mm", "hinge_left_right_mm", "valve_calcium_mm3"}) {
        EXPECT_FALSE(find(all, name).value) << name;
        EXPECT_FALSE(find(all, name).reason.empty()) << name;
    }
    EXPECT_THAT(find(all, "hinge_left_right_mm").reason, testing::HasSubstr("the model marked no voxel"));
    EXPECT_TRUE(find(all, "hinge_right_noncoronary_mm").value);
    EXPECT_TRUE(find(all, "septum_length_mm").value);
}

TEST(Measure, AMissingOstiumCostsOnlyItsOwnHeight) {
    Findings findings = findings_of();
    findings.landmarks[3] = point("ostium_right", std::nullopt, "too small");
    const auto all = measured(findings).measurements;
    EXPECT_FALSE(find(all, "right_ostium_height_mm").value);
    EXPECT_TRUE(find(all, "left_ostium_height_mm").value);
    EXPECT_TRUE(find(all, "annulus_area_mm2").value);
}

TEST(Measure, ANumberOfMeasurementsDoesNotDependOnWhatWasFound) {
    Findings nothing = findings_of();
    nothing.landmarks.clear();
    nothing.annular_plane.reset();
    EXPECT_EQ(measured(nothing, {"x", 0, ""}).measurements.size(),
              measured(findings_of(), {"x", 0, ""}).measurements.size());
}

TEST(Measure, AValveWithoutCalciumHasZeroAndAMeasuredOneThePartsOfItsVolume) {
    Findings findings = findings_of();
    const Frame f;
    Segment calcium;
    calcium.label = 1;
    calcium.name = "valve_calcium";
    findings.groups.push_back({"valve_calcium", "Calcium", LabelMap(grid_of(0.8, 100), std::uint8_t{0}), {calcium}});
    const auto none = measured(findings, {"", 850, "fixed"}).measurements;
    for (const char* name : {"valve_calcium_mm3", "valve_calcium_right_mm3", "valve_calcium_left_mm3",
                             "valve_calcium_noncoronary_mm3", "valve_calcium_outflow_mm3"}) {
        EXPECT_EQ(find(none, name).value, 0) << name;
    }
    EXPECT_THAT(find(none, "valve_calcium_mm3").rests_on, testing::HasSubstr("850 HU or more; rule: fixed"));

    // Balls: 3 mm on the right cusp, 2.5 mm on the left, 2 mm on the other, 2.2 mm below the plane.
    LabelMap& map = findings.groups.back().labels;
    struct Ball {
        PatientPoint at;
        double radius;
        const char* name;
    };
    const std::vector<Ball> balls = {{f.at(9, 1, 4), 3, "valve_calcium_right_mm3"},
                                     {f.at(-5, 8, 5), 2.5, "valve_calcium_left_mm3"},
                                     {f.at(-3, -9, 6), 2, "valve_calcium_noncoronary_mm3"},
                                     {f.at(8, 2, -6), 2.2, "valve_calcium_outflow_mm3"}};
    for (std::int64_t o = 0; o < map.grid.voxel_count(); ++o) {
        const auto& size = map.grid.size();
        const PatientPoint p =
            map.grid.to_patient(VoxelIndex{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}});
        for (const Ball& ball : balls) {
            if (distance_mm(p, ball.at) <= ball.radius) map.voxels[o] = 1;
        }
    }
    const auto all = measured(findings, {"", 850, "fixed"}).measurements;
    double sum = 0;
    for (const Ball& ball : balls) {
        const Measurement& part = find(all, ball.name);
        const double truth = 4.0 / 3 * M_PI * std::pow(ball.radius, 3);
        EXPECT_NEAR(*part.value, truth, 0.12 * truth) << ball.name;
        EXPECT_GT(*part.uncertainty, 0) << ball.name;
        sum += *part.value;
    }
    EXPECT_NEAR(*find(all, "valve_calcium_mm3").value, sum, 1e-9);
    // Half a voxel all round the four balls.
    double shell = 0;
    for (const Ball& ball : balls) shell += 4 * M_PI * ball.radius * ball.radius * 0.4;
    EXPECT_NEAR(*find(all, "valve_calcium_mm3").uncertainty, shell, 0.35 * shell);
}

TEST(Measure, CalciumWithoutAPlaneHasItsVolumeButNoParts) {
    Findings findings = findings_of();
    findings.groups.push_back({"valve_calcium", "Calcium", LabelMap(grid_of(0.8, 100), std::uint8_t{1}), {}});
    findings.annular_plane.reset();
    const auto all = measured(findings, {"", 850, "fixed"}).measurements;
    EXPECT_TRUE(find(all, "valve_calcium_mm3").value);
    EXPECT_FALSE(find(all, "valve_calcium_left_mm3").value);
    EXPECT_FALSE(find(all, "valve_calcium_left_mm3").reason.empty());
}

TEST(Uncertainty, AHingeErrorTiltsThePlaneAsGeometrySays) {
    // Three points on a circle of 25 mm: one that is e off tilts the plane by atan(e / 18.75) (facts, section 3).
    Hinges hinges;
    for (int h = 0; h < 3; ++h) {
        hinges.at[h] = {{12.5 * std::cos(h * 2 * M_PI / 3), 12.5 * std::sin(h * 2 * M_PI / 3), 0}};
    }
    Hinges off = hinges;
    off.at[0].lps_mm[2] += 2.6;
    EXPECT_NEAR(std::acos(off.plane({0, 0, 1}).normal[2]), std::atan(2.6 / 18.75), 1e-9);
    hinges.axis_sd_mm = {1, 1, 1};
    EXPECT_NEAR(hinges.height_sd({{0, 0, 20}}), 1 / std::sqrt(3.0), 1e-9);  // the mean of three
    EXPECT_NEAR(hinges.height_sd({{12.5, 0, 9}}), 1, 1e-9);                 // at a hinge point: its own error
    EXPECT_GT(hinges.height_sd({{25, 0, 9}}), 1.2);                         // outside of them it grows
}

TEST(Uncertainty, MovedPointsHaveTheErrorThatWasAskedForAndAreAlwaysTheSame) {
    Hinges hinges;
    hinges.axis_sd_mm.fill(axis_sd(2.6));
    const auto samples = moved(hinges, 4000, 7);
    std::vector<double> away;
    for (const Hinges& s : samples) away.push_back(distance_mm(s.at[1], hinges.at[1]));
    std::nth_element(away.begin(), away.begin() + 2000, away.end());
    EXPECT_NEAR(away[2000], 2.6, 0.1);
    EXPECT_EQ(moved(hinges, 4000, 7)[3999].at[2].lps_mm, samples[3999].at[2].lps_mm);
}

TEST(Measure, ALargerErrorOfThePointsMakesTheNumbersLessSure) {
    const Findings findings = findings_of();
    const Volume ct = ct_of(findings.groups.front().labels);
    const auto with_error = [&](double mm) {
        MeasureRules rules;
        rules.point_error_mm = mm;
        rules.samples = 16;
        return measure(findings, ct, {}, rules).measurements;
    };
    const auto sure = with_error(0.5), unsure = with_error(3);
    for (const char* name : {"annulus_area_mm2", "annulus_max_diameter_mm", "annulus_tilt_deg", "left_ostium_height_mm",
                             "septum_length_mm"}) {
        ASSERT_TRUE(find(sure, name).uncertainty) << name;
        EXPECT_LT(*find(sure, name).uncertainty, *find(unsure, name).uncertainty) << name;
    }
    EXPECT_EQ(find(sure, "annulus_area_mm2").value, find(unsure, "annulus_area_mm2").value);
    // 3 mm of median error: axis sd 1.95 mm; height of a point above the plane near its centre.
    EXPECT_NEAR(*find(unsure, "septum_length_mm").uncertainty, axis_sd(3) * M_SQRT2, 1e-9);
}

TEST(Measure, ALowOstiumOverSmallSinusesIsNotedWithItsSourceAndNotMoreThanThat) {
    EXPECT_TRUE(measured(findings_of()).notes.empty());
}
