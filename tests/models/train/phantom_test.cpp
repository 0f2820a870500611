#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "models/train/phantom_files.h"
#include "tests/support/phantom_atlas.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::train {
namespace {

const PhantomAtlas& atlas() { return test::phantom_atlas(); }

PhantomGrid small_grid() { return PhantomGrid::around({0, 5, -5}, {40, 40, 40}, 3.2F); }

/// Mean place of a label, scene mm.
Vec centre_of(const Phantom& p, const std::vector<std::uint8_t>& labels, int value) {
    Vec sum{};
    double n = 0;
    std::size_t i = 0;
    for (int z = 0; z < p.grid.size[0]; ++z) {
        for (int y = 0; y < p.grid.size[1]; ++y) {
            for (int x = 0; x < p.grid.size[2]; ++x, ++i) {
                if (labels[i] != value) continue;
                sum = sum + p.grid.origin + Vec{float(x), float(y), float(z)} * p.grid.spacing;
                ++n;
            }
        }
    }
    return sum * static_cast<float>(1 / std::max(n, 1.0));
}

Vec point(const Phantom& p, const std::string& name) {
    for (const PhantomPoint& q : p.points) {
        if (q.name == name) return q.at;
    }
    throw std::runtime_error("no point " + name);
}

int label_at(const Phantom& p, const std::vector<std::uint8_t>& labels, Vec at) {
    const Vec c = (at - p.grid.origin) * (1.0F / p.grid.spacing) + Vec{0.5F, 0.5F, 0.5F};
    return labels.at((static_cast<std::size_t>(c.z) * p.grid.size[1] + static_cast<std::size_t>(c.y)) * p.grid.size[2] +
                     static_cast<std::size_t>(c.x));
}

TEST(HeartShape, LiesInThePatientAsHeartsDo) {
    // Deepest place of each chamber on a coarse raster of the canonical frame.
    std::array<Vec, kChambers> deepest{};
    std::array<float, kChambers> depth{};
    Vec apex{};
    float farthest = 0;
    for (float z = -75; z <= 75; z += 3) {
        for (float y = -75; y <= 75; y += 3) {
            for (float x = -75; x <= 75; x += 3) {
                const auto d = atlas().heart.distances({x, y, z});
                for (int c = 0; c < kChambers; ++c) {
                    if (d[c] < depth[c]) depth[c] = d[c], deepest[c] = {x, y, z};
                }
                if (d[kLv] < 0 && length({x, y, z}) > farthest) farthest = length({x, y, z}), apex = {x, y, z};
            }
        }
    }
    for (const float d : depth) EXPECT_LT(d, -5);
    EXPECT_GT(apex.x, 30) << "the apex points to the left";
    EXPECT_LT(apex.y, -20) << "and to the front";
    EXPECT_LT(apex.z, -15) << "and to the feet";
    EXPECT_LT(deepest[kRa].x, deepest[kLv].x - 40) << "the right atrium is on the right";
    EXPECT_LT(deepest[kRv].y, deepest[kLv].y) << "the right ventricle is in front of the left";
    EXPECT_GT(deepest[kLa].y, deepest[kLv].y + 20) << "the left atrium is behind";
    EXPECT_LT(deepest[kAo].x, deepest[kPa].x) << "the aorta rises on the right of the pulmonary trunk";
    EXPECT_GT(deepest[kPa].z, 20);
}

TEST(HeartShape, RefusesADamagedFile) {
    test::TemporaryFolder folder;
    EXPECT_FALSE(HeartShape::load(folder.path()).ok());
    std::ofstream(folder / "labels_1mm.nii.gz") << "not a volume";
    const auto loaded = HeartShape::load(folder.path());
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
}

TEST(AorticRoot, LumenPassesThroughItsLandmarks) {
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        Random random(seed);
        const AorticRoot root = AorticRoot::sample(atlas().root, random);
        for (const Vec& n : root.nadirs) {
            EXPECT_NEAR(n.z, 0, 1e-3);
            EXPECT_NEAR(std::hypot(n.x, n.y), root.radius(std::atan2(n.y, n.x), 0), 0.05);
        }
        for (int i = 0; i < 3; ++i) {
            const float side = length(root.nadirs[i] - root.nadirs[(i + 1) % 3]);
            EXPECT_GT(side, 10);
            EXPECT_LT(side, 50);
        }
        for (const Vec& o : root.ostia) {
            EXPECT_GE(o.z, 9.99);
            EXPECT_LE(o.z, 18.01);
            EXPECT_NEAR(std::hypot(o.x, o.y), root.radius(std::atan2(o.y, o.x), o.z), 0.05);
        }
        const float depth = length(root.septum_upper - root.septum_lower);
        EXPECT_GT(depth, 1.9);
        EXPECT_LT(depth, 9.5);
        EXPECT_LT(root.septum_lower.z, root.septum_upper.z);
        // Seen from the aorta: right, left, non-coronary counter-clockwise.
        const Vec turn =
            cross(root.nadirs[kLeft] - root.nadirs[kRight], root.nadirs[kNoncoronary] - root.nadirs[kRight]);
        EXPECT_GT(turn.z, 0);
        EXPECT_GT(root.junction_height, 10);
    }
}

