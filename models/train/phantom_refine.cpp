// Edition 2: contrast phases with the enhancement that belongs to them, dense veins, dissections with dark false
// lumina, azygos vein, pacemaker lead. Every draw is from streams of its own, so that edition 1 stays as it was.
//
// Enhancement by phase follows the usual course of a bolus from an arm vein: caval vein and right heart first, lungs,
// left heart and aorta, then muscle and liver, at last all blood alike. Ranges are wide: hospitals differ.
#include <numbers>

#include "models/train/phantom_scene.h"

namespace cardionode::train {
namespace {

constexpr float kPi = std::numbers::pi_v<float>;
enum Stream : std::uint64_t { kPhase = 201, kDissections, kVeins, kLeads, kValve };

enum Phase { kNonContrast, kArterial, kDenseCava, kRightFilled, kPulmonary, kLate, kMixed, kPhases };
constexpr float kShare[kPhases] = {0, 0.26F, 0.26F, 0.17F, 0.07F, 0.14F, 0.10F};

Phase draw_phase(Random& random) {
    float at = random.uniform();
    for (int phase = kArterial; phase < kMixed; ++phase) {
        at -= kShare[phase];
        if (at < 0) return static_cast<Phase>(phase);
    }
    return kMixed;
}

float spread(Random& random, float low, float high) {  // evenly by ratio
    return std::exp(random.uniform(std::log(low), std::log(high)));
}

void set_levels(Phase phase, TissueLevels& l, Random& random) {
    if (phase == kNonContrast) {
        const float blood = random.uniform(28, 58);
        for (float* level : {&l.lv, &l.la, &l.aorta, &l.rv, &l.ra, &l.pa, &l.cava, &l.cava_low, &l.azygos})
            *level = blood + random.normal(0, 2);
        l.myocardium = blood + random.uniform(-4, 14);
        l.liver = random.uniform(35, 70);
        l.mixing_ra = l.mixing_rv = l.mixing_cava = 0;
        return;
    }
    if (phase == kMixed) {  // the levels of edition 1 stay: anything goes
        l.cava_low = mix(l.ra, l.soft + 40, 0.6F);
        l.azygos = random.uniform(40, 150);
        return;
    }
    const float arterial = phase == kPulmonary ? random.uniform(120, 240)
                           : phase == kLate    ? random.uniform(115, 230)
                                               : spread(random, 210, 620);
    l.aorta = arterial * random.uniform(0.95F, 1.04F);
    l.lv = arterial * random.uniform(0.92F, 1.06F);
    l.la = arterial * random.uniform(0.92F, 1.12F);
    const auto around = [&](float level, float by) { return level * random.uniform(1 - by, 1 + by); };
    l.myocardium = random.uniform(0.15F, 0.36F) * std::min(arterial, 400.0F) + random.uniform(35, 55);
    l.liver = random.uniform(50, 100);
    l.cava_low = random.uniform(45, 140);
    l.azygos = random.uniform(40, 80);
    l.mixing_ra = l.mixing_rv = l.mixing_cava = 0;
    switch (phase) {
        case kArterial: {  // a saline chaser has washed the right side out
            const float right = random.uniform(45, 190);
            l.ra = around(right, 0.2F), l.rv = around(right, 0.15F), l.cava = around(right, 0.3F);
            l.pa = random.chance(0.4F) ? mix(right, arterial, random.uniform(0.3F, 0.95F)) : around(right, 0.2F);
            l.mixing_ra = random.uniform(0, 0.35F) * l.ra;
            break;
        }
        case kDenseCava: {  // contrast still runs in: the caval vein may be as dense as the aorta, or much denser
            l.cava = random.chance(0.45F) ? around(arterial, 0.3F) : spread(random, 350, 1900);
            l.mixing_cava = random.uniform(0, 0.3F) * std::min(l.cava, 1000.0F);
            l.ra = random.uniform(0.25F, 0.9F) * std::min(l.cava, 900.0F);
            l.mixing_ra = random.uniform(0.15F, 0.8F) * l.ra;
            l.rv = random.uniform(90, 500);
            l.mixing_rv = random.uniform(0, 0.25F) * l.rv;
            l.pa = random.uniform(0.4F, 1.1F) * arterial;
            if (random.chance(0.25F)) l.azygos = random.uniform(0.3F, 0.9F) * std::min(l.cava, 900.0F);
            if (random.chance(0.2F)) l.cava_low = random.uniform(0.3F, 0.9F) * std::min(l.ra, 700.0F);
            break;
        }
        case kRightFilled: {  // long bolus: both sides
            const float right = arterial * random.uniform(0.6F, 1.35F);
            l.ra = around(right, 0.15F), l.rv = around(right, 0.1F), l.pa = around(right, 0.1F);
            l.cava = around(right, 0.35F);
            l.mixing_ra = random.uniform(0, 0.4F) * l.ra;
            l.mixing_cava = random.uniform(0, 0.2F) * l.cava;
            break;
        }
        case kPulmonary: {  // too early: lungs' arteries are bright, the aorta is only filling
            const float right = spread(random, 300, 900);
            l.ra = around(right, 0.25F), l.rv = around(right, 0.15F), l.pa = around(right, 0.15F);
            l.cava = right * random.uniform(0.9F, 2);
            l.la = arterial * random.uniform(1, 1.7F);
            l.lv = mix(arterial, l.la, random.uniform(0, 0.6F));
            l.myocardium = random.uniform(50, 80);
            l.mixing_ra = random.uniform(0.1F, 0.5F) * l.ra;
            break;
        }
        default: {  // late: all blood nearly alike, muscle and liver have caught up
            for (float* level : {&l.ra, &l.rv, &l.pa, &l.cava, &l.azygos}) *level = arterial * random.uniform(0.9F, 1);
            l.cava_low = arterial * random.uniform(0.8F, 1);
            l.myocardium = mix(l.soft, arterial, random.uniform(0.45F, 0.75F));
            l.liver = random.uniform(85, 140);
            l.soft += random.uniform(5, 20);
        }
    }
}

Tube bent_tube(const Scene& scene, TubeKind kind, std::initializer_list<Vec> canonical, float radius, Random& random,
               float sd) {
    Tube tube{kind, {}};
    std::vector<Vec> through;
    for (const Vec& c : canonical)
        through.push_back(scene.heart.to_scene(c) +
                          Vec{random.normal(0, sd), random.normal(0, sd), random.normal(0, sd)});
    constexpr int kPieces = 4;
    for (std::size_t i = 0; i + 1 < through.size(); ++i) {
        const Vec a = through[i > 0 ? i - 1 : 0], b = through[i], c = through[i + 1];
        const Vec d = through[std::min(i + 2, through.size() - 1)];
        for (int s = 0; s < kPieces; ++s) {
            const float t = static_cast<float>(s) / kPieces, t2 = t * t, t3 = t2 * t;
            tube.nodes.push_back(
                {0.5F * (2 * b + t * (c - a) + t2 * (2 * a - 5 * b + 4 * c - d) + t3 * (3 * b - a - 3 * c + d)),
                 radius});
        }
    }
    tube.nodes.push_back({through.back(), radius});
    return tube;
}

}  // namespace

const std::vector<std::string>& phantom_phases() {
    static const std::vector<std::string> names = {"non_contrast", "arterial", "dense_cava", "right_filled",
                                                   "pulmonary",    "late",     "mixed"};
    return names;
}

void refine_blood(Scene& scene, const PhantomOptions& options) {
    Random phases(scene.seed, kPhase), disease(scene.seed, kDissections), valve(scene.seed, kValve);
    Phase phase = phases.chance(options.non_contrast) ? kNonContrast : draw_phase(phases);
    for (int i = 0; i < kPhases; ++i) {
        if (options.phase == phantom_phases()[static_cast<std::size_t>(i)]) phase = static_cast<Phase>(i);
    }
    if (phase == kMixed && !scene.contrast) phase = kArterial;  // nothing of edition 1 to keep
    set_levels(phase, scene.levels, phases);
    scene.phase = phantom_phases()[phase];
    scene.contrast = phase != kNonContrast;
    scene.leaflet_hu = scene.contrast ? phases.uniform(40, 120) : scene.levels.aorta + 5;

    scene.valve.open = valve.chance(0.14F);
    scene.valve.half_thickness = valve.uniform(0.35F, 1);
    scene.valve.free_margin = valve.uniform(1.5F, 4.5F);
    scene.valve.belly = valve.uniform(1.15F, 1.9F);

    Dissection& d = scene.dissection;
    d.present = disease.chance(0.22F);
    d.stent = disease.chance(d.present ? 0.4F : 0.06F);
    d.from_z = disease.uniform(-150, 20);
    d.to_z = d.from_z + disease.uniform(60, 260);
    d.offset = disease.uniform(-0.55F, 0.6F);
    // Often the false lumen fills late or not at all: it is aorta nonetheless.
    d.false_lumen = disease.chance(0.6F) ? disease.uniform(-0.05F, 0.3F) : disease.uniform(0.3F, 1.1F);
}

void refine_vessels(Scene& scene) {
    Random disease(scene.seed, kDissections + 100), veins(scene.seed, kVeins), leads(scene.seed, kLeads);
    const float wider = scene.dissection.present ? disease.uniform(0, 9) : 0.0F, width = veins.uniform(0.8F, 1.35F);
    for (Tube& tube : scene.tubes) {
        if (tube.kind == kTubeCava) {
            for (TubeNode& node : tube.nodes) node.radius *= width;
        }
        if (tube.kind != kTubeAorta) continue;
        for (TubeNode& node : tube.nodes) {  // a dissected aorta is wide
            if (node.at.y < 30) continue;
            node.radius += wider * smooth_step(30, 50, node.at.y) *
                           smooth_step(scene.dissection.from_z - 30, scene.dissection.from_z + 20, node.at.z) *
                           smooth_step(scene.dissection.to_z + 30, scene.dissection.to_z - 20, node.at.z);
        }
    }
    // Azygos vein: up along the spine, over the right main bronchus into the upper caval vein.
    const float x = scene.chest.middle - veins.uniform(2, 14), y = scene.chest.spine - veins.uniform(17, 25);
    const Vec into = scene.heart.to_scene({-46, 10, 62});
    const float arch = into.z + veins.uniform(-4, 8), r = veins.uniform(2, 5.5F);
    Tube azygos{kTubeAzygos, {}};
    for (float z = -190; z < arch - 12; z += 30)
        azygos.nodes.push_back({{x + veins.normal(0, 1.5F), y + veins.normal(0, 1), z}, r * 0.8F});
    for (const float t : {0.0F, 0.3F, 0.6F, 1.0F})
        azygos.nodes.push_back({{mix(x - 3, into.x, t), mix(y, into.y, t), arch - 8 + 8 * std::sin(kPi * t)}, r});
    scene.tubes.push_back(azygos);
    const float left = scene.chest.middle + veins.uniform(12, 22), thin = veins.uniform(1, 3);
    scene.tubes.push_back({kTubeAzygos, {{{left, y + 4, -190}, thin}, {{left, y + 4, veins.uniform(-40, 60)}, thin}}});

    if (leads.chance(0.07F)) {
        scene.tubes.push_back(bent_tube(scene, kTubeLead,
                                        {{50, -20, 118},
                                         {-15, -16, 92},
                                         {-45, 5, 78},
                                         {-46, 10, 42},
                                         {-52, 4, 8},
                                         {-34, -14, -14},
                                         {-14, -36, -26},
                                         {18, -54, -38}},
                                        leads.uniform(0.7F, 1.3F), leads, 2));
    }
}

}  // namespace cardionode::train
