#include "pipeline/evaluate/overlap.h"

#include <cmath>

#include <gtest/gtest.h>

using namespace cardionode;

namespace {

Grid grid(const Vec3& spacing, const std::array<std::int64_t, 3>& size) {
    return Grid::create({{0, 0, 0}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, spacing, size).value();
}

template <class Inside>
LabelMap drawn(const Grid& g, std::uint8_t label, const Inside& inside) {
    LabelMap map(g, std::uint8_t{0});
    for (std::int64_t k = 0; k < g.size()[2]; ++k) {
        for (std::int64_t j = 0; j < g.size()[1]; ++j) {
            for (std::int64_t i = 0; i < g.size()[0]; ++i) {
                if (inside(g.to_patient(VoxelIndex{{i, j, k}}).lps_mm)) map.at({{i, j, k}}) = label;
            }
        }
    }
    return map;
}

LabelMap ball(const Grid& g, const Vec3& centre, double radius) {
    return drawn(g, 1, [&](const Vec3& p) { return norm(subtract(p, centre)) <= radius; });
}

LabelMap box(const Grid& g, const Vec3& low, const Vec3& high) {
    return drawn(g, 1, [&](const Vec3& p) {
        for (std::size_t a = 0; a < 3; ++a) {
            if (p[a] < low[a] || p[a] > high[a]) return false;
        }
        return true;
    });
}

SurfaceDistances surface(const LabelMap& a, const LabelMap& b) { return surface_distances(a, 1, b, 1).value().value(); }

}  // namespace

TEST(Dice, IsTwiceTheOverlapOverTheSum) {
    const Grid g = grid({1, 1, 1}, {30, 10, 10});
    const LabelMap a = box(g, {0, 0, 0}, {9, 9, 9}), b = box(g, {5, 0, 0}, {14, 9, 9});
    const VoxelCounts counts = count_voxels(a, 1, b, 1).value();
    EXPECT_EQ(counts.both, 500);
    EXPECT_EQ(counts.found, 1000);
    EXPECT_EQ(counts.truth, 1000);
    EXPECT_DOUBLE_EQ(*counts.dice(), 0.5);
}

TEST(Dice, DoesNotExistWithoutAnyVoxelAndIsZeroWithOneEmpty) {
    const Grid g = grid({1, 1, 1}, {10, 10, 10});
    const LabelMap nothing(g, std::uint8_t{0}), something = box(g, {2, 2, 2}, {4, 4, 4});
    EXPECT_FALSE(count_voxels(nothing, 1, nothing, 1)->dice());
    EXPECT_EQ(*count_voxels(nothing, 1, something, 1)->dice(), 0);
    EXPECT_EQ(*count_voxels(something, 1, nothing, 1)->dice(), 0);
}

TEST(Dice, ComparesTheNamedLabelsAlone) {
    const Grid g = grid({1, 1, 1}, {10, 10, 10});
    LabelMap a = box(g, {0, 0, 0}, {4, 9, 9}), b = a;
    for (auto& v : b.voxels) v = v ? 7 : 3;
    EXPECT_DOUBLE_EQ(*count_voxels(a, 1, b, 7)->dice(), 1);
    EXPECT_DOUBLE_EQ(*count_voxels(a, 1, b, 3)->dice(), 0);
}

TEST(Surface, OfEqualMasksIsZeroApart) {
    const Grid g = grid({0.7, 0.7, 1.5}, {40, 40, 20});
    const LabelMap a = ball(g, {14, 14, 14}, 8);
    EXPECT_DOUBLE_EQ(surface(a, a).average_mm, 0);
    EXPECT_DOUBLE_EQ(surface(a, a).hausdorff95_mm, 0);
}

TEST(Surface, OfConcentricBallsIsTheDifferenceOfTheirRadii) {
    const Grid g = grid({0.5, 0.5, 0.5}, {90, 90, 90});
    const LabelMap small = ball(g, {22.2, 22.1, 22.3}, 12), large = ball(g, {22.2, 22.1, 22.3}, 17);
    const SurfaceDistances d = surface(small, large);
    EXPECT_NEAR(d.average_mm, 5, 0.15);
    EXPECT_NEAR(d.hausdorff95_mm, 5, 0.4);
}

TEST(Surface, OfPlatesKnowsTheSpacingOfEachAxis) {
    // Plates one voxel thick, 4 voxels apart along z: 10 mm there, although it would be 4 in voxels.
    const Grid g = grid({1, 1, 2.5}, {12, 12, 16});
    const LabelMap a = box(g, {0, 0, 10}, {11, 11, 10}), b = box(g, {0, 0, 20}, {11, 11, 20});
    const SurfaceDistances d = surface(a, b);
    EXPECT_NEAR(d.average_mm, 10, 1e-4);
    EXPECT_NEAR(d.hausdorff95_mm, 10, 1e-4);
    const Grid turned = grid({2.5, 1, 1}, {16, 12, 12});
    EXPECT_NEAR(surface(box(turned, {10, 0, 0}, {10, 11, 11}), box(turned, {20, 0, 0}, {20, 11, 11})).average_mm, 10,
                1e-4);
}

TEST(Surface, IsTheSameFromEitherSideAndTakesTheWorseDirectionForHausdorff) {
    // A box against the same box with a far speck: nothing of the box is far from the other, but the speck is.
    const Grid g = grid({1, 1, 1}, {60, 20, 20});
    const LabelMap a = box(g, {2, 2, 2}, {8, 8, 8});
    LabelMap b = a;
    for (std::int64_t i = 44; i < 52; ++i) {
        for (std::int64_t j = 2; j < 8; ++j) b.at({{i, j, 5}}) = 1;
    }
    EXPECT_DOUBLE_EQ(surface(a, b).average_mm, surface(b, a).average_mm);
    EXPECT_DOUBLE_EQ(surface(a, b).hausdorff95_mm, surface(b, a).hausdorff95_mm);
    EXPECT_GT(surface(a, b).hausdorff95_mm, 35);
}

TEST(Surface, DoesNotTakeTheEdgeOfTheImageForOne) {
    // A slab that runs through the whole image has two faces, not six: 3 mm thicker on one side is 1.5 mm on average.
    const Grid g = grid({1, 1, 1}, {30, 8, 8});
    const LabelMap a = box(g, {10, 0, 0}, {15, 7, 7}), b = box(g, {10, 0, 0}, {18, 7, 7});
    EXPECT_NEAR(surface(a, b).average_mm, 1.5, 1e-6);
}

TEST(Surface, OfOneEmptyMaskIsInfinitelyFarAndOfTwoDoesNotExist) {
    const Grid g = grid({1, 1, 1}, {10, 10, 10});
    const LabelMap nothing(g, std::uint8_t{0}), something = box(g, {2, 2, 2}, {4, 4, 4});
    EXPECT_TRUE(std::isinf(surface(nothing, something).average_mm));
    EXPECT_TRUE(std::isinf(surface(something, nothing).hausdorff95_mm));
    EXPECT_FALSE(surface_distances(nothing, 1, nothing, 1).value());
}

TEST(Surface, RefusesMasksOnDifferentGrids) {
    const LabelMap a(grid({1, 1, 1}, {10, 10, 10}), std::uint8_t{1}), b(grid({1, 1, 2}, {10, 10, 10}), std::uint8_t{1});
    EXPECT_EQ(surface_distances(a, 1, b, 1).error().kind, ErrorKind::Bug);
    EXPECT_EQ(count_voxels(a, 1, b, 1).error().kind, ErrorKind::Bug);
}