TEST(Phantom, OneSeedOnePhantom) {
    const Phantom a = draw_phantom(atlas(), 5, small_grid()), b = draw_phantom(atlas(), 5, small_grid());
    const Phantom c = draw_phantom(atlas(), 6, small_grid());
    EXPECT_EQ(a.hu, b.hu);
    EXPECT_EQ(a.heart, b.heart);
    EXPECT_EQ(a.calc, b.calc);
    EXPECT_NE(a.hu, c.hu);
    EXPECT_NE(a.heart, c.heart);
    EXPECT_GT(length(point(a, "hinge_left") - point(c, "hinge_left")), 0.1);
}

TEST(Phantom, EditionOneStaysAsItWas) {
    test::expect_edition_stays(1, {{{1, 11305537065398497230ULL},
                                    {2, 17549670527297152552ULL},
                                    {3, 2688146636532532845ULL},
                                    {14, 990456634728329444ULL}},
                                   14471539945014150509ULL});
}

TEST(Phantom, TheSceneDoesNotDependOnTheGrid) {
    const Phantom a = draw_phantom(atlas(), 7, small_grid());
    const Phantom b = draw_phantom(atlas(), 7, PhantomGrid::around({20, 0, 10}, {20, 24, 28}, 2));
    for (std::size_t i = 0; i < a.points.size(); ++i) EXPECT_EQ(length(a.points[i].at - b.points[i].at), 0);
}

TEST(Phantom, AnatomyIsNotMirrored) {
    for (std::uint64_t seed = 20; seed < 28; ++seed) {
        PhantomOptions options;
        options.non_contrast = 0;
        const Phantom p = draw_phantom(atlas(), seed, PhantomGrid::around({0, 5, -5}, {44, 44, 44}, 3.2F), options);
        const Vec lv = centre_of(p, p.heart, 3), ra = centre_of(p, p.heart, 4), rv = centre_of(p, p.heart, 5),
                  la = centre_of(p, p.heart, 2);
        EXPECT_GT(lv.x, ra.x + 30) << seed;
        EXPECT_LT(rv.y, la.y - 20) << seed;
        EXPECT_LT(lv.z, la.z) << seed;
        const Vec right = point(p, "hinge_right"), left = point(p, "hinge_left"), non = point(p, "hinge_noncoronary");
        EXPECT_LT(right.y, std::min(left.y, non.y) + 3) << "the right cusp is in front, seed " << seed;
        EXPECT_GT(left.x, non.x) << "the left cusp is left of the non-coronary one, seed " << seed;
        EXPECT_GT(p.annulus_normal.z, 0) << "the aorta rises, seed " << seed;
        EXPECT_GT(dot(cross(left - right, non - right), p.annulus_normal), 0) << seed;
        EXPECT_GT(dot(point(p, "ostium_left") - left, p.annulus_normal), 5) << seed;
    }
}

