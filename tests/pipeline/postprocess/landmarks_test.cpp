#include "pipeline/postprocess/landmarks.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/postprocess/components.h"
#include "tests/support/heart_phantom.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

HeadManifest two_points() {
    HeadManifest head{"ms", "points", "Septum", {labelled(1, "first"), labelled(2, "second")}};
    head.min_component_voxels = 5;
    head.min_peak_probability = 0.3;
    return head;
}

Grid oblique() {
    const double c = std::cos(0.4), s = std::sin(0.4);
    return Grid::create({{10, -20, 30}}, {Vec3{c, s, 0}, Vec3{-s, c, 0}, Vec3{0, 0, 1}}, {1, 1.5, 2}, {40, 30, 20})
        .value();
}

}  // namespace

TEST(Landmarks, ABallIsFoundAtItsCentreInMillimetres) {
    // A point between voxels, on a rotated grid of uneven voxels.
    const Grid grid = oblique();
    const PatientPoint centre = grid.to_patient(ContinuousIndex{{18.3, 14.6, 9.4}});
    auto head = background_only("ms", grid, 2);
    each_voxel(grid, [&](const PatientPoint& p, std::size_t o) {
        const float value = std::exp(-std::pow(static_cast<float>(distance_mm(p, centre)) / 4.0F, 2.0F));
        head.channels[1].voxels[o] = value;
        head.channels[0].voxels[o] = 1 - value;
    });
    const auto landmarks = decode_landmarks(head, two_points(), 0.3);
    ASSERT_TRUE(landmarks);
    ASSERT_EQ(landmarks->size(), 2U);
    ASSERT_TRUE((*landmarks)[0].position);
    EXPECT_LT(distance_mm(*(*landmarks)[0].position, centre), 0.15);
    EXPECT_GT((*landmarks)[0].confidence, 0.9);
    EXPECT_TRUE((*landmarks)[0].reason.empty());
}

TEST(Landmarks, TheCentreIsWeightedByProbability) {
    const Grid grid = cube_grid(1, 20, {{0, 0, 0}});
    auto head = background_only("ms", grid, 2);
    paint(head, 1, 0.6F,
          [](const PatientPoint& p) { return p.lps_mm[0] == 5 && p.lps_mm[1] < 10 && p.lps_mm[2] == 5; });
    paint(head, 1, 0.9F,
          [](const PatientPoint& p) { return p.lps_mm[0] == 6 && p.lps_mm[1] < 10 && p.lps_mm[2] == 5; });
    const auto landmarks = decode_landmarks(head, two_points(), 0.3);
    ASSERT_TRUE(landmarks && (*landmarks)[0].position);
    EXPECT_NEAR((*landmarks)[0].position->lps_mm[0], (5 * 0.6 + 6 * 0.9) / 1.5, 1e-5);
}

TEST(Landmarks, OnlyTheLargestPieceCountsAndDiagonalNeighboursBelongToIt) {
    const Grid grid = cube_grid(1, 30, {{0, 0, 0}});
    auto head = background_only("ms", grid, 2);
    // Ten voxels along a space diagonal hang together by corners only; eight in a cube lie elsewhere.
    paint(head, 1, 0.9F, [](const PatientPoint& p) {
        return p.lps_mm[0] == p.lps_mm[1] && p.lps_mm[1] == p.lps_mm[2] && p.lps_mm[0] < 10;
    });
    paint(head, 1, 0.99F, [](const PatientPoint& p) {
        return std::min({p.lps_mm[0], p.lps_mm[1], p.lps_mm[2]}) >= 20 &&
               std::max({p.lps_mm[0], p.lps_mm[1], p.lps_mm[2]}) <= 21;
    });
    const auto landmarks = decode_landmarks(head, two_points(), 0.3);
    ASSERT_TRUE(landmarks && (*landmarks)[0].position);
    EXPECT_EQ((*landmarks)[0].component_voxels, 10);
    EXPECT_NEAR((*landmarks)[0].position->lps_mm[0], 4.5, 1e-4);
    EXPECT_NEAR((*landmarks)[0].confidence, 0.9, 1e-6);
}

TEST(Landmarks, AMissingPointLeavesTheOthersTheirNames) {
    auto head = background_only("ms", cube_grid(1, 30, {{0, 0, 0}}), 2);
    paint(head, 2, 0.9F, ball({{15, 15, 15}}, 4));
    const auto landmarks = decode_landmarks(head, two_points(), 0.3);
    ASSERT_TRUE(landmarks);
    EXPECT_EQ((*landmarks)[0].name, "first");
    EXPECT_FALSE((*landmarks)[0].position);
    EXPECT_THAT((*landmarks)[0].reason, testing::HasSubstr("no voxel"));
    EXPECT_EQ((*landmarks)[1].name, "second");
    EXPECT_TRUE((*landmarks)[1].position);
}

