#include "pipeline/evaluate/phantom_truth.h"

#include <gtest/gtest.h>

#include "pipeline/evaluate/case_score.h"

using namespace cardionode;

namespace {

const train::PhantomAtlas& atlas() {
    static const train::PhantomAtlas loaded =
        train::PhantomAtlas::load(std::string(CARDIONODE_SOURCE_DIR) + "/models/train/shapes").value();
    return loaded;
}

/// The root and what is round it.
train::Phantom phantom(std::uint64_t seed, float non_contrast = 0) {
    train::PhantomOptions options;
    options.non_contrast = non_contrast;
    return train::draw_phantom(atlas(), seed, train::PhantomGrid::around({0, 0, 5}, {40, 40, 48}, 2), options);
}

}  // namespace

TEST(PhantomTruth, LiesWhereThePhantomDrewIt) {
    const train::Phantom drawn = phantom(3);
    const Volume ct = ct_of(drawn).value();
    const Findings truth = truth_of(drawn, ct, {}).value();
    EXPECT_EQ(ct.grid.size(), (std::array<std::int64_t, 3>{48, 40, 40}));
    ASSERT_EQ(truth.landmarks.size(), 7U);
    for (const train::PhantomPoint& p : drawn.points) {
        const Landmark* l = truth.landmark(p.name);
        ASSERT_NE(l, nullptr) << p.name;
        ASSERT_EQ(l->position.has_value(), p.inside);
        if (!p.inside) continue;
        EXPECT_NEAR(l->position->lps_mm[0], p.at.x, 1e-5);
        // The ball that training draws round the point stands there on the grid, too.
        const auto voxel = ct.grid.nearest_voxel(*l->position).value();
        const auto& labels = p.head == "ms" ? drawn.ms : drawn.hps;
        EXPECT_NE(labels[static_cast<std::size_t>(ct.grid.offset(voxel))], 0) << p.name;
    }
}

TEST(PhantomTruth, HasAPlaneThroughTheHingePointsTowardsTheAorta) {
    const train::Phantom drawn = phantom(3);
    const Findings truth = truth_of(drawn, ct_of(drawn).value(), {}).value();
    ASSERT_TRUE(truth.annular_plane);
    for (const char* name : {"hinge_right", "hinge_left", "hinge_noncoronary"}) {
        const Vec3 d = subtract(truth.landmark(name)->position->lps_mm, truth.annular_plane->point.lps_mm);
        EXPECT_NEAR(dot(d, truth.annular_plane->normal), 0, 1e-3) << name;
    }
    const Vec3 up = subtract(truth.landmark("ostium_left")->position->lps_mm, truth.annular_plane->point.lps_mm);
    EXPECT_GT(dot(up, truth.annular_plane->normal), 5);
}

TEST(PhantomTruth, ComparedWithItselfIsPerfect) {
    const train::Phantom drawn = phantom(5);
    const Findings truth = truth_of(drawn, ct_of(drawn).value(), {}).value();
    const CaseScore score = score_case(truth, truth, structures_of(truth)).value();
    EXPECT_EQ(*score.largest_error_mm(), 0);
    EXPECT_NEAR(*score.plane_angle_deg, 0, 1e-4);
    int structures = 0;
    for (const StructureScore& s : score.structures) {
        if (!s.voxels.dice()) continue;
        ++structures;
        EXPECT_DOUBLE_EQ(*s.voxels.dice(), 1) << s.name;
        EXPECT_DOUBLE_EQ(s.surface->average_mm, 0) << s.name;
    }
    EXPECT_GE(structures, 5);
    EXPECT_TRUE(score.numbers.at("hinge_left_right_mm").truth);
}

TEST(PhantomTruth, HasNoRootWithoutContrastAgent) {
    const train::Phantom drawn = phantom(3, 1);
    ASSERT_FALSE(drawn.contrast);
    const Findings truth = truth_of(drawn, ct_of(drawn).value(), {}).value();
    for (const Landmark& l : truth.landmarks) EXPECT_FALSE(l.position) << l.name;
    EXPECT_FALSE(truth.annular_plane);
    EXPECT_FALSE(score_case(truth, truth, {}).value().gives_root());
}
