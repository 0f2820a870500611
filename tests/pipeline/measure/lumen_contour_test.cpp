#include "pipeline/measure/lumen_contour.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/measure/root_sections.h"
#include "tests/pipeline/measure/analytic_root.h"

using namespace cardionode;
using namespace cardionode::test;

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
