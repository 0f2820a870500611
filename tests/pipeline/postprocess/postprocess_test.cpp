#include "pipeline/postprocess/postprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/postprocess/calcium.h"
#include "pipeline/postprocess/label_maps.h"
#include "tests/support/heart_phantom.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

std::string reason_of(const Findings& f, const char* name) { return f.landmark(name)->reason; }

/// Channel 1 wherever it is the likelier one.
std::vector<std::uint8_t> argmax_of(const HeadProbabilities& head) {
    std::vector<std::uint8_t> labels;
    for (std::size_t v = 0; v < head.channels[0].voxels.size(); ++v) {
        labels.push_back(head.channels[1].voxels[v] > head.channels[0].voxels[v] ? 1 : 0);
    }
    return labels;
}

std::int64_t voxels_of(const LabelMap& map, int label) { return count_labels(map)[label]; }

}  // namespace

TEST(LabelMaps, OnAFinerGridTheBorderOfABallStaysABall) {
    auto head = background_only("heart", cube_grid(2, 41, {{-40, -40, -40}}), 1);
    each_voxel(head.channels[0].grid, [&](const PatientPoint& p, std::size_t o) {
        const float share = static_cast<float>(std::clamp((20 - norm(p.lps_mm)) / 4 + 0.5, 0.0, 1.0));
        head.channels[1].voxels[o] = share;
        head.channels[0].voxels[o] = 1 - share;
    });
    const auto pieces = largest_pieces(head);
    ASSERT_TRUE(pieces);
    const LabelMap fine = onto_grid(head, *pieces, cube_grid(0.5, 121, {{-30, -30, -30}})).value();
    const double ml = static_cast<double>(voxels_of(fine, 1)) * 0.125 / 1000;
    EXPECT_NEAR(ml, 4.0 / 3 * M_PI * 8, 0.02 * 4.0 / 3 * M_PI * 8);
    int wrong = 0;
    each_voxel(fine.grid, [&](const PatientPoint& p, std::size_t o) {
        const double r = norm(p.lps_mm);
        if (std::abs(r - 20) > 0.4 && (fine.voxels[o] == 1) != (r < 20)) ++wrong;
    });
    EXPECT_EQ(wrong, 0);
}

TEST(LabelMaps, OnItsOwnGridNothingChanges) {
    const auto p = prediction(4);
    const auto pieces = largest_pieces(p.heads[0]);
    ASSERT_TRUE(pieces);
    EXPECT_EQ(onto_grid(p.heads[0], *pieces, pieces->grid).value().voxels, pieces->voxels);
}

TEST(LabelMaps, ARotatedTargetSeesTheSamePlaces) {
    auto head = background_only("heart", cube_grid(2, 41, {{-40, -40, -40}}), 2);
    paint(head, 2, 0.9F, ball({{10, 4, -6}}, 12));
    const auto pieces = largest_pieces(head);
    ASSERT_TRUE(pieces);
    // Rows run from back to front and the slices from head to feet.
    const Grid target =
        Grid::create({{30, 30, 30}}, {Vec3{0, -1, 0}, Vec3{-1, 0, 0}, Vec3{0, 0, -1}}, {1, 1, 1}, {61, 61, 61}).value();
    const LabelMap map = onto_grid(head, *pieces, target).value();
    int wrong = 0;
    each_voxel(target, [&](const PatientPoint& p, std::size_t o) {
        const double r = distance_mm(p, {{10, 4, -6}});
        if (std::abs(r - 12) > 2 && (map.voxels[o] == 2) != (r < 12)) ++wrong;
    });
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(voxels_of(map, 1), 0);
}

TEST(LabelMaps, ASmallPieceFarFromTheLargestIsNoise) {
    auto head = background_only("heart", cube_grid(2, 41, {{-40, -40, -40}}), 1);
    paint(head, 1, 0.9F, ball({{10, 0, 0}}, 12));
    paint(head, 1, 0.99F, ball({{-30, 0, 0}}, 6));
    const auto pieces = largest_pieces(head);
    ASSERT_TRUE(pieces);
    const LabelMap map = onto_grid(head, *pieces, cube_grid(1, 81, {{-40, -40, -40}})).value();
    each_voxel(map.grid, [&](const PatientPoint& p, std::size_t o) {
        if (p.lps_mm[0] < -10) {
            ASSERT_EQ(map.voxels[o], 0);
        }
    });
    EXPECT_GT(voxels_of(map, 1), 6000);
}

