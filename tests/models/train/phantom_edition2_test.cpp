// Edition 2 of the phantoms: profiles, phases, valve.
#include <gtest/gtest.h>

#include <set>

#include "models/train/phantom_scene.h"
#include "tests/support/phantom_atlas.h"

namespace cardionode::train {
namespace {

const PhantomAtlas& atlas() { return test::phantom_atlas(); }

PhantomOptions edition2() {
    PhantomOptions options;
    options.edition = 2;
    return options;
}

PhantomGrid small_grid() { return PhantomGrid::around({0, 5, -5}, {24, 28, 28}, 4); }

TEST(PhantomEdition2, OneSeedOnePhantomOnEveryGrid) {
    const Phantom a = draw_phantom(atlas(), 5, small_grid(), edition2()),
                  b = draw_phantom(atlas(), 5, small_grid(), edition2()),
                  c = draw_phantom(atlas(), 6, small_grid(), edition2());
    EXPECT_EQ(a.hu, b.hu);
    EXPECT_EQ(a.heart, b.heart);
    EXPECT_NE(a.hu, c.hu);
    EXPECT_NE(a.heart, c.heart);
    EXPECT_NE(a.hu, draw_phantom(atlas(), 5, small_grid()).hu) << "edition 1";
    const Phantom d = draw_phantom(atlas(), 5, PhantomGrid::around({3, 0, 9}, {16, 20, 16}, 2), edition2());
    EXPECT_EQ(a.profile, d.profile);
    EXPECT_EQ(a.phase, d.phase);
    for (std::size_t i = 0; i < a.points.size(); ++i) EXPECT_EQ(length(a.points[i].at - d.points[i].at), 0);
}

TEST(PhantomEdition2, TrainingNeverSeesAHeldOutProfile) {
    std::set<std::string> held_out, drawn, drawn_held_out;
    for (const PhantomProfile& p : phantom_profiles()) {
        if (p.held_out) held_out.insert(p.name);
    }
    EXPECT_GE(held_out.size(), 3U);
    PhantomOptions others = edition2();
    others.profiles = ProfileSet::HeldOut;
    for (std::uint64_t seed = 0; seed < 150; ++seed) {
        drawn.insert(sample_scene(atlas(), seed, edition2()).profile);
        drawn_held_out.insert(sample_scene(atlas(), seed, others).profile);
    }
    for (const std::string& name : drawn) EXPECT_FALSE(held_out.contains(name)) << name;
    EXPECT_EQ(drawn.size() + held_out.size(), phantom_profiles().size()) << "training sees all the others";
    EXPECT_EQ(drawn_held_out, held_out);
}

TEST(PhantomEdition2, EveryProfileAndPhaseCanBeDrawn) {
    std::uint64_t seed = 30;
    for (const PhantomProfile& profile : phantom_profiles()) {
        PhantomOptions options = edition2();
        options.profile = profile.name;
        const Phantom p = draw_phantom(atlas(), ++seed, small_grid(), options);
        EXPECT_EQ(p.profile, profile.name);
        for (const float hu : p.hu) ASSERT_TRUE(hu >= -2000 && hu <= 3071) << profile.name << " " << hu;
        EXPECT_LT(std::count(p.heart.begin(), p.heart.end(), 0), static_cast<std::ptrdiff_t>(p.heart.size()));
    }
    for (const std::string& phase : phantom_phases()) {
        PhantomOptions options = edition2();
        options.phase = phase;
        const Phantom p = draw_phantom(atlas(), ++seed, small_grid(), options);
        EXPECT_EQ(p.phase, phase);
        EXPECT_EQ(p.contrast, phase != "non_contrast");
        if (!p.contrast) {
            EXPECT_EQ(std::count(p.hps.begin(), p.hps.end(), 0), static_cast<std::ptrdiff_t>(p.hps.size()));
            EXPECT_EQ(std::count(p.ms.begin(), p.ms.end(), 0), static_cast<std::ptrdiff_t>(p.ms.size()));
        }
    }
}

TEST(PhantomEdition2, EnhancementFitsThePhase) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        PhantomOptions options = edition2();
        options.profile = "standard";
        options.phase = "late";
        const TissueLevels late = sample_scene(atlas(), seed, options).levels;
        EXPECT_NEAR(late.ra / late.aorta, 1, 0.2);
        EXPECT_GT(late.myocardium, late.soft);
        EXPECT_GT(late.aorta, late.myocardium);
        options.phase = "arterial";
        const TissueLevels arterial = sample_scene(atlas(), seed, options).levels;
        EXPECT_LT(arterial.cava, 1.3F * arterial.aorta);
        EXPECT_LT(arterial.azygos, 90);
        EXPECT_GT(arterial.aorta, arterial.myocardium);
        options.phase = "pulmonary";
        const TissueLevels early = sample_scene(atlas(), seed, options).levels;
        EXPECT_GT(early.pa, early.aorta);
    }
}

TEST(PhantomEdition2, LeafletsHangFromTheHingePoints) {
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        Random random(seed);
        const AorticRoot root = AorticRoot::sample(atlas().root, random);
        for (const bool open : {false, true}) {
            ValveShape valve;
            valve.open = open;
            for (const Vec& nadir : root.nadirs) EXPECT_LT(valve_distance(root, valve, nadir), 1.2F) << seed << open;
            // Blood, not a leaflet, in the outflow tract and above the commissures.
            EXPECT_GT(valve_distance(root, valve, {0, 0, -6}), 3) << seed;
            EXPECT_GT(valve_distance(root, valve, {0, 0, root.junction_height + 12}), 3) << seed;
        }
        ValveShape closed;
        EXPECT_LT(valve_distance(root, closed, {0, 0, root.coaptation_height()}), 1) << "they meet in the middle";
        for (float angle = -3; angle < 3; angle += 0.5F) {
            const Vec at = valve_place(root, closed, angle, 0.6F);
            EXPECT_LT(valve_distance(root, closed, at), 0.5F) << seed << " " << angle;
            const AorticRoot::CuspPlace cusp = root.cusp_at(angle);
            EXPECT_GE(cusp.t, 0);
            EXPECT_LE(cusp.t, 1);
        }
    }
}

TEST(PhantomEdition2, AGatingStepMovesImageLabelsAndPointsAlike) {
    Acquisition a;
    a.turn_z = {-10, 12};
    a.turn_step = {{2, -1, 0.5F}, {-1, 3, 0}};
    for (const Vec at : {Vec{1, 2, -20}, Vec{5, -3, 3}, Vec{0, 0, 30}}) {
        const Vec back = a.source_of(a.seen_at(at));
        EXPECT_LT(length(back - at), 1e-4F);
    }
    EXPECT_EQ(length(a.seen_at({0, 0, -30})), 30);
    EXPECT_NEAR(a.seen_at({0, 0, 30}).y, 2, 1e-5);
}

TEST(PhantomEdition2, StaysAsItWas) {
    test::expect_edition_stays(2, {{{1, 15354840737056533058ULL},
                                    {2, 867748615532576045ULL},
                                    {3, 4802157252700616520ULL},
                                    {14, 1113428236771966519ULL}},
                                   13955344885342079117ULL});
}

}  // namespace
}  // namespace cardionode::train
