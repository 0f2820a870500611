// Scanner profiles of edition 2: what a family of scanners and reconstructions does to an image. Names say the look; no
// vendor's product is meant. Ranges of noise and blur are on the phantom's grid, after resampling.
#include <numbers>

#include "models/train/phantom_scene.h"

namespace cardionode::train {
namespace {

constexpr float kPi = std::numbers::pi_v<float>;
enum Stream : std::uint64_t { kWhich = 221, kSettings, kTurns, kStreaks };

struct Range {
    float low, high;
    float draw(Random& random) const { return random.uniform(low, high); }
};

struct Profile {
    PhantomProfile shown;
    float share;         ///< of the draws within its set
    Range blur, blur_z;  ///< sd in mm
    Range sharpen, sharpen_mm;
    Range noise, grain;  ///< HU; mm
    Range blue, rows;
    Range field;  ///< radius of the field of view in mm; over 250: all
    float padding;
    float motion, turns, slabs;  ///< chances
    Range cupping;
};

constexpr Range kNone{0, 0};
const std::vector<Profile>& profiles() {
    static const std::vector<Profile> all = {
        {{"standard", false, "filtered back projection, medium kernel, gated"},
         0.2F,
         {0.5F, 1.2F},
         {0, 0.8F},
         {0, 0.4F},
         {1, 1.6F},
         {10, 32},
         {0.4F, 1},
         {0, 0.5F},
         kNone,
         {85, 160},
         -1024,
         0.1F,
         0.2F,
         0,
         kNone},
        {{"sharp", false, "sharp kernel: edges overshoot, fine noise"},
         0.12F,
         {0.35F, 0.7F},
         {0, 0.6F},
         {0.5F, 1.4F},
         {0.8F, 1.5F},
         {25, 75},
         {0.3F, 0.6F},
         {0.5F, 1},
         kNone,
         {80, 150},
         -2000,
         0.1F,
         0.2F,
         0,
         kNone},
        {{"smooth_iterative", false, "iterative reconstruction: little noise, blotchy, soft"},
         0.16F,
         {0.8F, 1.8F},
         {0.3F, 1},
         {0, 0.3F},
         {1.2F, 2},
         {4, 14},
         {1.2F, 3},
         kNone,
         kNone,
         {85, 180},
         -1024,
         0.1F,
         0.15F,
         0,
         kNone},
        {{"low_dose", false, "few photons: coarse noise, streaks across the body"},
         0.12F,
         {0.7F, 1.5F},
         {0.3F, 1.2F},
         kNone,
         {1, 1.5F},
         {40, 100},
         {0.6F, 1.4F},
         {0, 0.4F},
         {0.2F, 0.6F},
         {90, 300},
         -1024,
         0.15F,
         0.15F,
         0,
         {0, 15}},
        {{"thick_slice", false, "slices of 2.5 to 5 mm"},
         0.1F,
         {0.6F, 1.4F},
         {1.2F, 2.3F},
         {0, 0.5F},
         {1, 1.8F},
         {6, 24},
         {0.6F, 1.4F},
         kNone,
         {0, 0.2F},
         {120, 400},
         -1024,
         0.25F,
         0.2F,
         0,
         kNone},
        {{"free_running", false, "no gating: the heart moves, steps between beats"},
         0.1F,
         {0.6F, 1.3F},
         {0.3F, 1.2F},
         {0, 0.5F},
         {1, 1.6F},
         {10, 40},
         {0.5F, 1.2F},
         {0, 0.5F},
         kNone,
         {120, 400},
         -1024,
         0.9F,
         0.8F,
         0,
         kNone},
        {{"wide_detector", false, "one beat a slab: levels jump between slabs"},
         0.1F,
         {0.5F, 1.1F},
         {0.2F, 0.8F},
         {0, 0.6F},
         {1, 1.6F},
         {12, 35},
         {0.5F, 1.5F},
         {0, 0.6F},
         kNone,
         {80, 130},
         -2000,
         0.1F,
         0.2F,
         0.8F,
         {0, 10}},
        {{"low_kilovolt", false, "70 to 90 kV: contrast and noise high"},
         0.1F,
         {0.5F, 1.1F},
         {0, 0.8F},
         {0, 0.8F},
         {0.9F, 1.5F},
         {22, 65},
         {0.5F, 1.2F},
         {0, 0.6F},
         {0, 0.3F},
         {80, 140},
         -1024,
         0.1F,
         0.2F,
         0,
         {0, 15}},

        {{"learned_denoising", true, "network reconstruction: sharp edges, hardly any noise"},
         0.34F,
         {0.35F, 0.7F},
         {0, 0.4F},
         {0.2F, 0.7F},
         {0.9F, 1.4F},
         {2, 7},
         {0.6F, 2.2F},
         kNone,
         kNone,
         {80, 160},
         -1024,
         0.1F,
         0.15F,
         0,
         kNone},
        {{"old_multislice", true, "few rows: thick slices, steps, streaks, coarse noise"},
         0.33F,
         {1.1F, 2},
         {1.2F, 2.2F},
         {0, 0.3F},
         {1.2F, 2},
         {25, 70},
         {1, 2.2F},
         kNone,
         {0.3F, 0.7F},
         {110, 220},
         -2000,
         0.6F,
         0.8F,
         0.3F,
         {5, 30}},
        {{"counting_sharp", true, "photon counting, very sharp kernel"},
         0.33F,
         {0.25F, 0.4F},
         kNone,
         {0.9F, 2},
         {0.6F, 1.1F},
         {30, 90},
         {0.25F, 0.45F},
         {0.7F, 1},
         kNone,
         {75, 130},
         -1024,
         0.05F,
         0.15F,
         0,
         kNone}};
    return all;
}

const Profile& draw_profile(const PhantomOptions& options, Random& random) {
    for (const Profile& p : profiles()) {
        if (options.profile == p.shown.name) return p;
    }
    const auto allowed = [&](const Profile& p) {
        return options.profiles == ProfileSet::All || p.shown.held_out == (options.profiles == ProfileSet::HeldOut);
    };
    float total = 0;
    for (const Profile& p : profiles()) total += allowed(p) ? p.share : 0;
    float at = random.uniform() * total;
    const Profile* last = nullptr;
    for (const Profile& p : profiles()) {
        if (!allowed(p)) continue;
        last = &p;
        at -= p.share;
        if (at < 0) break;
    }
    return *last;
}

/// Beats between slabs displace the heart for the slices above.
void draw_turns(const Profile& profile, Acquisition& a, Random& random) {
    if (!random.chance(profile.turns)) return;
    const int n = random.integer(1, 3);
    float z = random.uniform(-70, 30);
    for (int i = 0; i < n; ++i, z += random.uniform(18, 45)) {
        a.turn_z.push_back(z);
        a.turn_step.push_back({random.normal(0, 1.3F), random.normal(0, 1.3F), random.normal(0, 0.6F)});
    }
}

void draw_streaks(const Scene& scene, Acquisition& a, Random& random) {
    const auto star = [&](Vec at, int least, int most, float sd, float half_height) {
        const int n = random.integer(least, most);
        for (int i = 0; i < n; ++i) {
            a.streaks.push_back({at + Vec{random.normal(0, 2), random.normal(0, 2), random.normal(0, half_height)},
                                 random.uniform(0, kPi), random.uniform(1, 4.5F), random.normal(0, sd),
                                 half_height * random.uniform(0.4F, 1)});
        }
    };
    if (scene.levels.cava > 550 && random.chance(0.8F)) {
        for (const Vec at : {Vec{-46, 10, 48}, Vec{-47, 8, 66}, Vec{-48, 6, 22}})
            star(scene.heart.to_scene(at), 1, 4, std::min(scene.levels.cava, 1600.0F) * 0.12F, 16);
    }
    for (const Tube& tube : scene.tubes) {
        if (tube.kind != kTubeLead) continue;
        const float strength = random.uniform(120, 420);
        for (std::size_t i = 0; i < tube.nodes.size(); i += 5) star(tube.nodes[i].at, 1, 3, strength, 7);
    }
    if (scene.dissection.stent && random.chance(0.5F)) {
        for (const Tube& tube : scene.tubes) {
            if (tube.kind != kTubeAorta) continue;
            for (std::size_t i = 0; i < tube.nodes.size(); i += 6) {
                const Vec at = tube.nodes[i].at;
                if (at.y > 30 && at.z > scene.dissection.stent_from_z && at.z < scene.dissection.stent_to_z)
                    star(at, 0, 2, 90, 10);
            }
        }
    }
}

}  // namespace

const std::vector<PhantomProfile>& phantom_profiles() {
    static const std::vector<PhantomProfile> shown = [] {
        std::vector<PhantomProfile> list;
        for (const Profile& p : profiles()) list.push_back(p.shown);
        return list;
    }();
    return shown;
}

void refine_acquisition(Scene& scene, const PhantomOptions& options) {
    Random which(scene.seed, kWhich), settings(scene.seed, kSettings), turns(scene.seed, kTurns);
    Random streaks(scene.seed, kStreaks);
    const Profile& profile = draw_profile(options, which);
    scene.profile = profile.shown.name;
    if (scene.profile == "low_kilovolt" && scene.contrast) {  // iodine shows more at a low voltage
        const float more = settings.uniform(1.1F, 1.45F);
        TissueLevels& l = scene.levels;
        for (float* level : {&l.lv, &l.la, &l.aorta, &l.rv, &l.ra, &l.pa, &l.cava, &l.cava_low, &l.azygos})
            *level = 40 + (*level - 40) * more;
        l.bone *= 1.15F;
    }
    Acquisition a;
    a.blur = profile.blur.draw(settings);
    a.blur_z = profile.blur_z.draw(settings);
    a.sharpen = profile.sharpen.draw(settings);
    a.sharpen_mm = profile.sharpen_mm.draw(settings);
    a.noise = std::exp(mix(std::log(profile.noise.low), std::log(profile.noise.high), settings.uniform()));
    a.noise_grain = profile.grain.draw(settings);
    a.noise_blue = profile.blue.draw(settings);
    a.noise_rows = profile.rows.draw(settings);
    a.noise_middle = settings.uniform(0, 0.6F);
    a.cupping = profile.cupping.draw(settings);
    a.shift_hu = settings.normal(0, 6);
    a.padding = profile.padding;
    a.field_centre = {settings.normal(0, 15), settings.normal(5, 15), 0};
    const float field = profile.field.draw(settings);
    if (field < 250) a.field_of_view = field;
    if (settings.chance(0.4F)) a.low_z = settings.uniform(-115, -55);
    if (settings.chance(0.4F)) a.high_z = settings.uniform(30, 110);
    if (options.edition >= 3 && scene.real_chest.chest >= 0) {  // the scan ends before the chest does
        a.low_z = std::max(a.low_z, scene.real_chest.low_z);
        a.high_z = std::min(a.high_z, scene.real_chest.high_z);
    }
    if (settings.chance(profile.motion)) {
        const float angle = settings.uniform(0, 2 * kPi), reach = settings.uniform(0.8F, 3.5F);
        a.motion = {reach * std::cos(angle), reach * std::sin(angle), settings.normal(0, 0.5F)};
        a.motion_centre = scene.heart.to_scene({5, -10, -20});
    }
    if (settings.chance(profile.slabs)) {
        a.slab = settings.uniform(24, 60);
        a.slab_hu = settings.uniform(5, 25);
    }
    draw_turns(profile, a, turns);
    draw_streaks(scene, a, streaks);
    scene.acquisition = a;
}

}  // namespace cardionode::train