TEST(LabelMaps, AnAortaThatTheScanCutsInTwoKeepsBothItsPieces) {
    auto head = background_only("heart", cube_grid(2, 41, {{-40, -40, -40}}), 1);
    paint(head, 1, 0.9F, ball({{15, 0, 0}}, 16));   // descending, the larger one
    paint(head, 1, 0.9F, ball({{-25, 0, 0}}, 12));  // ascending, with the root
    const LabelMap map = largest_pieces(head).value();
    EXPECT_EQ(map.voxels, argmax_of(head));
}

TEST(Postprocess, APerfectPredictionGivesAllPointsTheHeartAndTheCalcium) {
    const auto done = postprocess(contrast_ct(), prediction(), manifest(), {});
    ASSERT_TRUE(done) << done.error().message;
    const Findings& f = done->findings;
    ASSERT_EQ(f.landmarks.size(), 7U);
    for (std::size_t l = 0; l < 5; ++l) {
        ASSERT_TRUE(f.landmarks[l].position) << f.landmarks[l].name << ": " << f.landmarks[l].reason;
        EXPECT_LT(distance_mm(*f.landmarks[l].position, root_points()[l]), 0.6) << f.landmarks[l].name;
    }
    ASSERT_TRUE(f.annular_plane);
    EXPECT_GT(f.annular_plane->normal[2], 0.99);
    EXPECT_TRUE(f.warnings.empty());
    EXPECT_EQ(f.model.name, "phantom");

    ASSERT_EQ(f.groups.size(), 2U);
    EXPECT_EQ(f.groups[0].name, "heart");
    EXPECT_TRUE(f.groups[0].labels.grid.same_as(contrast_ct().grid));
    EXPECT_FALSE(f.groups[0].segments[1].volume_ml) << "the phantom has no left atrium";
    EXPECT_NEAR(*f.groups[0].segments[4].volume_ml, 4.0 / 3 * M_PI * 22 * 22 * 22 / 1000, 3);
    EXPECT_EQ(f.groups[1].name, "valve_calcium");
    EXPECT_TRUE(done->no_calcium_why.empty());
    // A cube with sides below 6 mm holds 5 voxels of 1 mm a side, all within the dilated ball.
    EXPECT_NEAR(*f.groups[1].segments[0].volume_ml, 0.125, 1e-9);
    EXPECT_EQ(done->calcium_threshold_hu, 850);
}

TEST(Postprocess, AWeakContrastIsStillContrastAndDenseUnenhancedBloodIsNot) {
    const auto weak = postprocess(contrast_ct(120), prediction(), manifest(), {});
    ASSERT_TRUE(weak.ok());
    EXPECT_TRUE(weak->findings.landmarks[0].position) << weak->findings.landmarks[0].reason;
    const auto dense = postprocess(contrast_ct(75), prediction(), manifest(), {});
    ASSERT_TRUE(dense.ok());
    EXPECT_FALSE(dense->findings.landmarks[0].position);
}

TEST(Postprocess, WithoutContrastAgentTheRootIsNotReportedAndTheReasonIsSaid) {
    const auto done = postprocess(contrast_ct(45), prediction(), manifest(), {});
    ASSERT_TRUE(done);
    ASSERT_EQ(done->findings.warnings.size(), 1U);
    EXPECT_THAT(done->findings.warnings[0], testing::HasSubstr("no contrast agent seen (median 45 HU"));
    for (const Landmark& l : done->findings.landmarks) {
        EXPECT_FALSE(l.position) << l.name;
        EXPECT_THAT(l.reason, testing::HasSubstr("no contrast agent seen")) << l.name;
        EXPECT_GT(l.confidence, 0.7) << l.name;
    }
    EXPECT_FALSE(done->findings.annular_plane);
    EXPECT_EQ(done->findings.groups.size(), 1U);
    EXPECT_THAT(done->no_calcium_why, testing::HasSubstr("no contrast agent seen"));
}

