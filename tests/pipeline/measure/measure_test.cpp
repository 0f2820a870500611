#include "pipeline/measure/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/measure/uncertainty.h"
#include "tests/pipeline/measure/analytic_root.h"

using namespace cardionode;
using namespace cardionode::test;

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

TEST(Measure, APointThatKnowsItsErrorIsBelieved) {
    Findings findings = findings_of();
    findings.landmarks[5].expected_error_mm = 1.0;
    findings.landmarks[6].expected_error_mm = 2.0;
    EXPECT_NEAR(*find(measured(findings).measurements, "septum_length_mm").uncertainty,
                std::hypot(axis_sd(1), axis_sd(2)), 1e-9);
}

TEST(Measure, ALowOstiumOverSmallSinusesIsNotedWithItsSource) {
    // Sinuses of 26 mm over an annulus of 24 mm, and a junction of 22 mm.
    const Frame f;
    Findings findings = findings_of();
    LabelMap& map = findings.groups.front().labels;
    for (std::int64_t o = 0; o < map.grid.voxel_count(); ++o) {
        const auto& size = map.grid.size();
        const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        const Vec3 d = subtract(map.grid.to_patient(index).lps_mm, f.centre.lps_mm);
        const double h = dot(d, f.n), bulge = h > 0 && h < 18 ? std::sin(M_PI * h / 18) : 0;
        const double radius = (h < 18 ? 12 - std::max(h, 0.0) / 18 : 11) + 1.5 * bulge;
        map.voxels[o] = std::hypot(dot(d, f.u), dot(d, f.v)) > radius ? 0 : h < 0 ? 1 : 2;
    }
    EXPECT_TRUE(measured(findings).notes.empty()) << "the left ostium is 12.25 mm up";
    findings.landmarks[4].position = f.at(-3, 12, 9.5);
    const Measured low = measured(findings);
    ASSERT_TRUE(find(low.measurements, "sinus_mean_mm").value) << find(low.measurements, "sinus_mean_mm").reason;
    ASSERT_EQ(low.notes.size(), 1U);
    EXPECT_THAT(low.notes.front(), testing::HasSubstr("Ribeiro 2013"));
    EXPECT_THAT(low.notes.front(), testing::HasSubstr("9.5 mm"));
    EXPECT_THAT(low.notes.front(), testing::HasSubstr("Research use"));
}