TEST(Landmarks, TooSmallAndTooUnsureAreNotFoundAndSayWhy) {
    auto head = background_only("ms", cube_grid(1, 30, {{0, 0, 0}}), 2);
    paint(head, 1, 0.9F, ball({{5, 5, 5}}, 0.5));
    paint(head, 2, 0.6F, ball({{15, 15, 15}}, 4));
    const auto landmarks = decode_landmarks(head, two_points(), 0.7);
    ASSERT_TRUE(landmarks);
    EXPECT_FALSE((*landmarks)[0].position);
    EXPECT_THAT((*landmarks)[0].reason, testing::HasSubstr("too small (1 voxels"));
    EXPECT_FALSE((*landmarks)[1].position);
    EXPECT_THAT((*landmarks)[1].reason, testing::HasSubstr("not sure enough (0.60"));
    EXPECT_NEAR((*landmarks)[1].confidence, 0.6, 1e-6);
    const auto easier = decode_landmarks(head, two_points(), 0.3);
    ASSERT_TRUE(easier);
    EXPECT_TRUE((*easier)[1].position);
}

TEST(Landmarks, NumbersThatAreNoneAreABugOfTheModelNotAPoint) {
    auto head = background_only("ms", cube_grid(1, 10, {{0, 0, 0}}), 2);
    head.channels[1].voxels[3] = std::numeric_limits<float>::quiet_NaN();
    const auto landmarks = decode_landmarks(head, two_points(), 0.3);
    ASSERT_FALSE(landmarks);
    EXPECT_EQ(landmarks.error().kind, ErrorKind::Bug);
}

TEST(Landmarks, ChannelsThatDoNotFitTheManifestAreABug) {
    const auto landmarks = decode_landmarks(background_only("ms", cube_grid(1, 10), 1), two_points(), 0.3);
    ASSERT_FALSE(landmarks);
    EXPECT_EQ(landmarks.error().kind, ErrorKind::Bug);
}

namespace {

Landmark seen(const char* name, std::optional<double> x, double confidence) {
    Landmark l;
    l.name = name;
    l.confidence = confidence;
    if (x) l.position = PatientPoint{{*x, 0, 0}};
    else l.reason = "not seen";
    return l;
}

}  // namespace

TEST(ChooseLandmarks, TheSecondLookWinsWhereItFoundThePoint) {
    const auto chosen =
        choose_landmarks({seen("a", 1, 0.9), seen("b", 2, 0.9), seen("c", {}, 0.2), seen("d", {}, 0.1)},
                         {seen("a", 11, 0.5), seen("b", {}, 0.29), seen("c", 13, 0.6), seen("d", {}, 0.25)});
    ASSERT_EQ(chosen.size(), 4u);
    EXPECT_EQ(chosen[0].position->lps_mm[0], 11) << "although the first look was surer";
    EXPECT_EQ(chosen[0].look, 2);
    EXPECT_EQ(chosen[1].position->lps_mm[0], 2);
    EXPECT_EQ(chosen[1].look, 1);
    EXPECT_EQ(chosen[2].position->lps_mm[0], 13);
    EXPECT_FALSE(chosen[3].position);
    EXPECT_EQ(chosen[3].name, "d");
    EXPECT_EQ(chosen[3].confidence, 0.25);
}

TEST(ExpectedErrors, ComeFromTheTrainingRecordOfTheNetworkThatSawThePoint) {
    BundleManifest m = manifest();
    m.second_look.emplace();
    m.training["phantom_landmarks"] = R"({"a": {"median_mm": 3.5}, "b": {"median_mm": 1.0}, "c": {"median_mm": null}})";
    m.training["second_look_phantom_landmarks"] = R"({"a": {"median_mm": 1.5}, "b": {"median_mm": 1.25}})";
    std::vector<Landmark> landmarks = {seen("a", 1, 0.9), seen("b", 1, 0.9), seen("c", 1, 0.9), seen("a", {}, 0.1)};
    add_expected_errors(landmarks, m);
    EXPECT_EQ(landmarks[0].expected_error_mm, 3.5);
    EXPECT_EQ(landmarks[1].expected_error_mm, 1.25) << "a first look is never stated better than a second";
    EXPECT_FALSE(landmarks[2].expected_error_mm);
    EXPECT_FALSE(landmarks[3].expected_error_mm) << "not found";
    landmarks[0].look = landmarks[1].look = 2;
    landmarks[1].expected_error_mm.reset();
    m.training["landmark_errors"] = R"({"a": {"median_mm": 1.75}})";
    add_expected_errors(landmarks, m);
    EXPECT_EQ(landmarks[0].expected_error_mm, 1.75) << "the whole chain's figure comes first";
    EXPECT_EQ(landmarks[1].expected_error_mm, 1.25);
}

TEST(ExpectedErrors, ARecordThatIsNoJsonGivesNone) {
    BundleManifest m = manifest();
    m.training["phantom_landmarks"] = "about 3 mm";
    std::vector<Landmark> landmarks = {seen("a", 1, 0.9)};
    add_expected_errors(landmarks, m);
    EXPECT_FALSE(landmarks[0].expected_error_mm);
}

TEST(Argmax, BackgroundWinsATie) {
    HeadProbabilities head{"x", {ScoreMap(cube_grid(1, 2), 0.5F), ScoreMap(cube_grid(1, 2), 0.5F)}};
    const auto labels = argmax(head);
    ASSERT_TRUE(labels);
    EXPECT_EQ(std::count(labels->voxels.begin(), labels->voxels.end(), 0), 8);
}
