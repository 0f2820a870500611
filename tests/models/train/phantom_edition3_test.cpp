// Edition 3 of the phantoms: real chests and the coronary tree.
#include <gtest/gtest.h>

#include <fstream>

#include "models/train/phantom_scene.h"
#include "tests/support/phantom_atlas.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::train {
namespace {

const PhantomAtlas& atlas() { return test::phantom_atlas(); }

PhantomOptions edition3() {
    PhantomOptions options;
    options.edition = 3;
    options.profile = "standard";
    return options;
}

TEST(PhantomEdition3, HalfOfTheChestsAreRealAndNoHeartIsMirrored) {
    int real = 0, mirrored = 0;
    for (std::uint64_t seed = 0; seed < 120; ++seed) {
        const Scene scene = sample_scene(atlas(), seed, edition3());
        real += scene.real_chest.chest >= 0;
        mirrored += scene.real_chest.mirrored;
        EXPECT_GT(dot(cross(scene.root_frame.rows[0], scene.root_frame.rows[1]), scene.root_frame.rows[2]), 0.99F);
        EXPECT_GT(scene.heart.to_scene(atlas().apex).x, scene.heart.to_scene({-45, 5, 10}).x + 30)
            << "the apex is on the left, seed " << seed;
    }
    EXPECT_GT(real, 40);
    EXPECT_LT(real, 80);
    EXPECT_GT(mirrored, 2);
    EXPECT_LT(mirrored, 30);
}

TEST(PhantomEdition3, HeartLiesBetweenRealLungsAndBeforeARealSpine) {
    int seen = 0;
    for (std::uint64_t seed = 0; seed < 24 && seen < 8; ++seed) {
        const Scene scene = sample_scene(atlas(), seed, edition3());
        if (scene.real_chest.chest < 0) continue;
        ++seen;
        const RealChest& chest = atlas().chests[static_cast<std::size_t>(scene.real_chest.chest)];
        const auto mean = [&](Vec centre) {
            float sum = 0;
            int n = 0;
            for (float dx = -10; dx <= 10; dx += 5) {
                for (float dy = -10; dy <= 10; dy += 5, ++n)
                    sum += real_chest_hu(chest, scene, centre + Vec{dx, dy, 0});
            }
            return sum / static_cast<float>(n);
        };
        const Vec h = scene.real_chest.heart;
        EXPECT_LT(mean({scene.chest.middle - 80, h.y + 30, h.z + 20}), -600) << seed;
        EXPECT_LT(mean({scene.chest.middle + 80, h.y + 30, h.z + 20}), -600) << seed;
        EXPECT_GT(mean({scene.chest.middle, scene.chest.spine + 5, h.z}), 60) << seed;
        // Where the real heart was there is neither blood nor muscle: it was taken out.
        int tissue = 0, places = 0;
        for (float dx = -24; dx <= 24; dx += 4) {
            for (float dy = -20; dy <= 20; dy += 4, ++places) {
                const Vec p{h.x + dx, h.y + dy, h.z + 6};
                const float hu = real_chest_hu(chest, scene, p);
                tissue += hu > 0 && hu < 110;
            }
        }
        EXPECT_LT(tissue, places / 4) << seed;
    }
    EXPECT_EQ(seen, 8);
}

TEST(PhantomEdition3, CoronariesLeaveTheOstiaAndRunOverTheHeart) {
    for (std::uint64_t seed = 50; seed < 56; ++seed) {
        PhantomOptions options = edition3();
        options.phase = "arterial";
        const Scene scene = sample_scene(atlas(), seed, options);
        const auto surface = heart_surface(atlas(), scene);
        int vessels = 0, nodes = 0, far = 0;
        float nearest[2] = {1e3F, 1e3F};
        for (const Tube& tube : scene.tubes) {
            if (tube.kind != kTubeCoronary) continue;
            ++vessels;
            EXPECT_GE(tube.nodes.front().radius, tube.nodes.back().radius) << "they taper";
            for (const TubeNode& node : tube.nodes) {
                ++nodes;
                EXPECT_GT(node.radius, 0.3F);
                EXPECT_LT(node.radius, 3.3F);
                const float above = surface(node.at);
                far += above > 9 || above < -4;
                for (int i = 0; i < 2; ++i)
                    nearest[i] =
                        std::min(nearest[i], length(node.at - scene.root_frame.transposed(scene.root.ostia[i])));
            }
        }
        EXPECT_GE(vessels, 6) << seed;
        EXPECT_LT(far, nodes / 6) << seed;
        EXPECT_LT(nearest[0], 2.5F);
        EXPECT_LT(nearest[1], 2.5F);
    }
}

TEST(PhantomEdition3, LabelsTheCoronariesWhereContrastShowsThem) {
    const PhantomGrid grid = PhantomGrid::around({0, 0, -5}, {56, 56, 56}, 2.2F);
    for (const char* phase : {"arterial", "non_contrast"}) {
        PhantomOptions options = edition3();
        options.phase = phase;
        const Phantom p = draw_phantom(atlas(), 61, grid, options);
        ASSERT_EQ(p.coronaries.size(), grid.voxels());
        const auto labelled = std::count(p.coronaries.begin(), p.coronaries.end(), 1);
        if (p.contrast) EXPECT_GT(labelled, 100);
        else EXPECT_EQ(labelled, 0);
        std::ptrdiff_t in_chambers = 0;
        for (std::size_t i = 0; i < p.heart.size(); ++i) {
            ASSERT_LE(p.coronaries[i], 1);
            in_chambers += p.coronaries[i] && p.heart[i] >= 2 && p.heart[i] <= 5;
        }
        EXPECT_LE(in_chambers, labelled / 5);
    }
    EXPECT_TRUE(draw_phantom(atlas(), 61, grid).coronaries.empty()) << "edition 1 does not know";
}

TEST(RealChest, RefusesDamagedFiles) {
    test::TemporaryFolder folder;
    EXPECT_FALSE(RealChest::load_all(folder.path()).ok());
    std::ofstream(folder / "chests.json") << R"({"chests": []})";
    EXPECT_FALSE(RealChest::load_all(folder.path()).ok());
    std::ofstream(folder / "chests.json")
        << R"({"chests": [{"file": "none.nii.gz", "heart": [1,1,1], "heart_half": [1,1,1], "spine": [1,1], "lung_hu": -8}]})";
    const auto loaded = RealChest::load_all(folder.path());
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
}

TEST(PhantomEdition3, StaysAsItWas) {
    test::expect_edition_stays(3, {{{1, 14414288356933069213ULL},
                                    {2, 6332312336235106357ULL},
                                    {3, 8350482806935176338ULL},
                                    {14, 4392890092490520628ULL}},
                                   1796778560838921674ULL});
}

}  // namespace
}  // namespace cardionode::train
