#include "pipeline/measure/root_sections.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pipeline/measure/analytic_root.h"
#include "tests/pipeline/measure/phantom_root.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

/// Radius of an analytic root with three sinuses, at an angle from the right hinge point: annulus 12 mm, sinuses that
/// bulge by 5 mm at 10 mm of height, a junction of 13 mm radius at 20 mm, then an aorta that widens a little.
double radius_of(double angle, double height) {
    if (height <= 0) return 12;
    if (height >= 20) return 13 + 0.05 * std::min(height - 20, 30.0);
    const double t = height / 20;
    return 12 + t + 5 * std::sin(M_PI * t) * (0.5 + 0.5 * std::cos(3 * angle));
}

struct Body {
    Volume ct;
    LabelMap labels;
};

/// @param bend  the axis moves sideways by bend * (height - 15)^2 above 15 mm
Body body(const Frame& f, double bend = 0) {
    const Grid grid = grid_of(1.0, 110);
    Body b{Volume(grid, 50.0F), LabelMap(grid, std::uint8_t{0})};
    for (std::int64_t o = 0; o < grid.voxel_count(); ++o) {
        const auto& size = grid.size();
        const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        const Vec3 d = subtract(grid.to_patient(index).lps_mm, f.centre.lps_mm);
        const double h = dot(d, f.n), above = std::max(0.0, h - 15);
        const double x = dot(d, f.u) - bend * above * above, y = dot(d, f.v);
        const double away = std::hypot(x, y) - radius_of(std::atan2(y, x), h);
        if (away <= 0) b.labels.voxels[o] = h < 0 ? 1 : 2;
        b.ct.voxels[o] = static_cast<float>(50 + 350 * 0.5 * std::erfc(away / (0.7 * M_SQRT2)));
    }
    return b;
}

std::array<PatientPoint, 3> hinges_of(const Frame& f) {
    std::array<PatientPoint, 3> hinges;
    for (int h = 0; h < 3; ++h) {
        const double angle = h * 2 * M_PI / 3;  // right, left, non-coronary: counter-clockwise seen from the aorta
        hinges[h] = f.at(12 * std::cos(angle), 12 * std::sin(angle), 0);
    }
    return hinges;
}

}  // namespace

TEST(RootSections, SinusesAndJunctionOfAnAnalyticRootAreFound) {
    const Frame f;
    const Body b = body(f);
    const RootSections s = find_sections(LumenTracer(&b.ct, b.labels, {1, 2}), {f.centre, f.n});
    ASSERT_TRUE(s.annulus) << s.annulus.error().message;
    EXPECT_NEAR(s.annulus->area_mm2, M_PI * 144, 0.03 * M_PI * 144);
    ASSERT_TRUE(s.outflow);
    EXPECT_NEAR(s.outflow->area_mm2, M_PI * 144, 0.02 * M_PI * 144);
    ASSERT_TRUE(s.junction) << s.junction.error().message;
    EXPECT_NEAR(s.junction->height_mm, 20, 1.5);
    EXPECT_NEAR(2 * std::sqrt(s.junction->contour.area_mm2 / M_PI), 26, 0.5);
    ASSERT_TRUE(s.sinus);
    EXPECT_NEAR(s.sinus->height_mm, 10.5, 2.5);
    // From the commissure opposite, where nothing bulges, to the middle of the sinus: 12.5 + 17.5 mm at 10 mm.
    for (const double d : sinus_diameters(s.sinus->contour, hinges_of(f))) EXPECT_NEAR(d, 30, 0.6);
    ASSERT_TRUE(s.ascending) << s.ascending.error().message;
    EXPECT_NEAR(2 * std::sqrt(s.ascending->contour.area_mm2 / M_PI), 28, 0.4);
}

TEST(RootSections, ABendingAortaIsCutAcrossItsCentreLine) {
    // At 40 mm the axis leans by 2 * 0.015 * 25 = 0.75: cut parallel to the annulus, the tube would look 1.2 times
    // wide.
    const Frame f;
    const Body b = body(f, 0.015);
    const RootSections s = find_sections(LumenTracer(&b.ct, b.labels, {1, 2}), {f.centre, f.n});
    ASSERT_TRUE(s.ascending) << s.ascending.error().message;
    EXPECT_LT(s.ascending->height_mm, 39.5);
    EXPECT_LT(s.ascending->contour.max_diameter_mm / s.ascending->contour.min_diameter_mm, 1.22);
}

