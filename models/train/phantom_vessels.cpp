// Vessels and airways as tubes. Courses are canonical points beside the atlas shape (which ends where its model was
// cut), joined to the root's exact ostia and to the chest's spine.
#include <numbers>

#include "models/train/phantom_scene.h"

namespace cardionode::train {
namespace {

constexpr float kPi = std::numbers::pi_v<float>;

// Catmull-Rom through the nodes, `steps` pieces between two of them.
Tube smooth_tube(TubeKind kind, const std::vector<TubeNode>& nodes, int steps = 4) {
    Tube tube{kind, {}};
    const auto node = [&](int i) {
        return nodes[static_cast<std::size_t>(std::clamp(i, 0, static_cast<int>(nodes.size()) - 1))];
    };
    for (int i = 0; i + 1 < static_cast<int>(nodes.size()); ++i) {
        const TubeNode a = node(i - 1), b = node(i), c = node(i + 1), d = node(i + 2);
        for (int s = 0; s < steps; ++s) {
            const float t = static_cast<float>(s) / static_cast<float>(steps), t2 = t * t, t3 = t2 * t;
            const Vec at = 0.5F * (2 * b.at + t * (c.at - a.at) + t2 * (2 * a.at - 5 * b.at + 4 * c.at - d.at) +
                                   t3 * (3 * b.at - a.at - 3 * c.at + d.at));
            tube.nodes.push_back({at, mix(b.radius, c.radius, t)});
        }
    }
    tube.nodes.push_back(nodes.back());
    return tube;
}

void add_aorta(Scene& scene, Random& random) {
    const AorticRoot& root = scene.root;
    const HeartPlacement& heart = scene.heart;
    const auto jitter = [&](float sd) { return Vec{random.normal(0, sd), random.normal(0, sd), random.normal(0, sd)}; };
    // The ring of the junction: centre and mean radius, in the scene.
    Vec ring{};
    float ring_radius = 0;
    for (int i = 0; i < 24; ++i) {
        const float angle = 2 * kPi * static_cast<float>(i) / 24;
        const float radius = root.radius(angle, root.junction_height);
        ring = ring + WallPoint{angle, radius, root.junction_height}.at() * (1.0F / 24);
        ring_radius += radius / 24;
    }
    const Vec junction = scene.root_frame.transposed(ring), axis = scene.root_frame.rows[2];
    const bool wide = random.chance(0.12F);
    const float ascending =
        std::min(ring_radius, 18.0F) * random.uniform(0.84F, 1.08F) + (wide ? random.uniform(3, 9) : 0.0F);
    const float arch = random.uniform(11.5F, 15), descending = random.uniform(9.5F, 14.5F);
    std::vector<TubeNode> nodes{{junction - axis * 1.0F, ring_radius * 0.98F},
                                {junction + axis * 8.0F, mix(ring_radius, ascending, 0.6F)}};
    const Vec rise[] = {{-24, -12, 34}, {-28, -12, 43}, {-30, -6, 54}, {-27, 0, 67}};
    const float reach = dot(heart.to_canonical(junction + axis * 12.0F), HeartShape::root_axis());
    for (const Vec& c : rise) {
        if (dot(c, HeartShape::root_axis()) > reach + 3) nodes.push_back({heart.to_scene(c) + jitter(1.5F), ascending});
    }
    const Vec top = nodes.back().at;
    const float lift = random.uniform(14, 30);  // of the arch above the last ascending point
    const Vec spine{scene.chest.middle + random.normal(30, 5), scene.chest.spine - random.uniform(18, 28), 0};
    nodes.push_back(
        {{mix(top.x, spine.x, 0.25F), mix(top.y, spine.y, 0.18F), top.z + lift * 0.85F}, mix(ascending, arch, 0.6F)});
    nodes.push_back({{mix(top.x, spine.x, 0.55F), mix(top.y, spine.y, 0.48F), top.z + lift}, arch});
    nodes.push_back({{mix(top.x, spine.x, 0.85F), mix(top.y, spine.y, 0.82F), top.z + lift * 0.75F}, arch});
    const bool bulging = random.chance(0.15F);
    const float bulge_at = random.uniform(-90, 40), bulge_mm = random.uniform(3, 14);
    const float start = top.z + lift * 0.2F;
    for (float z = start; z > -190; z -= 24) {
        const float down = clamp01((start - z) / 200);
        const float extra = bulging ? bulge_mm * std::exp(-(z - bulge_at) * (z - bulge_at) / 900) : 0.0F;
        nodes.push_back({Vec{mix(spine.x, scene.chest.middle + 8, down * down) + random.normal(0, 1.5F),
                             spine.y + random.normal(0, 1.5F), z},
                         descending * (1 - 0.15F * down) + extra});
    }
    scene.tubes.push_back(smooth_tube(kTubeAorta, nodes));

    // Branches of the arch.
    const std::size_t n = nodes.size();
    for (std::size_t i = 0; i < n; ++i) {
        if (nodes[i].at.z < top.z + 0.7F * lift) continue;
        const Vec from = nodes[i].at + Vec{0, 0, nodes[i].radius * 0.6F};
        const float r = random.uniform(3.2F, 6);
        scene.tubes.push_back(
            smooth_tube(kTubeArchBranch, {{from, r},
                                          {from + Vec{random.normal(0, 5), random.normal(0, 5), 25}, r},
                                          {from + Vec{random.normal(0, 12), random.normal(-5, 10), 70}, r}}));
    }
}

void add_coronaries(Scene& scene, Random& random) {
    const Matrix& frame = scene.root_frame;
    const auto outward = [&](Vec ostium) { return unit(frame.transposed({ostium.x, ostium.y, 0})); };
    const auto place = [&](Vec canonical, float sd) {
        return scene.heart.to_scene(canonical + Vec{random.normal(0, sd), random.normal(0, sd), random.normal(0, sd)});
    };
    const float r_right = random.uniform(1.4F, 2.5F), r_left = random.uniform(1.6F, 2.8F);
    const Vec right = frame.transposed(scene.root.ostia[0]), left = frame.transposed(scene.root.ostia[1]);
    // Right coronary: round the tricuspid ring, in the groove between right atrium and ventricle.
    std::vector<TubeNode> rca{{right - outward(right) * 1.0F, r_right * 1.2F},
                              {right + outward(right) * 7.0F, r_right}};
    const Vec ring{-31.6F, -15, -16.7F}, up{0.11F, -0.1F, 0.99F}, side{-0.69F, -0.73F, 0};
    for (const float degrees : {35.0F, 70.0F, 105.0F, 140.0F, 170.0F}) {
        const float a = degrees * kPi / 180;
        rca.push_back(
            {place(ring + (up * std::cos(a) + side * std::sin(a)) * 29.0F, 1.5F), r_right * (1 - degrees / 400)});
    }
    scene.tubes.push_back(smooth_tube(kTubeCoronary, rca));
    // Left main, then the anterior descending and the circumflex artery.
    const Vec fork = left + outward(left) * random.uniform(6, 14) + Vec{random.uniform(1, 5), 0, 0};
    scene.tubes.push_back(smooth_tube(
        kTubeCoronary, {{left - outward(left) * 1.0F, r_left * 1.2F}, {(left + fork) * 0.5F, r_left}, {fork, r_left}}));
    scene.tubes.push_back(smooth_tube(kTubeCoronary, {{fork, r_left * 0.85F},
                                                      {place({30, -21, 15}, 2), r_left * 0.75F},
                                                      {place({41, -36, 5}, 2), r_left * 0.65F},
                                                      {place({50, -50, -12}, 2), r_left * 0.5F}}));
    scene.tubes.push_back(smooth_tube(kTubeCoronary, {{fork, r_left * 0.8F},
                                                      {place({36, 22, 5}, 2), r_left * 0.7F},
                                                      {place({43, 35, -12}, 2), r_left * 0.6F},
                                                      {place({36, 46, -26}, 2), r_left * 0.45F}}));
}

}  // namespace

void sample_vessels(Scene& scene, Random& random) {
    add_aorta(scene, random);
    add_coronaries(scene, random);
    const auto tube = [&](TubeKind kind, float from, float to, float sd, std::initializer_list<Vec> canonical) {
        std::vector<TubeNode> nodes;
        const float width = random.uniform(0.8F, 1.2F);
        float i = 0;
        for (const Vec& c : canonical) {
            const float drift = i > 0 ? sd : 0.0F;  // the first point sits on the shape
            nodes.push_back({scene.heart.to_scene(
                                 c + Vec{random.normal(0, drift), random.normal(0, drift), random.normal(0, drift)}),
                             width * mix(from, to, i / static_cast<float>(canonical.size() - 1))});
            ++i;
        }
        scene.tubes.push_back(smooth_tube(kind, nodes, 3));
    };
    tube(kTubeCava, 8, 8, 3, {{-46, 10, 42}, {-47, 10, 60}, {-45, 5, 85}, {-42, 0, 115}, {-42, -4, 160}});
    tube(kTubeCava, 6, 5, 4, {{-45, 5, 85}, {-15, -16, 92}, {20, -22, 102}, {50, -20, 118}});
    tube(kTubeCava, 11, 12, 3, {{-44, 22, -50}, {-43, 24, -72}, {-40, 28, -100}, {-36, 34, -170}});
    tube(kTubePulmonaryVein, 7, 3, 5, {{-52, 18, 24}, {-75, 5, 40}, {-98, -8, 62}});
    tube(kTubePulmonaryVein, 7, 3, 5, {{-50, 44, 1}, {-75, 56, -16}, {-98, 62, -40}});
    tube(kTubePulmonaryVein, 6, 3, 5, {{28, 29, 42}, {50, 18, 56}, {74, 0, 76}});
    tube(kTubePulmonaryVein, 6, 3, 5, {{28, 57, 2}, {50, 64, -12}, {78, 70, -40}});
    tube(kTubePulmonaryArtery, 8, 3, 4, {{-46, 26, 34}, {-65, 33, 24}, {-80, 42, 4}, {-92, 48, -32}});
    tube(kTubePulmonaryArtery, 5, 2, 4, {{-46, 28, 50}, {-65, 25, 68}, {-80, 20, 92}});
    tube(kTubePulmonaryArtery, 8, 3, 4, {{36, 52, 47}, {52, 58, 30}, {64, 62, 4}, {74, 62, -34}});
    tube(kTubePulmonaryArtery, 5, 2, 4, {{36, 30, 52}, {55, 18, 70}, {72, 10, 92}});
    tube(kTubeAirway, 8, 8, 3, {{-10, 46, 62}, {-9, 42, 82}, {-8, 37, 110}, {-8, 32, 170}});
    tube(kTubeAirway, 6.5F, 3, 3, {{-10, 46, 62}, {-36, 48, 42}, {-62, 50, 18}, {-82, 58, -20}});
    tube(kTubeAirway, 6, 3, 3, {{-10, 46, 62}, {18, 54, 46}, {44, 58, 36}, {66, 62, 0}});
    const float x = scene.chest.middle + random.uniform(0, 12), y = scene.chest.spine - random.uniform(24, 32);
    std::vector<TubeNode> esophagus;
    for (float z = -180; z <= 180; z += 45)
        esophagus.push_back({{x + random.normal(0, 3), y + random.normal(0, 2), z}, random.uniform(5, 9)});
    scene.tubes.push_back(smooth_tube(kTubeEsophagus, esophagus, 3));
}

}  // namespace cardionode::train
