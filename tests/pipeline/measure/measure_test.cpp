#include "pipeline/measure/measure.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/measure/annulus_contour.h"

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

const Measurement& find(const std::vector<Measurement>& all, const std::string& name) {
    for (const Measurement& m : all) {
        if (m.name == name) return m;
    }
    throw std::runtime_error("no measurement " + name);
}

}  // namespace

TEST(AnnulusContour, AnObliqueEllipseIsMeasuredWithinTwoPercentOnFineVoxels) {
    const Frame f;
    struct Case {
        double spacing;
        std::int64_t side;
        double share;  // tolerance of area and perimeter; a binary label of 1.5 mm voxels cannot say it better
        double mm;
    };
    for (const auto& [spacing, side, share, mm] :
         {Case{0.5, 140, 0.005, 0.2}, Case{1.0, 70, 0.01, 0.5}, Case{1.5, 47, 0.02, 1.0}}) {
        const auto contour = annulus_contour(tube(grid_of(spacing, side), f, kA, kB), {1, 2}, {f.centre, f.n});
        ASSERT_TRUE(contour) << contour.error().message;
        EXPECT_NEAR(contour->area_mm2, M_PI * kA * kB, share * M_PI * kA * kB) << spacing;
        EXPECT_NEAR(contour->perimeter_mm, ellipse_perimeter(kA, kB), share * ellipse_perimeter(kA, kB)) << spacing;
        EXPECT_NEAR(contour->max_diameter_mm, 2 * kA, mm) << spacing;
        EXPECT_NEAR(contour->min_diameter_mm, 2 * kB, mm) << spacing;
    }
}

TEST(AnnulusContour, APlaneThatCutsObliquelySeesTheLongerEllipse) {
    // A tube of radius 12 cut 30 degrees off its axis is an ellipse of half axes 12 and 12 / cos 30.
    const Frame f;
    const double angle = M_PI / 6;
    const Vec3 normal = add(scale(f.n, std::cos(angle)), scale(f.u, std::sin(angle)));
    const auto contour = annulus_contour(tube(grid_of(0.8, 120), f, 12, 12), {1, 2}, {f.centre, normal});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_NEAR(contour->area_mm2, M_PI * 144 / std::cos(angle), 0.02 * M_PI * 144 / std::cos(angle));
    EXPECT_NEAR(contour->max_diameter_mm, 24 / std::cos(angle), 0.5);
    EXPECT_NEAR(contour->min_diameter_mm, 24, 0.5);
}

TEST(AnnulusContour, TheStaircaseOfACoarseNetworkDoesNotLengthenThePerimeter) {
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
    const auto contour = annulus_contour(fine, {1, 2}, {f.centre, f.n});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_NEAR(contour->area_mm2, M_PI * 169, 0.035 * M_PI * 169);
    EXPECT_NEAR(contour->perimeter_mm, 26 * M_PI, 0.035 * 26 * M_PI);
}

TEST(AnnulusContour, AHoleInTheLabelsIsFilled) {
    const Frame f;
    LabelMap map = tube(grid_of(0.8, 100), f, kA, kB);
    for (std::size_t v = 0; v < map.voxels.size(); ++v) {
        const auto& size = map.grid.size();
        const auto o = static_cast<std::int64_t>(v);
        const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        if (distance_mm(map.grid.to_patient(index), f.at(3, 2, 0)) < 4) map.voxels[v] = 0;
    }
    const auto contour = annulus_contour(map, {1, 2}, {f.centre, f.n});
    ASSERT_TRUE(contour) << contour.error().message;
    EXPECT_NEAR(contour->area_mm2, M_PI * kA * kB, 0.02 * M_PI * kA * kB);
}

TEST(AnnulusContour, BothLabelsTogetherAreTheLumen) {
    // With the aorta alone the plane at the border of the two labels shows half of the truth or nothing.
    const Frame f;
    const LabelMap map = tube(grid_of(0.8, 100), f, kA, kB);
    const auto both = annulus_contour(map, {1, 2}, {f.centre, f.n});
    const auto below = annulus_contour(map, {2}, {f.at(0, 0, -5), f.n});
    ASSERT_TRUE(both);
    EXPECT_FALSE(below);
}

