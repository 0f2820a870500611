#include "pipeline/postprocess/plausibility.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/heart_phantom.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

const Vec3 kUp = {0, 0, 1};

std::vector<Landmark> all_found() {
    std::vector<Landmark> landmarks;
    const auto m = manifest();
    for (const auto& head : m.heads) {
        if (head.kind != "points") continue;
        for (const auto& c : head.classes) {
            Landmark l;
            l.name = c.name;
            l.position = root_points()[landmarks.size()];
            landmarks.push_back(l);
        }
    }
    return landmarks;
}

int found(const std::vector<Landmark>& landmarks) {
    return static_cast<int>(
        std::count_if(landmarks.begin(), landmarks.end(), [](const Landmark& l) { return l.position.has_value(); }));
}

}  // namespace

TEST(Plausibility, ANormalRootKeepsItsSevenPointsAndGetsAPlaneTowardsTheAorta) {
    auto landmarks = all_found();
    const auto plane = check_root(landmarks, kUp, {});
    ASSERT_TRUE(plane);
    EXPECT_EQ(found(landmarks), 7);
    EXPECT_NEAR(plane->normal[2], 1, 1e-9);
    EXPECT_LT(norm(plane->point.lps_mm), 0.01);
}

TEST(Plausibility, OfTwoPointsAtOnePlaceTheSurerStays) {
    auto landmarks = all_found();
    for (Landmark& l : landmarks) l.confidence = 0.6;
    Landmark& septum = *landmark(landmarks, "septum_upper");
    septum.position = PatientPoint{{0, -13, 1.9}};
    septum.confidence = 0.9;
    withdraw_twins(landmarks, {});
    EXPECT_TRUE(septum.position);
    EXPECT_FALSE(landmark(landmarks, "hinge_right")->position);
    EXPECT_THAT(landmark(landmarks, "hinge_right")->reason, testing::HasSubstr("1.9 mm from"));
    EXPECT_EQ(found(landmarks), 6);
}

TEST(Plausibility, PointsTwoMillimetresApartBothStay) {
    auto landmarks = all_found();
    landmark(landmarks, "septum_upper")->position = PatientPoint{{0, -13, 2.1}};
    withdraw_twins(landmarks, {});
    EXPECT_EQ(found(landmarks), 7);
}

TEST(Plausibility, ATriangleThatIsTooLargeLosesAllThreeButNotTheOthers) {
    auto landmarks = all_found();
    landmark(landmarks, "hinge_left")->position->lps_mm[0] = 50;
    const auto plane = check_root(landmarks, kUp, {});
    EXPECT_FALSE(plane);
    for (const char* hinge : {"hinge_right", "hinge_left", "hinge_noncoronary"}) {
        EXPECT_FALSE(landmark(landmarks, hinge)->position);
        EXPECT_THAT(landmark(landmarks, hinge)->reason, testing::HasSubstr("implausible triangle (sides"));
    }
    EXPECT_TRUE(landmark(landmarks, "ostium_left")->position);
    EXPECT_TRUE(landmark(landmarks, "septum_upper")->position);
}

TEST(Plausibility, ATriangleThatIsTooSmallOrFlatIsRefused) {
    auto landmarks = all_found();
    landmark(landmarks, "hinge_left")->position = PatientPoint{{-5, 6.5, 0}};
    EXPECT_FALSE(check_root(landmarks, kUp, {}));
    landmarks = all_found();
    landmark(landmarks, "hinge_right")->position = PatientPoint{{0, 6, 0}};  // nearly on the line of the other two
    EXPECT_FALSE(check_root(landmarks, kUp, {}));
    EXPECT_FALSE(landmark(landmarks, "hinge_right")->position);
}

TEST(Plausibility, ExchangedHingePointsAreNoticedByTheDirectionOfTheAorta) {
    auto landmarks = all_found();
    std::swap(landmark(landmarks, "hinge_left")->position, landmark(landmarks, "hinge_noncoronary")->position);
    EXPECT_FALSE(check_root(landmarks, kUp, {}));
    EXPECT_THAT(landmark(landmarks, "hinge_right")->reason, testing::HasSubstr("exchanged"));
}

TEST(Plausibility, APlaneAlongTheAxisOfTheRootIsRefused) {
    auto landmarks = all_found();
    EXPECT_FALSE(check_root(landmarks, Vec3{1, 0, 0}, {}));
    EXPECT_THAT(landmark(landmarks, "hinge_right")->reason, testing::HasSubstr("90 degrees"));
}

