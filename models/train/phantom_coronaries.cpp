// The coronary tree from edition 3 on: right artery, left main, anterior descending and circumflex artery with side
// branches, tapering, on the heart's surface in its fat. Courses are canonical points beside the atlas shape; every
// piece is then moved onto the surface of the deformed heart. Calibres as in adults' angiograms (left main 4 to 5 mm, 1
// to 1.5 mm far out).
#include <numbers>

#include "models/train/phantom_scene.h"

namespace cardionode::train {
namespace {

constexpr float kPi = std::numbers::pi_v<float>;

class Tree {
public:
    Tree(const PhantomAtlas& atlas, Scene& scene, Random& random)
        : scene_(scene), surface_(heart_surface(atlas, scene)), random_(random) {}

    Vec place(Vec canonical, float sd) {
        return scene_.heart.to_scene(canonical +
                                     Vec{random_.normal(0, sd), random_.normal(0, sd), random_.normal(0, sd)});
    }

    /// A vessel through the places; `free` of them (at its root) stay where they are, the rest goes onto the surface.
    /// Returns its nodes, for branches to leave from.
    std::vector<TubeNode> vessel(const std::vector<Vec>& places, float from, float to, std::size_t free) {
        constexpr int kPieces = 6;
        std::vector<TubeNode> nodes;
        const SmoothNoise winding(random_.bits(), 14), winding2(random_.bits(), 14);
        const float wind = random_.uniform(0.5F, 2.2F), depth = random_.uniform(0.8F, 2.4F);
        const auto at = [&](std::ptrdiff_t i) {
            return places[static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(i, 0, std::ssize(places) - 1))];
        };
        const auto last = static_cast<float>(places.size() - 1);
        for (std::ptrdiff_t i = 0; i + 1 < std::ssize(places); ++i) {
            for (int s = 0; s < kPieces; ++s) {
                const float t = static_cast<float>(s) / kPieces, t2 = t * t, t3 = t2 * t;
                const Vec a = at(i - 1), b = at(i), c = at(i + 1), d = at(i + 2);
                Vec p = 0.5F * (2 * b + t * (c - a) + t2 * (2 * a - 5 * b + 4 * c - d) + t3 * (3 * b - a - 3 * c + d));
                const float along = (static_cast<float>(i) + t) / last, radius = mix(from, to, along);
                const float fixed = static_cast<float>(free) - 1 - static_cast<float>(i) - t;
                const float loose = clamp01(-fixed);  // 0 at the fixed places, 1 one place on
                if (loose > 0) {
                    p = p + Vec{winding.at(p), winding2.at(p), winding.at(p + Vec{50, 0, 0})} * (wind * loose);
                    p = p + (onto_surface(p, radius + depth) - p) * loose;
                }
                nodes.push_back({p, radius});
            }
        }
        nodes.push_back({places.size() > free ? onto_surface(places.back(), to + depth) : places.back(), to});
        // The surface has corners: a vessel rounds them off, but does not dive.
        for (int round = 0; round < 3; ++round) {
            const std::vector<TubeNode> sharp = nodes;
            for (std::size_t i = 2; i + 1 < nodes.size(); ++i)
                nodes[i].at = 0.5F * sharp[i].at + 0.25F * (sharp[i - 1].at + sharp[i + 1].at);
            for (std::size_t i = free * kPieces; i < nodes.size(); ++i) {
                if (surface_(nodes[i].at) < nodes[i].radius + 0.4F)
                    nodes[i].at = onto_surface(nodes[i].at, nodes[i].radius + 0.6F);
            }
        }
        float run = 0;
        for (std::size_t i = 1; i < nodes.size(); ++i) run += length(nodes[i].at - nodes[i - 1].at);
        // A branch whose places lie on two sides of the heart would zigzag between them: none is better.
        if (places.size() == 3 && free == 1 && run > 1.7F * length(nodes.back().at - nodes.front().at)) return nodes;
        scene_.tubes.push_back({kTubeCoronary, nodes});
        return nodes;
    }

private:
    Vec onto_surface(Vec p, float height) const {
        const Vec start = p;
        for (int i = 0; i < 7; ++i) {
            constexpr float kStep = 1;
            const float here = surface_(p);
            const Vec slope = Vec{surface_(p + Vec{kStep, 0, 0}) - here, surface_(p + Vec{0, kStep, 0}) - here,
                                  surface_(p + Vec{0, 0, kStep}) - here};
            if (length(slope) < 0.2F) break;  // in the middle between two walls
            const float off = std::clamp(here - height, -6.0F, 6.0F);
            p = p - unit(slope) * off;
            if (std::abs(off) < 0.2F) break;
        }
        // Far away is the other side of a chamber: rather stay.
        return length(p - start) < 16 ? p : start;
    }

    Scene& scene_;
    std::function<float(Vec)> surface_;
    Random& random_;
};

}  // namespace

