// The chest around the heart: lungs, ribs, spine, breastbone, abdomen, wall, table, air.
#include "models/train/phantom_scene.h"

namespace cardionode::train {
namespace {

/// Share of a soft edge: 1 inside, 0 outside, over 2 mm.
float inside(float distance) { return clamp01(0.5F - distance * 0.5F); }

float superellipse(float x, float y, float a, float b) {
    const float u = std::abs(x) / a, v = std::abs(y) / b;
    return (std::sqrt(std::sqrt(u * u * u * u + v * v * v * v + u * u * v * v)) - 1) * std::min(a, b);
}

float repeat(float v, float period) { return v - period * std::floor(v / period); }

float abdomen_hu(const Scene& scene, Vec p, float texture) {
    const float side = p.x - scene.chest.middle;
    if (side < 22 + 25 * texture) return scene.levels.liver + 6 * texture;
    const SmoothNoise organs(scene.seed + 71, 38);
    const float kind = organs.at(p);
    if (kind > 0.35F) return scene.levels.fat;
    if (kind < -0.5F) return -850;  // gas of stomach and colon
    return scene.levels.soft + 20 * texture;
}

/// Lungs and the fat between them.
float between_hu(const Scene& scene, Vec p, float coarse, float fine) {
    const ChestShape& c = scene.chest;
    const TissueLevels& l = scene.levels;
    const float x = p.x - c.middle;
    const float lung_noise = SmoothNoise(scene.seed + 13, 9).at(p);
    float lung = l.lung + 30 * coarse + 20 * fine;
    const float vessels = std::abs(lung_noise) + std::abs(SmoothNoise(scene.seed + 14, 13).at(p));
    lung = mix(lung, 20, 0.75F * smooth_step(0.16F, 0.04F, vessels));
    if (c.emphysema && coarse > 0.3F) lung -= 60;
    const float depth = (p.y - c.front) / (c.spine - c.front);  // 0 front, 1 spine
    float width = mix(c.mediastinum_front, c.mediastinum_back, smooth_step(0.2F, 0.75F, depth));
    width = mix(width, c.mediastinum_top, smooth_step(45, 75, p.z) * smooth_step(1.1F, 0.7F, depth));
    const float mediastinum = std::abs(x) - width - 5 * coarse;
    return mix(lung, l.fat + 10 * fine + (coarse > 0.35F ? 120 : 0), inside(mediastinum));
}

}  // namespace

void place_real_chest(const PhantomAtlas& atlas, Scene& scene) {
    Random random(scene.seed, 241);
    if (!random.chance(0.5F)) return;
    ChestPlacement& r = scene.real_chest;
    r.chest = random.integer(0, static_cast<int>(atlas.chests.size()) - 1);
    r.mirrored = random.chance(0.2F);
    const Vec s = scene.heart.shrink;
    const float size = mix(1, 3 / (s.x + s.y + s.z), 0.6F) * random.uniform(0.93F, 1.09F);
    r.scale = {size * random.uniform(0.95F, 1.06F), size * random.uniform(0.95F, 1.06F),
               size * random.uniform(0.93F, 1.07F)};
    r.heart = scene.heart.to_scene(atlas.heart_centre) + Vec{0, random.normal(0, 4), random.normal(0, 5)};
    r.middle = r.heart.x - random.normal(21, 5);
    for (SmoothNoise& noise : r.bend) noise = SmoothNoise(random.bits(), 75);
    r.bend_mm = random.uniform(1, 7);
    const RealChest& chest = atlas.chests[static_cast<std::size_t>(r.chest)];
    r.low_z = r.heart.z - chest.heart.z * RealChest::kSpacing * r.scale.z + r.bend_mm;
    r.high_z = r.heart.z + (static_cast<float>(chest.slices() - 1) - chest.heart.z) * RealChest::kSpacing * r.scale.z -
               r.bend_mm;
    // The vessels run along this spine; between it and the left atrium there must be room for the aorta.
    const auto spine = [&] {
        return r.heart.y + (chest.spine_y - chest.heart.y) * RealChest::kSpacing * r.scale.y - 5;
    };
    float back = 0;
    for (const Vec column : {Vec{0, 0, 10}, Vec{14, 0, 10}, Vec{14, 0, 0}}) {
        for (float y = 20; y < 90; y += 2) {
            if (atlas.heart.distances({column.x, y, column.z})[kLa] < 0)
                back = std::max(back, scene.heart.to_scene({column.x, y, column.z}).y + scene.grow[kLa]);
        }
    }
    r.heart.y += std::clamp(back + 34 - spine(), 0.0F, 25.0F);
    scene.chest.middle = r.middle;
    scene.chest.spine = spine();
    scene.levels.lung = chest.lung_hu + random.uniform(-15, 60);
}

float real_chest_hu(const RealChest& chest, const Scene& scene, Vec p) {
    const Vec voxel = scene.real_chest.to_voxel(chest, p);
    const RealChest::Sample sample = chest.at(voxel);
    // Other lungs are inflated otherwise; everything else keeps its level.
    float hu = sample.hu;
    if (hu < -500)
        hu += (scene.levels.lung - chest.lung_hu) * smooth_step(-500, -700, hu) * smooth_step(-1000, -960, hu);
    if (sample.hollow <= 0) return hu;
    const float fine = SmoothNoise(scene.seed + 11, 7).at(p), coarse = SmoothNoise(scene.seed + 12, 24).at(p);
    // Low down there is fat under the heart and round the aorta, no lung.
    const float abdomen =
        smooth_step(chest.heart.z - 0.4F * chest.heart_half.z, chest.heart.z - 0.75F * chest.heart_half.z, voxel.z);
    const float fill = mix(between_hu(scene, p, coarse, fine), scene.levels.fat + 14 * fine + 10 * coarse, abdomen);
    return mix(hu, fill, sample.hollow);
}

float chest_hu(const Scene& scene, Vec p) {
    const ChestShape& c = scene.chest;
    const TissueLevels& l = scene.levels;
    const SmoothNoise fine_noise(scene.seed + 11, 7), coarse_noise(scene.seed + 12, 24);
    const float fine = fine_noise.at(p), coarse = coarse_noise.at(p);
    const float x = p.x - c.middle, centre_y = (c.front + c.spine + 22) / 2, half_depth = (c.spine + 22 - c.front) / 2;
    const float y = p.y - centre_y;
    // The cavity narrows to the neck.
    const float narrow = 1 - 0.45F * smooth_step(70, 190, p.z);
    const float cavity =
        superellipse(x, y, c.half_width * narrow, half_depth * mix(1, 0.85F, smooth_step(70, 190, p.z))) + 3 * coarse;
    const float skin = cavity - 9 - c.muscle - c.fat * (0.8F + 0.4F * std::abs(x) / c.half_width);
    if (skin > 0) {
        const float back = centre_y + half_depth + 9 + c.muscle + c.fat + c.table;
        if (p.y > back && p.y < back + 25 && std::abs(x) < 220) return p.y < back + 3 || p.y > back + 22 ? -100 : -930;
        return -1000;
    }
    float hu = l.fat + 12 * coarse + 6 * fine;
    if (skin > -2.5F) return 10;
    const float muscle = cavity - 9 - c.muscle * (0.6F + 0.5F * coarse);
    hu = mix(hu, l.soft + 8 * fine + 10 * coarse, inside(muscle));

    // Mediastinum and lungs.
    const float dome = std::max({c.dome_right - ((x + 68) * (x + 68) + (p.y - 15) * (p.y - 15)) / 190.0F,
                                 c.dome_left - ((x - 72) * (x - 72) + (p.y - 15) * (p.y - 15)) / 190.0F,
                                 -64 - (x * x + (p.y + 10) * (p.y + 10)) / 900.0F}) +
                       4 * coarse;
    float content = between_hu(scene, p, coarse, fine);
    content = mix(content, abdomen_hu(scene, p, coarse), inside((p.z - dome) * 0.8F));
    hu = mix(hu, content, inside(cavity));

    // Ribs: slanting bands in the wall.
    if (cavity > -2 && cavity < 12) {
        const float along = repeat(p.z + c.rib_slope * (c.spine - p.y) + c.rib_phase, c.rib_pitch) - c.rib_pitch / 2;
        const float rib = std::max(std::abs(along) - 5.5F, std::abs(cavity - 5) - 4);
        const bool cartilage = p.y < c.front + 28;
        hu = mix(hu, cartilage ? 110 : (rib > -1.8F ? l.bone : l.marrow) + 40 * fine, inside(rib));
    }
    // Breastbone.
    const float breastbone = std::max({std::abs(x) - 17 + 2 * coarse, std::abs(p.y - (c.front - 5)) - 5.5F, -35 - p.z});
    hu = mix(hu, (breastbone > -1.8F ? l.bone * 0.6F : l.marrow * 0.6F) + 30 * fine, inside(breastbone));
    // Spine: bodies with discs, canal, arches and processes.
    const float dy = p.y - c.spine, r = c.vertebra_radius;
    if (std::abs(x) < 55 && dy > -r - 4) {
        const float level = repeat(p.z + c.vertebra_phase, c.vertebra_pitch);
        const float body = superellipse(x, dy, r, r * 0.82F);
        const bool disc = level < 5.5F;
        hu = mix(hu,
                 disc ? 85.0F
                      : (body > -2.2F || level < 7 || level > c.vertebra_pitch - 1.5F ? l.bone * 0.75F : l.marrow) +
                            45 * fine,
                 inside(body));
        const float canal = std::hypot(x, dy - r - 7) - 8;
        const float arch = std::max(canal - 6, level - c.vertebra_pitch * 0.8F);
        const float spinous = std::max({std::abs(x) - 4, std::abs(dy - r - 32) - 19, level - c.vertebra_pitch * 0.6F});
        const float transverse =
            std::max({std::abs(dy - r - 10) - 5, std::abs(x) - 38, level - c.vertebra_pitch * 0.4F});
        const float process = std::min({arch, spinous, transverse});
        hu = mix(hu, (process > -2 ? l.bone : l.marrow) + 30 * fine, inside(process));
        hu = mix(hu, 25, inside(canal));
    }
    return hu;
}

}  // namespace cardionode::train
