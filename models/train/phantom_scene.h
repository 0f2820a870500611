// Everything about one phantom that is decided before a voxel is drawn. Internal to the phantom.
#pragma once

#include <functional>
#include <vector>

#include "models/train/phantom.h"
#include "models/train/smooth_noise.h"

namespace cardionode::train {

/// What a tube is made of, and how it is labelled.
enum TubeKind {
    kTubeAorta,       ///< label aorta
    kTubeCoronary,    ///< arterial blood, no label
    kTubeArchBranch,  ///< arterial blood, no label
    kTubeCava,        ///< blood of the right atrium, no label
    kTubePulmonaryVein,
    kTubePulmonaryArtery,  ///< beyond the hilum, no label
    kTubeAirway,
    kTubeEsophagus,
    kTubeAzygos,  ///< edition 2, like the rest
    kTubeLead,    ///< of a pacemaker
    kTubeKinds
};

struct TubeNode {
    Vec at;            ///< scene mm
    float radius = 1;  ///< mm
};
struct Tube {
    TubeKind kind{};
    std::vector<TubeNode> nodes;
};

struct Blob {
    Vec at;
    float radius = 1, hu = 800;
    bool valve = false;  ///< belongs to the valve: labelled
};

/// The heart's place: scene -> canonical frame of HeartShape.
struct HeartPlacement {
    Matrix turn;                      ///< scene -> canonical axes
    Vec shrink{1, 1, 1};              ///< canonical mm per scene mm along the canonical axes
    std::array<SmoothNoise, 6> bend;  ///< coarse x, y, z and fine x, y, z
    float bend_coarse = 5, bend_fine = 2;
    Vec bend_at_origin{};

    Vec to_canonical(Vec scene) const;
    /// Inverse by fixed-point iteration; the bending is gentle enough to converge.
    Vec to_scene(Vec canonical) const;
    Vec bend_of(Vec scene) const;
};

struct ChestShape {
    float middle = -8, front = -78, spine = 92;  ///< midline x, inner front wall y, centre of the vertebrae y
    float half_width = 125;                      ///< of the thoracic cavity
    float fat = 15, muscle = 18;                 ///< of the wall, mm
    float rib_pitch = 30, rib_phase = 0, rib_slope = 0.5F, vertebra_pitch = 28, vertebra_phase = 0,
          vertebra_radius = 19;
    float dome_right = -28, dome_left = -45;  ///< diaphragm
    float mediastinum_front = 12, mediastinum_back = 22, mediastinum_top = 34;
    float table = 30;  ///< gap between back and table
    bool emphysema = false;
};

struct TissueLevels {  // HU
    float lv = 350, la = 350, aorta = 360, rv = 150, ra = 150, pa = 200, cava = 150;
    float myocardium = 100, soft = 50, fat = -100, lung = -850, liver = 90, bone = 600, marrow = 200;
    float mixing_ra = 0, mixing_rv = 0, mixing_cava = 0;  ///< amplitude of uneven contrast
    float sd_texture = 8;
    float cava_low = 90, azygos = 60;  ///< edition 2: lower caval vein; azygos vein
};

struct Dissection {
    bool present = false, stent = false;
    float from_z = 0, to_z = 0, angle = 0, offset = 0, false_lumen = 0.8F;  ///< of the descending part
    float stent_hu = 1200, stent_pitch = 9, stent_phase = 0;
    float stent_from_z = 0, stent_to_z = 0;
    float twist = 0.02F;
};

struct Streak {
    Vec at;
    float angle = 0, width = 3, strength = 60;
    float half_height = 12;  ///< edition 2: along z, mm
};

struct Acquisition {
    float blur = 0.5F, blur_z = 0;  ///< sd in mm
    float sharpen = 0;
    float noise = 20, noise_grain = 0.7F;  ///< sd in HU after filtering; sd of the grain in mm
    float field_of_view = 1e6F, padding = -1024;
    Vec field_centre;
    float shift_hu = 0, step_at = 1e6F;  ///< a slab above step_at is displaced (gating)
    Vec step;
    std::vector<Streak> streaks;
    float low_z = -1e6F, high_z = 1e6F;  ///< of the scan: beyond is padding