TEST(Postprocess, WithoutAHeartNothingIsDrawnAndThatIsSaid) {
    Prediction p = prediction();
    p.heads[0] = background_only("heart", p.heads[0].channels[0].grid, 7);
    paint(p.heads[0], 3, 0.9F, ball({{0, 0, -30}}, 15));
    const auto done = postprocess(contrast_ct(), p, manifest(), {});
    ASSERT_TRUE(done);
    EXPECT_TRUE(done->findings.groups.empty());
    EXPECT_FALSE(done->findings.annular_plane);
    ASSERT_EQ(done->findings.warnings.size(), 1U);
    EXPECT_THAT(done->findings.warnings[0], testing::HasSubstr("no heart found (the model marked 13 ml"));
    for (const Landmark& l : done->findings.landmarks) {
        EXPECT_FALSE(l.position) << l.name;
        EXPECT_THAT(l.reason, testing::HasSubstr("no heart found")) << l.name;
    }
    EXPECT_THAT(done->no_calcium_why, testing::HasSubstr("no heart found"));
}

TEST(Postprocess, WithoutHingePointsTheCalciumIsNotMeasured) {
    Prediction p = prediction();
    p.heads[1] = background_only("hps", p.heads[1].channels[0].grid, 5);
    const auto done = postprocess(contrast_ct(), p, manifest(), {});
    ASSERT_TRUE(done);
    EXPECT_EQ(done->no_calcium_why, "the hinge points were not found");
    EXPECT_EQ(done->findings.groups.size(), 1U);
    EXPECT_THAT(reason_of(done->findings, "hinge_left"), testing::HasSubstr("no voxel"));
}

TEST(Postprocess, AModelWithoutAHeartHeadIsAFaultOfTheInstallation) {
    BundleManifest m = manifest();
    m.heads.erase(m.heads.begin());
    const auto done = postprocess(contrast_ct(), prediction(), m, {});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().kind, ErrorKind::Config);
}

TEST(Postprocess, AHeadThatTheModelDidNotGiveIsABug) {
    Prediction p = prediction();
    p.heads.erase(p.heads.begin() + 1);
    const auto done = postprocess(contrast_ct(), p, manifest(), {});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().kind, ErrorKind::Bug);
}

TEST(Calcium, TheRuleOfTheManifestGivesTheThreshold) {
    EXPECT_EQ(*calcium_threshold({"fixed", 850, 2}, std::nullopt), 850);
    EXPECT_EQ(*calcium_threshold({"lumen_plus", 100, 2}, 380.0), 480);
    EXPECT_EQ(*calcium_threshold({"by_lumen", 0, 2}, 250.0), 450);
    EXPECT_EQ(*calcium_threshold({"by_lumen", 0, 2}, 300.0), 850);
    EXPECT_EQ(other_threshold({"by_lumen", 0, 2}, 296.0), 850);
    EXPECT_EQ(other_threshold({"by_lumen", 0, 2}, 312.0), 450);
    EXPECT_EQ(other_threshold({"by_lumen", 0, 2}, 250.0), std::nullopt);
    EXPECT_EQ(other_threshold({"by_lumen", 0, 2}, std::nullopt), std::nullopt);
    EXPECT_EQ(other_threshold({"fixed", 850, 2}, 300.0), std::nullopt);
    EXPECT_EQ(calcium_threshold({"lumen_plus", 100, 2}, std::nullopt).error().kind, ErrorKind::Reject);
    EXPECT_EQ(calcium_threshold({"guess", 100, 2}, 300.0).error().kind, ErrorKind::Config);
}

TEST(Calcium, OnlyNativeVoxelsAboveTheThresholdNearTheHingePointsCount) {
    const Volume ct = contrast_ct();
    const auto p = prediction();
    const std::vector<PatientPoint> hinges(root_points().begin(), root_points().begin() + 3);
    const auto calcium = find_calcium(p.heads[3], {"fixed", 850, 2}, ct, hinges, std::nullopt);
    ASSERT_TRUE(calcium);
    EXPECT_EQ(voxels_of(*calcium, 1), 125);
    const auto none = find_calcium(p.heads[3], {"fixed", 1200, 2}, ct, hinges, std::nullopt);
    ASSERT_TRUE(none);
    EXPECT_EQ(voxels_of(*none, 1), 0);
    const auto far = find_calcium(p.heads[3], {"fixed", 850, 2}, ct, {{{60, 60, 60}}}, std::nullopt);
    ASSERT_TRUE(far);
    EXPECT_EQ(voxels_of(*far, 1), 0);
}