void draw_coronary_tree(const PhantomAtlas& atlas, Scene& scene) {
    Random random(scene.seed, 261);
    std::erase_if(scene.tubes, [](const Tube& tube) { return tube.kind == kTubeCoronary; });
    Tree tree(atlas, scene, random);
    const Matrix& frame = scene.root_frame;
    // Edition 3 turned the direction twice: its right artery leaves along the wall, so that nothing shows the ostium.
    const auto outward = [&](Vec ostium) {
        const Vec in_root = scene.edition >= 4 ? frame.apply(ostium) : ostium;
        return unit(frame.transposed({in_root.x, in_root.y, 0}));
    };
    const Vec right = frame.transposed(scene.root.ostia[0]), left = frame.transposed(scene.root.ostia[1]);
    const float calibre = random.uniform(0.8F, 1.2F);
    const bool left_dominant = random.chance(0.12F);
    const Vec apex = atlas.apex;
    const auto branch = [&](const std::vector<TubeNode>& parent, float share, Vec towards, float span, float sd) {
        const TubeNode& from = parent[static_cast<std::size_t>(share * static_cast<float>(parent.size() - 1))];
        const Vec target = tree.place(towards, sd);
        const Vec end = from.at + (target - from.at) * span, mid = (from.at + end) * 0.5F;
        tree.vessel({from.at, mid, end}, from.radius * random.uniform(0.6F, 0.8F), 0.5F * calibre, 1);
    };

    // Right coronary: round the tricuspid ring, then along the lower groove to the apex.
    const float r_right = random.uniform(1.5F, 2.2F) * calibre;
    const Vec ring{-31.6F, -15, -16.7F}, up{0.11F, -0.1F, 0.99F}, side{-0.69F, -0.73F, 0};
    std::vector<Vec> course{right - outward(right) * 1.0F, right + outward(right) * 6.0F};
    const float end = left_dominant ? 110.0F : 175.0F;
    for (float degrees = 35; degrees <= end; degrees += 23) {
        const float a = degrees * kPi / 180;
        course.push_back(tree.place(ring + (up * std::cos(a) + side * std::sin(a)) * 31.0F, 1.5F));
    }
    const Vec crux = ring - up * 31.0F + Vec{14, 10, 0};
    const Vec below{0, 0, -10};
    if (!left_dominant) {
        course.push_back(tree.place(crux + below * 0.4F, 1.5F));
        for (const float t : {0.3F, 0.55F, 0.8F}) course.push_back(tree.place(crux + (apex - crux) * t + below, 2));
    }
    const std::vector<TubeNode> rca = tree.vessel(course, r_right, (left_dominant ? 0.7F : 0.6F) * calibre, 2);
    branch(rca, 0.16F, {5, -48, 5}, random.uniform(0.5F, 0.9F), 4);                             // conus
    branch(rca, left_dominant ? 0.75F : 0.42F, {20, -58, -38}, random.uniform(0.5F, 0.9F), 4);  // acute marginal

    // Left main; the anterior descending artery in the front groove, the circumflex round the mitral ring.
    const float r_left = random.uniform(1.8F, 2.6F) * calibre;
    Vec fork = left + outward(left) * random.uniform(6, 14) + Vec{random.uniform(1, 5), 0, 0};
    const std::vector<TubeNode> main =
        tree.vessel({left - outward(left) * 1.0F, left + outward(left) * 3.0F, (left + fork) * 0.5F, fork}, r_left,
                    r_left * 0.92F, 2);
    fork = main.back().at;
    std::vector<Vec> front{fork, tree.place({30, -21, 15}, 2), tree.place({41, -36, 5}, 2),
                           tree.place({50, -50, -12}, 2)};
    const Vec groove{50, -50, -12};
    for (const float t : {0.35F, 0.7F, 0.98F}) front.push_back(tree.place(groove + (apex - groove) * t, 2));
    const std::vector<TubeNode> lad = tree.vessel(front, r_left * 0.82F, 0.6F * calibre, 1);
    const int diagonals = random.integer(1, 3);
    for (int i = 0; i < diagonals; ++i)
        branch(lad, 0.28F + 0.17F * static_cast<float>(i), Vec{72, -24, -14} + Vec{2, -8, -14} * static_cast<float>(i),
               random.uniform(0.5F, 0.95F), 4);
    std::vector<Vec> round{fork, tree.place({36, 22, 5}, 2), tree.place({43, 35, -12}, 2),
                           tree.place({36, 46, -26}, 2)};
    if (left_dominant) {
        round.push_back(tree.place({14, 34, -42}, 2));
        round.push_back(tree.place(crux + (apex - crux) * 0.35F + below, 2));
    }
    const std::vector<TubeNode> lcx = tree.vessel(round, r_left * 0.76F, 0.6F * calibre, 1);
    const int marginals = random.integer(1, 3);
    for (int i = 0; i < marginals; ++i)
        branch(lcx, 0.35F + 0.2F * static_cast<float>(i), Vec{74, 8, -24} + Vec{-4, 4, -14} * static_cast<float>(i),
               random.uniform(0.5F, 0.95F), 4);
}

}  // namespace cardionode::train