TEST(Plausibility, AnOstiumBelowTheAnnulusIsNotOne) {
    auto landmarks = all_found();
    landmark(landmarks, "ostium_left")->position->lps_mm[2] = -3;
    landmark(landmarks, "ostium_right")->position->lps_mm[2] = 45;
    ASSERT_TRUE(check_root(landmarks, kUp, {}));
    EXPECT_EQ(landmark(landmarks, "ostium_left")->reason, "implausible: 3.0 mm below the annular plane");
    EXPECT_EQ(landmark(landmarks, "ostium_right")->reason, "implausible: 45.0 mm above the annular plane");
    EXPECT_EQ(found(landmarks), 5);
}

TEST(Plausibility, SeptumPointsFarAwayOrFarApartAreRefused) {
    auto landmarks = all_found();
    landmark(landmarks, "septum_lower")->position->lps_mm[2] = -60;
    ASSERT_TRUE(check_root(landmarks, kUp, {}));
    EXPECT_FALSE(landmark(landmarks, "septum_lower")->position);
    EXPECT_TRUE(landmark(landmarks, "septum_upper")->position);
    // Without a plane their distance from each other is still checked.
    landmarks = all_found();
    landmark(landmarks, "hinge_left")->position.reset();
    landmark(landmarks, "septum_lower")->position->lps_mm[2] = -60;
    EXPECT_FALSE(check_root(landmarks, kUp, {}));
    EXPECT_FALSE(landmark(landmarks, "septum_upper")->position);
    EXPECT_FALSE(landmark(landmarks, "septum_lower")->position);
}

TEST(Plausibility, AMissingHingePointGivesNoPlaneAndKeepsTheOtherTwo) {
    auto landmarks = all_found();
    landmark(landmarks, "hinge_right")->position.reset();
    EXPECT_FALSE(check_root(landmarks, kUp, {}));
    EXPECT_EQ(found(landmarks), 6);
}

TEST(Plausibility, APointFarFromAortaAndVentricleIsRefused) {
    auto landmarks = all_found();
    LabelMap labels(cube_grid(2, 81), std::uint8_t{0});
    each_voxel(labels.grid, [&](const PatientPoint& p, std::size_t o) {
        if (distance_mm(p, {{0, 0, 0}}) < 15) labels.voxels[o] = 6;
    });
    landmark(landmarks, "ostium_left")->position = PatientPoint{{60, 0, 10}};
    withdraw_far_from(landmarks, labels, {3, 6}, {});
    EXPECT_FALSE(landmark(landmarks, "ostium_left")->position);
    EXPECT_EQ(found(landmarks), 6);
    withdraw_far_from(landmarks, LabelMap(cube_grid(2, 4), std::uint8_t{0}), {3, 6}, {});
    EXPECT_EQ(found(landmarks), 0);
}

TEST(Plausibility, APointOutsideOfTheImageIsRefused) {
    auto landmarks = all_found();
    withdraw_outside(landmarks, cube_grid(1, 90, {{-80, -80, -80}}));  // ends at +9 mm
    EXPECT_FALSE(landmark(landmarks, "ostium_left")->position);
    EXPECT_TRUE(landmark(landmarks, "septum_upper")->position);
}

TEST(Plausibility, TheAscendingDirectionRunsFromVentricleToAorta) {
    LabelMap labels(cube_grid(2, 81), std::uint8_t{0});
    EXPECT_FALSE(ascending_direction(labels, 3, 6, {}));
    each_voxel(labels.grid, [&](const PatientPoint& p, std::size_t o) {
        if (distance_mm(p, {{0, 0, -30}}) < 20) labels.voxels[o] = 3;
        if (distance_mm(p, {{30, 0, 0}}) < 8) labels.voxels[o] = 6;
        if (distance_mm(p, {{0, 60, -60}}) < 15) labels.voxels[o] = 6;  // the descending aorta must not count
    });
    const auto way = ascending_direction(labels, 3, 6, {{15, 0, -15}});
    ASSERT_TRUE(way);
    EXPECT_NEAR((*way)[0], std::sqrt(0.5), 0.01);
    EXPECT_NEAR((*way)[1], 0, 0.01);
    EXPECT_NEAR((*way)[2], std::sqrt(0.5), 0.01);
}