TEST(RootSections, ATubeHasNoJunctionAndThatIsSaid) {
    const Frame f;
    const LabelMap labels = tube(grid_of(1.0, 110), f, 13, 13);
    const Volume ct = ct_of(labels);
    const RootSections s = find_sections(LumenTracer(&ct, labels, {1, 2}), {f.centre, f.n});
    EXPECT_TRUE(s.annulus);
    ASSERT_FALSE(s.junction);
    EXPECT_THAT(s.junction.error().message, testing::HasSubstr("does not narrow"));
    EXPECT_FALSE(s.sinus);
    EXPECT_TRUE(s.ascending);
}

TEST(RootSections, AScanThatEndsBelowSaysHowFarItWasSeen) {
    const Frame f;
    LabelMap labels = tube(grid_of(1.0, 110), f, 13, 13);
    const auto& size = labels.grid.size();
    for (std::int64_t o = 0; o < labels.grid.voxel_count(); ++o) {
        const VoxelIndex index{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        const Vec3 d = subtract(labels.grid.to_patient(index).lps_mm, f.centre.lps_mm);
        if (dot(d, f.n) > 15) labels.voxels[o] = 0;
    }
    const RootSections s = find_sections(LumenTracer(nullptr, labels, {1, 2}), {f.centre, f.n});
    ASSERT_FALSE(s.ascending);
    EXPECT_THAT(s.ascending.error().message, testing::HasSubstr("followed for"));
    EXPECT_THAT(s.junction.error().message, testing::HasSubstr("does not narrow"));
}

TEST(CuspAngles, EveryDirectionBelongsToTheCuspWhoseHingePointIsNearest) {
    const Frame f;
    const PlaneFrame frame = frame_of({f.centre, f.n});
    auto hinges = hinges_of(f);
    for (const bool mirrored : {false, true}) {
        if (mirrored) std::swap(hinges[0], hinges[1]);
        const CuspAngles cusps = cusp_angles(frame, hinges);
        for (std::size_t h = 0; h < 3; ++h) {
            for (const double off : {-0.9, -0.3, 0.0, 0.3, 0.9}) EXPECT_EQ(cusp_at(cusps, cusps.hinge[h] + off), h);
            EXPECT_NEAR(std::cos(cusps.opposite_commissure[h] - cusps.hinge[h]), -1, 1e-9);
        }
    }
}

TEST(RootSections, ADrawnPhantomIsMeasuredWithinItsTolerance) {
    // One phantom of the table in pipeline/measure/README.md. Phantoms are phantoms.
    const auto atlas = train::PhantomAtlas::load(std::string(CARDIONODE_SOURCE_DIR) + "/models/train/shapes");
    ASSERT_TRUE(atlas) << atlas.error().message;
    const PhantomRoot root = phantom_root(*atlas, 9004, 1.0F, 80);
    const auto truth = truth_of(root);
    MeasureRules rules;
    rules.samples = 0;
    const Measured measured = measure(root.findings, root.ct, {"not asked", 0, ""}, rules);
    const auto value = [&](const char* name) { return find(measured.measurements, name).value.value_or(0); };
    ASSERT_TRUE(truth.contains("annulus_area_mm2"));
    EXPECT_NEAR(value("annulus_area_mm2"), truth.at("annulus_area_mm2"), 0.06 * truth.at("annulus_area_mm2"));
    EXPECT_NEAR(value("sinus_mean_mm"), truth.at("sinus_mean_mm"), 1.2);
    EXPECT_NEAR(value("left_ostium_height_mm"), truth.at("left_ostium_height_mm"), 0.05);
    EXPECT_NEAR(value("right_ostium_height_mm"), truth.at("right_ostium_height_mm"), 0.05);
    EXPECT_NEAR(value("septum_depth_mm"), truth.at("septum_depth_mm"), 0.05);
}