TEST(AnnulusContour, NoBloodAtThePlaneIsSaid) {
    const Frame f;
    const auto contour = annulus_contour(tube(grid_of(0.8, 100), f, kA, kB), {1, 2}, {f.at(30, 0, 0), f.n});
    ASSERT_FALSE(contour);
    EXPECT_THAT(contour.error().message, testing::HasSubstr("no blood"));
}

TEST(AnnulusContour, AnImplausibleAreaIsRefused) {
    const Frame f;
    const auto small = annulus_contour(tube(grid_of(0.8, 100), f, 5, 5), {1, 2}, {f.centre, f.n});
    ASSERT_FALSE(small);
    EXPECT_THAT(small.error().message, testing::HasSubstr("implausible"));
    const auto large = annulus_contour(tube(grid_of(1.0, 100), f, 25, 25), {1, 2}, {f.centre, f.n});
    EXPECT_FALSE(large);
    const auto endless = annulus_contour(tube(grid_of(1.0, 120), f, 200, 200), {1, 2}, {f.centre, f.n});
    ASSERT_FALSE(endless);
    EXPECT_THAT(endless.error().message, testing::HasSubstr("no border"));
}

TEST(AnnulusContour, ALabelThatRunsOutIntoItsNeighbourIsRefused) {
    const Frame f;
    LabelMap map = tube(grid_of(0.8, 100), f, 12, 12);
    for (std::size_t v = 0; v < map.voxels.size(); ++v) {
        const auto& size = map.grid.size();
        const auto o = static_cast<std::int64_t>(v);
        const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        const Vec3 d = subtract(map.grid.to_patient(index).lps_mm, f.centre.lps_mm);
        if (dot(d, f.u) > 0 && dot(d, f.u) < 26 && std::abs(dot(d, f.v)) < 4) map.voxels[v] = 2;  // a tongue
    }
    const auto contour = annulus_contour(map, {1, 2}, {f.centre, f.n});
    ASSERT_FALSE(contour);
    EXPECT_THAT(contour.error().message, testing::HasSubstr("ragged"));
    EXPECT_TRUE(annulus_contour(tube(grid_of(0.8, 100), f, 16, 8.5), {1, 2}, {f.centre, f.n})) << "an oval is not";
}

TEST(Measure, AnAnalyticRootGivesItsKnownNumbers) {
    const auto all = measure(findings_of(), {"not asked", 0});
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
    for (const Measurement& m : measure(findings_of(), {"not asked", 0})) {
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
    const auto all = measure(findings, {"the hinge points were not found", 0});
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
    const auto all = measure(findings, {});
    EXPECT_FALSE(find(all, "right_ostium_height_mm").value);
    EXPECT_TRUE(find(all, "left_ostium_height_mm").value);
    EXPECT_TRUE(find(all, "annulus_area_mm2").value);
}

TEST(Measure, ANumberOfMeasurementsDoesNotDependOnWhatWasFound) {
    Findings nothing = findings_of();
    nothing.landmarks.clear();
    nothing.annular_plane.reset();
    EXPECT_EQ(measure(nothing, {"x", 0}).size(), measure(findings_of(), {"x", 0}).size());
}

TEST(Measure, AValveWithoutCalciumHasZeroAndAMeasuredOneItsVolume) {
    Findings findings = findings_of();
    Segment calcium;
    calcium.label = 1;
    calcium.name = "valve_calcium";
    findings.groups.push_back({"valve_calcium", "Calcium", LabelMap(grid_of(1, 10), std::uint8_t{0}), {calcium}});
    auto all = measure(findings, {"", 850});
    EXPECT_EQ(find(all, "valve_calcium_mm3").value, 0);
    EXPECT_THAT(find(all, "valve_calcium_mm3").rests_on, testing::HasSubstr("850 HU"));
    findings.groups.back().segments.front().volume_ml = 0.1235;
    EXPECT_NEAR(*find(measure(findings, {"", 850}), "valve_calcium_mm3").value, 123.5, 1e-9);
}