    // Edition 2.
    float sharpen_mm = 1.4F;      ///< sd of the unsharp mask
    float noise_blue = 0;         ///< share of low frequencies taken out of the noise
    float noise_rows = 0;         ///< share of noise smeared along x, as between the shoulders
    float noise_middle = 0;       ///< more noise in the middle of the body, by this share
    Vec motion, motion_centre;    ///< path of the beating heart during a slice, mm
    float slab = 0, slab_hu = 0;  ///< height of a gantry turn's slab; sd of its level
    float cupping = 0;            ///< HU lost in the middle of the body
    std::vector<float> turn_z;    ///< from these heights on the heart lies displaced ...
    std::vector<Vec> turn_step;   ///< ... by these steps, in addition to those below
    /// Where the anatomy that is seen at p lies in the scene: gating steps, image and labels alike.
    Vec source_of(Vec p) const {
        const float z = p.z;
        for (std::size_t i = 0; i < turn_z.size() && z > turn_z[i]; ++i) p = p - turn_step[i];
        return p;
    }
    /// The inverse: where a place of the scene is seen.
    Vec seen_at(Vec p) const {
        for (std::size_t i = 0; i < turn_z.size() && p.z + turn_step[i].z > turn_z[i]; ++i) p = p + turn_step[i];
        return p;
    }
};

/// The valve of edition 2, in root coordinates: three cusps that hang from their crowns and meet in the middle.
struct ValveShape {
    bool open = false;                             ///< systole: the cusps lie along the wall
    float half_thickness = 0.5F, free_margin = 3;  ///< mm; height of the coaptation
    float belly = 1.5F;                            ///< exponent of the cusp's profile
};

struct Scene {
    std::uint64_t seed = 0;
    HeartPlacement heart;
    std::array<float, kChambers> grow{};  ///< mm by which a chamber is larger
    float wall_lv = 10, septum = 9, wall_thin = 2.2F, pericardial_fat = 8;
    AorticRoot root;
    Matrix root_frame;  ///< scene -> root frame
    ChestShape chest;
    ChestPlacement real_chest;  ///< edition 3
    TissueLevels levels;
    Dissection dissection;
    Acquisition acquisition;
    std::vector<Tube> tubes;
    std::vector<Blob> blobs;
    float leaflet_thickness = 1, leaflet_hu = 90;
    bool contrast = true;
    int edition = 1;
    ValveShape valve;
    std::string profile, phase;
};

Scene sample_scene(const PhantomAtlas& atlas, std::uint64_t seed, const PhantomOptions& options);
/// The vessels of a scene whose heart, root and chest are drawn already.
void sample_vessels(Scene& scene, Random& random);
/// Edition 2: blood, phase and disease (before the vessels are drawn), then what depends on the vessels.
void refine_blood(Scene& scene, const PhantomOptions& options);
void refine_vessels(Scene& scene);
/// Edition 2: the scanner, by its profile.
void refine_acquisition(Scene& scene, const PhantomOptions& options);
/// Edition 2: distance in mm to the nearest leaflet at a place in root coordinates (large outside the root).
float valve_distance(const AorticRoot& root, const ValveShape& valve, Vec in_root);
/// A place on a leaflet, in root coordinates; angle about z, rho 0 (middle) to 1 (hinge).
Vec valve_place(const AorticRoot& root, const ValveShape& valve, float angle, float rho);
/// Distance in mm to the outer surface of the heart with its great vessels' stumps and the root, muscle included.
/// Keeps references to both.
std::function<float(Vec)> heart_surface(const PhantomAtlas& atlas, const Scene& scene);
/// Edition 3: the coronary arteries with their branches, in place of those of sample_vessels.
void draw_coronary_tree(const PhantomAtlas& atlas, Scene& scene);
/// Edition 3: a real chest round half of the hearts.
void place_real_chest(const PhantomAtlas& atlas, Scene& scene);
/// CT number of the drawn chest without the heart at a place, noise-free.
float chest_hu(const Scene& scene, Vec at);
/// The same of the scene's real chest.
float real_chest_hu(const RealChest& chest, const Scene& scene, Vec at);

}  // namespace cardionode::train
