// Edition 4 of the phantoms: ostia in the sinuses, arteries that leave at right angles.
#include <gtest/gtest.h>

#include "models/train/phantom_scene.h"
#include "tests/support/phantom_atlas.h"

namespace cardionode::train {
namespace {

const PhantomAtlas& atlas() { return test::phantom_atlas(); }

PhantomOptions edition(int number) {
    PhantomOptions options;
    options.edition = number;
    options.profile = "standard";
    options.phase = "arterial";
    options.non_contrast = 0;
    return options;
}

/// Share of the ostia of `seeds` phantoms that have their artery 3 to 5 mm straight outwards.
double share_with_take_off(int number, int seeds) {
    int with = 0, all = 0;
    for (std::uint64_t seed = 0; seed < static_cast<std::uint64_t>(seeds); ++seed) {
        const Scene scene = sample_scene(atlas(), seed, edition(number));
        for (const Vec& ostium : scene.root.ostia) {
            const Vec outward = unit({ostium.x, ostium.y, 0});
            ++all;
            for (const float away : {3.0F, 4.0F, 5.0F}) {
                const Vec at = scene.root_frame.transposed(ostium + outward * away);
                bool inside = false;
                for (const Tube& tube : scene.tubes) {
                    if (tube.kind != kTubeCoronary) continue;
                    for (const TubeNode& node : tube.nodes)
                        inside = inside || length(node.at - at) < node.radius + 0.6F;
                }
                if (!inside) break;
                if (away == 5.0F) ++with;
            }
        }
    }
    return static_cast<double>(with) / all;
}

TEST(PhantomEdition4, ArteriesLeaveTheSinusAtRightAngles) {
    EXPECT_GT(share_with_take_off(4, 60), 0.9);
    EXPECT_LT(share_with_take_off(3, 60), 0.6) << "edition 3 stays as it was";
}

TEST(PhantomEdition4, OstiaLieBelowTheSinotubularJunction) {
    for (std::uint64_t seed = 0; seed < 120; ++seed) {
        const AorticRoot root = sample_scene(atlas(), seed, edition(4)).root;
        for (const Vec& ostium : root.ostia) {
            EXPECT_LT(ostium.z, root.junction_height) << seed;
            EXPECT_NEAR(std::hypot(ostium.x, ostium.y), root.radius(std::atan2(ostium.y, ostium.x), ostium.z), 1e-3);
        }
    }
}

TEST(PhantomEdition4, StaysAsItWas) {
    test::expect_edition_stays(4, {{{1, 1702685647588499408ULL},
                                    {2, 10834811378744619234ULL},
                                    {3, 8598443007277545074ULL},
                                    {14, 10972036051444750273ULL}},
                                   3697499612749349623ULL});
}

}  // namespace
}  // namespace cardionode::train
