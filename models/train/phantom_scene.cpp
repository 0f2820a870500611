#include "models/train/phantom_scene.h"

#include <numbers>

namespace cardionode::train {
namespace {

constexpr float kPi = std::numbers::pi_v<float>;
enum Stream : std::uint64_t { kPlace = 1, kSizes, kRoot, kChest, kLevels, kVessels, kCalcium, kScanner, kDisease };

HeartPlacement sample_placement(Random& random) {
    HeartPlacement heart;
    const float sd = 9 * kPi / 180;
    heart.turn = rotation({random.normal(0, sd), random.normal(0, sd), random.normal(0, 1.3F * sd)});
    const float scale = random.uniform(0.85F, 1.22F);
    const auto stretch = [&] { return 1.0F / (scale * random.uniform(0.93F, 1.07F)); };
    heart.shrink = {stretch(), stretch(), stretch()};
    for (int i = 0; i < 6; ++i) heart.bend[i] = SmoothNoise(random.bits(), i < 3 ? 62.0F : 30.0F);
    heart.bend_coarse = random.uniform(2, 8);
    heart.bend_fine = random.uniform(0.5F, 2.5F);
    heart.bend_at_origin = heart.bend_of({0, 0, 0});
    return heart;
}

TissueLevels sample_levels(Random& random, bool contrast) {
    TissueLevels l;
    l.soft = random.uniform(35, 65);
    l.fat = random.uniform(-120, -80);
    l.lung = random.uniform(-920, -720);
    l.bone = random.uniform(350, 900);
    l.marrow = random.uniform(120, 320);
    l.sd_texture = random.uniform(3, 14);
    if (!contrast) {
        const float blood = random.uniform(28, 58);
        for (float* level : {&l.lv, &l.la, &l.aorta, &l.rv, &l.ra, &l.pa, &l.cava})
            *level = blood + random.normal(0, 2);
        l.myocardium = blood + random.uniform(-4, 14);
        l.liver = random.uniform(35, 70);
        return l;
    }
    const float arterial =
        random.chance(0.12F) ? random.uniform(130, 220) : random.uniform(220, 600);  // late, or early
    l.aorta = arterial * random.uniform(0.93F, 1.05F);
    l.lv = arterial * random.uniform(0.92F, 1.06F);
    l.la = arterial * random.uniform(0.85F, 1.12F);
    const float kind = random.uniform();
    float right = 0;
    if (kind < 0.40F) right = random.uniform(45, 160);  // washed out by saline, or not yet there
    else if (kind < 0.65F) right = random.uniform(0.4F, 0.85F) * arterial;
    else if (kind < 0.82F) right = arterial * random.uniform(0.85F, 1.1F);
    else right = arterial * random.uniform(1.1F, 1.9F);  // denser than the left side
    l.rv = right * random.uniform(0.85F, 1.15F);
    l.pa = random.chance(0.3F) ? mix(right, arterial, random.uniform()) : right * random.uniform(0.9F, 1.2F);
    l.ra = random.chance(0.3F) ? random.uniform(60, 500) : right * random.uniform(0.8F, 1.25F);
    l.cava = l.ra;
    if (random.chance(0.35F)) {  // undiluted contrast from the arm, mixing in the atrium
        l.cava = random.uniform(400, 1600);
        l.mixing_cava = random.uniform(0, 400);
        l.mixing_ra = random.uniform(50, 500);
        if (random.chance(0.5F)) l.ra = random.uniform(200, 800);
    } else {
        l.mixing_ra = random.uniform(0, 0.3F) * l.ra;
    }
    l.mixing_rv = random.uniform(0, 0.15F) * l.rv;
    l.myocardium = random.uniform(0.12F, 0.42F) * std::min(arterial, 350.0F) + random.uniform(30, 55);
    l.liver = random.uniform(50, 130);
    return l;
}

ChestShape sample_chest(Random& random) {
    ChestShape c;
    c.middle = random.normal(-8, 7);
    c.front = random.normal(-80, 8);
    c.spine = random.normal(94, 8);
    c.half_width = random.uniform(108, 145);
    c.fat = random.uniform(6, 40);
    c.muscle = random.uniform(10, 26);
    c.rib_pitch = random.uniform(26, 34);
    c.rib_phase = random.uniform(0, 40);
    c.rib_slope = random.uniform(0.25F, 0.7F);
    c.vertebra_pitch = random.uniform(24, 32);
    c.vertebra_phase = random.uniform(0, 40);
    c.vertebra_radius = random.uniform(16, 22);
    c.dome_right = random.normal(-25, 14);
    c.dome_left = random.normal(-42, 14);
    c.mediastinum_front = random.uniform(4, 24);
    c.mediastinum_back = random.uniform(15, 30);
    c.mediastinum_top = random.uniform(26, 45);
    c.table = random.uniform(0, 25);
    c.emphysema = random.chance(0.15F);
    return c;
}

void sample_calcium(Scene& scene, Random& random) {
    // Graded load: none, little, much. Deposits sit on the leaflets, at their hinges and commissures.
    const float grade = random.uniform();
    const int deposits = grade < 0.25F ? 0 : grade < 0.6F ? random.integer(1, 5) : random.integer(5, 18);
    const AorticRoot& root = scene.root;
    for (int i = 0; i < deposits; ++i) {
        const float angle = random.uniform(-kPi, kPi);
        const float rho = std::sqrt(random.uniform(0.1F, 1.0F));
        const float height = root.leaflet_height(angle, rho) + random.normal(0, 0.7F);
        Vec at = WallPoint{angle, rho * root.radius(angle, height), height}.at();
        if (scene.edition >= 2) at = valve_place(root, scene.valve, angle, rho);
        const float radius = random.uniform(1.0F, grade < 0.6F ? 2.3F : 3.6F), hu = random.uniform(600, 1700);
        const int grains = random.integer(1, 5);
        for (int g = 0; g < grains; ++g) {
            const Vec off{random.normal(0, radius * 0.8F), random.normal(0, radius * 0.8F),
                          random.normal(0, radius * 0.6F)};
            scene.blobs.push_back(
                {scene.root_frame.transposed(at + off), radius * random.uniform(0.5F, 1.0F), hu, true});
        }
    }
    // Calcium that is not of this valve: mitral ring, wall of the aorta. It must not be labelled.
    if (random.chance(0.25F)) {
        const int n = random.integer(1, 8);
        for (int i = 0; i < n; ++i) {
            const float t = random.uniform(-1, 1);
            const Vec mitral{24 + 4 * t, 24 + 10 * std::cos(2 * t), -4 - 22 * t};
            scene.blobs.push_back(
                {scene.heart.to_scene(mitral), random.uniform(1.0F, 3.5F), random.uniform(500, 1500), false});
        }
    }
    for (const Tube& tube : scene.tubes) {
        if (tube.kind != kTubeAorta && tube.kind != kTubeCoronary && tube.kind != kTubeArchBranch) continue;
        if (!random.chance(0.3F)) continue;
        const int n = random.integer(1, tube.kind == kTubeAorta ? 12 : 3);
        for (int i = 0; i < n; ++i) {
            const TubeNode& node =
                tube.nodes[static_cast<std::size_t>(random.integer(1, static_cast<int>(tube.nodes.size()) - 1))];
            const Vec direction = unit({random.normal(), random.normal(), 0.3F * random.normal()});
            scene.blobs.push_back(
                {node.at + direction * node.radius, random.uniform(0.8F, 2.5F), random.uniform(400, 1300), false});
        }
    }
}

Acquisition sample_acquisition(const Scene& scene, Random& random) {
    Acquisition a;
    a.blur = random.uniform(0.7F, 1.9F);
    if (random.chance(0.3F)) a.blur_z = random.uniform(0.5F, 2.0F);
    if (random.chance(0.3F)) a.sharpen = random.uniform(0.1F, 0.7F);
    a.noise = std::exp(random.uniform(std::log(5.0F), std::log(65.0F)));
    a.noise_grain = random.uniform(0.3F, 2.4F);
    a.shift_hu = random.normal(0, 6);
    a.padding = random.chance(0.5F) ? -1024.0F : -2000.0F;
    a.field_centre = {random.normal(0, 15), random.normal(5, 15), 0};
    if (random.chance(0.55F)) a.field_of_view = random.uniform(80, 140);
    if (random.chance(0.3F)) a.low_z = random.uniform(-110, -50);
    if (random.chance(0.3F)) a.high_z = random.uniform(30, 110);
    if (random.chance(0.12F)) {
        a.step_at = random.uniform(-50, 50);
        a.step = {random.normal(0, 2), random.normal(0, 2), 0};
    }
    if (scene.levels.cava > 500 && random.chance(0.8F)) {
        const Vec source = scene.heart.to_scene({-43, 5, 30});
        const int n = random.integer(2, 7);
        for (int i = 0; i < n; ++i) {
            a.streaks.push_back(
                {source, random.uniform(0, kPi), random.uniform(1.5F, 5), random.normal(0, scene.levels.cava * 0.12F)});
        }
    }
    return a;
}

}  // namespace

Vec HeartPlacement::bend_of(Vec p) const {
    const Vec coarse{bend[0].at(p), bend[1].at(p), bend[2].at(p)}, fine{bend[3].at(p), bend[4].at(p), bend[5].at(p)};
    return coarse * bend_coarse + fine * bend_fine;
}

Vec HeartPlacement::to_canonical(Vec scene) const {
    const Vec bent = scene + bend_of(scene) - bend_at_origin;
    const Vec turned = turn.apply(bent);
    return {turned.x * shrink.x, turned.y * shrink.y, turned.z * shrink.z};
}

Vec HeartPlacement::to_scene(Vec c) const {
    const Vec straight = turn.transposed({c.x / shrink.x, c.y / shrink.y, c.z / shrink.z});
    Vec p = straight;
    for (int i = 0; i < 12; ++i) p = straight - bend_of(p) + bend_at_origin;
    return p;
}

Scene sample_scene(const PhantomAtlas& atlas, std::uint64_t seed, const PhantomOptions& options) {
    Scene scene;
    scene.seed = seed;
    Random place(seed, kPlace), sizes(seed, kSizes), root(seed, kRoot), chest(seed, kChest), levels(seed, kLevels);
    Random vessels(seed, kVessels), calcium(seed, kCalcium), scanner(seed, kScanner), disease(seed, kDisease);
    scene.heart = sample_placement(place);
    scene.grow = {sizes.uniform(-3, 4), sizes.uniform(-3, 4), sizes.uniform(-2.5F, 8), sizes.uniform(-3, 6), 0,
                  sizes.uniform(-2, 4)};
    scene.wall_lv = sizes.uniform(7.5F, 15);
    scene.septum = scene.wall_lv * sizes.uniform(0.8F, 1.15F);
    scene.wall_thin = sizes.uniform(1.2F, 3.2F);
    scene.pericardial_fat = sizes.uniform(1, 16);

    scene.root = AorticRoot::sample(atlas.root, root);
    // The shape's own root, carried along by the map's linear part, and some freedom of its own.
    const auto carried = [&](Vec canonical) {
        const Vec s = scene.heart.shrink;
        return unit(scene.heart.turn.transposed({canonical.x / s.x, canonical.y / s.y, canonical.z / s.z}));
    };
    const Matrix wobble = rotation({root.normal(0, 0.1F), root.normal(0, 0.1F), root.normal(0, 0.1F)});
    const Vec axis = unit(wobble.apply(carried(HeartShape::root_axis())));
    Vec right = carried(HeartShape::root_right_cusp());
    right = unit(right - axis * dot(right, axis));
    const float spin = root.normal(0, 0.2F);
    right = right * std::cos(spin) + cross(axis, right) * std::sin(spin);
    scene.root_frame = {{right, cross(axis, right), axis}};
    scene.leaflet_thickness = root.uniform(0.5F, 2.2F);

    scene.chest = sample_chest(chest);
    scene.contrast = !levels.chance(options.non_contrast);
    scene.levels = sample_levels(levels, scene.contrast);
    scene.leaflet_hu = scene.contrast ? levels.uniform(50, 140) : scene.levels.aorta + 5;

    Dissection& d = scene.dissection;
    d.present = disease.chance(0.15F);
    d.stent = disease.chance(d.present ? 0.5F : 0.08F);
    d.from_z = disease.uniform(-80, 20);
    d.to_z = d.from_z + disease.uniform(40, 200);
    d.angle = disease.uniform(0, 2 * kPi);
    d.offset = disease.uniform(-0.4F, 0.5F);
    d.twist = disease.normal(0, 0.012F);
    d.false_lumen = disease.uniform(0.25F, 1.05F);
    d.stent_hu = disease.uniform(500, 1800);
    d.stent_pitch = disease.uniform(6, 14);
    d.stent_phase = disease.uniform(0, 6);
    d.stent_from_z = disease.uniform(-120, 40);
    d.stent_to_z = d.stent_from_z + disease.uniform(50, 170);

    scene.edition = options.edition;
    if (options.edition >= 4) scene.root.keep_ostia_in_sinuses();
    if (options.edition >= 2) refine_blood(scene, options);
    if (options.edition >= 3) place_real_chest(atlas, scene);
    sample_vessels(scene, vessels);
    if (options.edition >= 2) refine_vessels(scene);
    if (options.edition >= 3) draw_coronary_tree(atlas, scene);
    sample_calcium(scene, calcium);
    scene.acquisition = sample_acquisition(scene, scanner);
    if (options.edition >= 2) refine_acquisition(scene, options);
    return scene;
}

PhantomGrid PhantomGrid::around(Vec centre, std::array<int, 3> size, float spacing) {
    PhantomGrid grid;
    grid.size = size;
    grid.spacing = spacing;
    grid.origin = centre - Vec{(size[2] - 1) * spacing / 2, (size[1] - 1) * spacing / 2, (size[0] - 1) * spacing / 2};
    return grid;
}

PhantomGrid training_window(std::uint64_t seed, std::array<int, 3> size, float spacing) {
    Random random(seed, 100);
    const float half = spacing * static_cast<float>(std::min({size[0], size[1], size[2]})) / 2;
    const float kind = random.uniform();
    Vec centre;
    if (kind < 0.62F) {  // the root anywhere well inside
        const float reach = 0.7F * half;
        centre = {random.uniform(-reach, reach), random.uniform(-reach, reach), random.uniform(-reach, reach)};
    } else if (kind < 0.86F) {  // somewhere at the heart, the root often outside
        centre = {random.uniform(-70, 85), random.uniform(-60, 90), random.uniform(-90, 100)};
    } else {  // anywhere in the chest
        centre = {random.uniform(-130, 130), random.uniform(-90, 120), random.uniform(-150, 150)};
    }
    return PhantomGrid::around(centre, size, spacing);
}

PhantomGrid root_window(std::uint64_t seed, std::array<int, 3> size, float spacing, float jitter_mm) {
    Random random(seed, 100);
    const auto jitter = [&] { return random.uniform(-jitter_mm, jitter_mm); };
    const Vec centre{jitter(), jitter(), jitter()};
    // Five points of the root lie around 5 mm above the annular plane, which points up and to the right front.
    return PhantomGrid::around(Vec{-2, -1, 4} + centre, size, spacing);
}

Result<PhantomAtlas> PhantomAtlas::load(const std::filesystem::path& folder) {
    Result<HeartShape> heart = HeartShape::load(folder);
    if (!heart) return std::move(heart).error();
    Result<RootStatistics> root = RootStatistics::load(folder);
    if (!root) return std::move(root).error();
    Result<std::vector<RealChest>> chests = RealChest::load_all(folder);
    if (!chests) return std::move(chests).error();
    Vec sum{};
    float n = 0, farthest = 0;
    Vec apex{};
    for (float z = -80; z <= 80; z += 4) {
        for (float y = -80; y <= 80; y += 4) {
            for (float x = -80; x <= 80; x += 4) {
                const std::array<float, 8> d = heart->distances({x, y, z});
                if (std::min({d[kLv], d[kRv], d[kLa], d[kRa]}) < 0) sum = sum + Vec{x, y, z}, ++n;
                if (d[kLv] >= 0 || length({x, y, z}) <= farthest) continue;
                apex = {x, y, z};
                farthest = length(apex);
            }
        }
    }
    return PhantomAtlas{*std::move(heart), *std::move(root), *std::move(chests), sum * (1 / std::max(n, 1.0F)), apex};
}

const std::vector<PhantomHead>& phantom_heads() {
    static const std::vector<PhantomHead> heads = {
        {"heart",
         {"myocardium", "left_atrium", "left_ventricle", "right_atrium", "right_ventricle", "aorta",
          "pulmonary_artery"}},
        {"hps", {"hinge_right", "hinge_left", "hinge_noncoronary", "ostium_right", "ostium_left"}},
        {"ms", {"septum_upper", "septum_lower"}},
        {"calc", {"valve_calcium"}},
        {"coronaries", {"coronary_artery"}}};
    return heads;
}

}  // namespace cardionode::train
