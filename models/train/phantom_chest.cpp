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

}  // namespace

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
    const float lung_noise = SmoothNoise(scene.seed + 13, 9).at(p);
    float lung = l.lung + 30 * coarse + 20 * fine;
    const float vessels = std::abs(lung_noise) + std::abs(SmoothNoise(scene.seed + 14, 13).at(p));
    lung = mix(lung, 20, 0.75F * smooth_step(0.16F, 0.04F, vessels));
    if (c.emphysema && coarse > 0.3F) lung -= 60;
    const float depth = (p.y - c.front) / (c.spine - c.front);  // 0 front, 1 spine
    float width = mix(c.mediastinum_front, c.mediastinum_back, smooth_step(0.2F, 0.75F, depth));
    width = mix(width, c.mediastinum_top, smooth_step(45, 75, p.z) * smooth_step(1.1F, 0.7F, depth));
    const float mediastinum = std::abs(x) - width - 5 * coarse;
    const float dome = std::max({c.dome_right - ((x + 68) * (x + 68) + (p.y - 15) * (p.y - 15)) / 190.0F,
                                 c.dome_left - ((x - 72) * (x - 72) + (p.y - 15) * (p.y - 15)) / 190.0F,
                                 -64 - (x * x + (p.y + 10) * (p.y + 10)) / 900.0F}) +
                       4 * coarse;
    float content = mix(lung, l.fat + 10 * fine + (coarse > 0.35F ? 120 : 0), inside(mediastinum));
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