TEST(Calcium, TheMaskIsWidenedByTheManifestsMillimetres) {
    // The model marks only the middle of the deposit.
    auto head = background_only("calc", cube_grid(2, 81), 1);
    paint(head, 1, 0.9F, ball({{4, 4, 4}}, 1));
    Volume ct(cube_grid(1, 151, {{-75, -75, -75}}), 40.0F);
    each_voxel(ct.grid, [&](const PatientPoint& p, std::size_t o) {
        if (distance_mm(p, {{4, 4, 4}}) <= 6) ct.voxels[o] = 1000;
    });
    const std::vector<PatientPoint> hinges = {{{0, 0, 0}}};
    std::int64_t before = 0;
    for (const double dilate : {0.0, 1.0, 2.0, 4.0}) {
        const auto calcium = find_calcium(head, {"fixed", 850, dilate}, ct, hinges, std::nullopt);
        ASSERT_TRUE(calcium);
        EXPECT_GT(voxels_of(*calcium, 1), before) << dilate;
        before = voxels_of(*calcium, 1);
    }
    EXPECT_LT(before, 925) << "not the whole deposit: the model's mask decides where";
}

TEST(PutWindow, FinerLabelsReplaceCoarseOnesInsideTheWindowOnly) {
    const Grid window = cube_grid(1, 64, {{-31.5, -31.5, -31.5}});
    auto finer = background_only("heart", window, 7);
    paint(finer, 6, 0.9F, [](const PatientPoint& p) { return std::hypot(p.lps_mm[0], p.lps_mm[1]) <= 10; });
    paint(finer, 6, 0.9F, ball({{20, 20, 0}}, 3));   // an island inside: noise
    paint(finer, 3, 0.9F, ball({{-30, 0, 0}}, 7));   // the largest piece of its label
    paint(finer, 3, 0.9F, ball({{0, -31, 10}}, 6));  // goes on outside
    LabelMap labels(cube_grid(0.5, 161, {{-40, -40, -40}}), std::uint8_t{5});
    ASSERT_TRUE(put_window(finer, 4, labels).ok());
    const auto at = [&](double x, double y, double z) { return labels.at(*labels.grid.nearest_voxel({{x, y, z}})); };
    EXPECT_EQ(at(0, 0, 0), 6);
    EXPECT_EQ(at(0, 0, 27), 6);
    EXPECT_EQ(at(0, 0, 29), 5) << "within the margin the first look stays";
    EXPECT_EQ(at(15, 0, 0), 0) << "also background replaces";
    EXPECT_EQ(at(20, 20, 0), 0) << "an island";
    EXPECT_EQ(at(-25, 0, 0), 3);
    EXPECT_EQ(at(0, -26.5, 10), 3);
    EXPECT_EQ(at(39, 39, 39), 5);
}

TEST(Postprocess, HeartLabelsAndCalciumComeFromTheSecondLookWhereItHasThem) {
    const Volume ct = contrast_ct();
    Prediction p = prediction();
    const Grid window = cube_grid(1, 64, {{-31.5, -31.5, -27.5}});
    SecondLook second;
    HeadProbabilities heart = background_only("heart", window, 7), calc = background_only("calc", window, 1);
    // The aorta of the second look is 15 mm wide in radius, the first look's is 13.
    paint(heart, 6, 0.9F, [](const PatientPoint& q) { return std::hypot(q.lps_mm[0], q.lps_mm[1]) <= 15; });
    second.heads = {heart, calc};
    const auto one_look = postprocess(ct, p, manifest(), {});
    p.second = second;
    const auto two_looks = postprocess(ct, p, manifest(), {});
    ASSERT_TRUE(one_look.ok() && two_looks.ok());
    const auto label = [](const Postprocessed& done, double x) {
        const LabelMap& map = done.findings.groups.at(0).labels;
        return map.at(*map.grid.nearest_voxel({{x, 0, 15}}));
    };
    EXPECT_EQ(label(*one_look, 14), 0);
    EXPECT_EQ(label(*two_looks, 14), 6);
    ASSERT_EQ(one_look->findings.groups.size(), 2u);
    ASSERT_EQ(two_looks->findings.groups.size(), 2u);
    EXPECT_GT(voxels_of(one_look->findings.groups[1].labels, 1), 0);
    EXPECT_EQ(voxels_of(two_looks->findings.groups[1].labels, 1), 0) << "the second look marks no calcium";
}
