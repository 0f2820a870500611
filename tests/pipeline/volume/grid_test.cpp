#include "pipeline/volume/grid.h"

#include <cmath>

#include <gtest/gtest.h>

using namespace cardionode;

namespace {
Grid oblique() {
    const double c = std::cos(0.3), s = std::sin(0.3);
    auto grid =
        Grid::create({{10, -20, 30}}, {Vec3{c, s, 0}, Vec3{-s, c, 0}, Vec3{0, 0, 1}}, {0.5, 0.75, 2}, {40, 30, 20});
    return std::move(grid).value();
}
}  // namespace

TEST(Grid, IndexAndPatientPointAreInverse) {
    const Grid grid = oblique();
    const ContinuousIndex index{{3.25, 7.5, 11}};
    const ContinuousIndex back = grid.to_index(grid.to_patient(index));
    for (int a = 0; a < 3; ++a) EXPECT_NEAR(back.ijk[a], index.ijk[a], 1e-9);
}

TEST(Grid, TheOriginIsTheCentreOfTheFirstVoxel) {
    EXPECT_EQ(oblique().to_patient(VoxelIndex{}).lps_mm, (Vec3{10, -20, 30}));
}

TEST(Grid, NearestVoxelEndsHalfAVoxelOutside) {
    const Grid grid = oblique();
    EXPECT_TRUE(grid.nearest_voxel(grid.to_patient(ContinuousIndex{{-0.49, 0, 19.49}})));
    EXPECT_FALSE(grid.nearest_voxel(grid.to_patient(ContinuousIndex{{-0.51, 0, 0}})));
    EXPECT_FALSE(grid.nearest_voxel({{std::nan(""), 0, 0}}));
}

TEST(Grid, RejectsTiltedAxes) {
    const auto grid = Grid::create({}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0.1, 0.995}}, {1, 1, 1}, {2, 2, 2});
    ASSERT_FALSE(grid);
    EXPECT_EQ(grid.error().kind, ErrorKind::Reject);
}

TEST(Grid, RejectsSpacingThatIsNotPositive) {
    EXPECT_FALSE(Grid::create({}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {1, 0, 1}, {2, 2, 2}));
    EXPECT_FALSE(Grid::create({}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {1, 1, 1}, {2, 2, 0}));
}

TEST(Grid, OffsetRunsColumnsFastest) { EXPECT_EQ(oblique().offset({{1, 2, 3}}), (3 * 30 + 2) * 40 + 1); }