TEST(Phantom, TruthIsConsistent) {
    int with_calcium = 0;
    for (std::uint64_t seed = 40; seed < 60; ++seed) {
        PhantomOptions options;
        options.non_contrast = 0;
        const Phantom p = draw_phantom(atlas(), seed, PhantomGrid::around({0, 0, 0}, {48, 48, 48}, 1.5F), options);
        ASSERT_EQ(p.points.size(), 7U);
        for (const PhantomPoint& q : p.points) {
            if (!q.inside) continue;
            const int found = label_at(p, q.head == "ms" ? p.ms : p.hps, q.at);
            EXPECT_NE(found, 0) << q.name << " seed " << seed;
            // The wall of root or outflow is within 4 mm of each point: aorta or ventricle beside it.
            bool near = false;
            for (const Vec& off : {Vec{0, 0, 0}, Vec{4, 0, 0}, Vec{-4, 0, 0}, Vec{0, 4, 0}, Vec{0, -4, 0}, Vec{0, 0, 4},
                                   Vec{0, 0, -4}}) {
                const int heart = label_at(p, p.heart, q.at + off);
                near = near || heart == 6 || heart == 3;
            }
            EXPECT_TRUE(near) << q.name << " seed " << seed;
        }
        for (const std::uint8_t v : p.heart) ASSERT_LE(v, 7);
        for (const std::uint8_t v : p.hps) ASSERT_LE(v, 5);
        for (const std::uint8_t v : p.ms) ASSERT_LE(v, 2);
        int calcium = 0;
        std::size_t i = 0;
        for (int z = 0; z < 48; ++z) {
            for (int y = 0; y < 48; ++y) {
                for (int x = 0; x < 48; ++x, ++i) {
                    ASSERT_LE(p.calc[i], 1);
                    if (!p.calc[i]) continue;
                    ++calcium;
                    EXPECT_LT(length(p.grid.origin + Vec{float(x), float(y), float(z)} * 1.5F), 45)
                        << "valve calcium is at the valve";
                }
            }
        }
        with_calcium += calcium > 0;
    }
    EXPECT_GT(with_calcium, 5);
    EXPECT_LT(with_calcium, 20);
}

TEST(Phantom, WithoutContrastNoPointIsClaimed) {
    PhantomOptions options;
    options.non_contrast = 1;
    const Phantom p = draw_phantom(atlas(), 3, small_grid(), options);
    EXPECT_FALSE(p.contrast);
    EXPECT_EQ(std::count(p.hps.begin(), p.hps.end(), 0), static_cast<std::ptrdiff_t>(p.hps.size()));
    EXPECT_EQ(std::count(p.ms.begin(), p.ms.end(), 0), static_cast<std::ptrdiff_t>(p.ms.size()));
    EXPECT_LT(std::count(p.heart.begin(), p.heart.end(), 0), static_cast<std::ptrdiff_t>(p.heart.size()));
}

TEST(Phantom, WindowsSeeTheRootOftenButNotAlways) {
    int inside = 0;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        const PhantomGrid g = training_window(seed, {64, 64, 64}, 2);
        const Vec c = Vec{0, 0, 0} - g.origin;
        inside += c.x > 8 && c.y > 8 && c.z > 8 && c.x < 118 && c.y < 118 && c.z < 118;
    }
    EXPECT_GT(inside, 240);
    EXPECT_LT(inside, 370);
}

TEST(Phantom, WindowsForTheSecondLookHoldEveryPointOfTheRoot) {
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
        const PhantomGrid g = root_window(seed, {64, 64, 64}, 1, 8);
        const Vec middle = g.origin + Vec{31.5F, 31.5F, 31.5F};
        EXPECT_LE(std::max({std::abs(middle.x), std::abs(middle.y), std::abs(middle.z)}), 8 + 5);
        PhantomOptions options;
        options.non_contrast = 0;
        for (const PhantomPoint& p : draw_phantom(atlas(), seed, g, options).points) {
            const Vec off = p.at - middle;
            EXPECT_LT(std::max({std::abs(off.x), std::abs(off.y), std::abs(off.z)}), 32) << p.name << " of " << seed;
        }
    }
}

TEST(PhantomFiles, HoldWhatWasDrawn) {
    test::TemporaryFolder folder;
    const Phantom p = draw_phantom(atlas(), 9, small_grid());
    ASSERT_TRUE(write_phantom(p, 9, folder / "p").ok());
    for (const char* name : {"ct.nii.gz", "heart.nii.gz", "hps.nii.gz", "ms.nii.gz", "calc.nii.gz", "phantom.png"}) {
        EXPECT_GT(std::filesystem::file_size((folder / "p") / name), 100U) << name;
    }
    std::ifstream in((folder / "p") / "phantom.json");
    const nlohmann::json json = nlohmann::json::parse(in);
    EXPECT_EQ(json.at("seed"), 9);
    EXPECT_EQ(json.at("points").size(), 7U);
    EXPECT_FALSE(write_phantom(p, 9, "/proc/nowhere").ok());
}

}  // namespace
}  // namespace cardionode::train
