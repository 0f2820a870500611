// Phantoms: cardiac CTs drawn from anatomy and chance, with exact labels and landmarks. One seed, one phantom.
//
// A phantom is a scene (anatomy, contrast, scanner; no voxels) that can be rendered on any LPS grid. Scene frame: LPS
// millimetres, origin in the centre of the three cusp nadirs. The root is rigid, so its landmarks are exact; the rest
// of the heart is the atlas shape under an affine map, a smooth deformation and a change of size per chamber.
// No real CT enters: levels and proportions are textbook values, drawn from wide ranges.
// Thread safety: PhantomAtlas is immutable and shared; the functions are pure.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/train/aortic_root.h"
#include "models/train/heart_shape.h"
#include "models/train/real_chest.h"

namespace cardionode::train {

/// What every phantom is drawn from; read once (about 2 s).
struct PhantomAtlas {
    HeartShape heart;
    RootStatistics root;
    std::vector<RealChest> chests;
    Vec heart_centre, apex;  ///< of the four chambers; the left ventricle's; canonical frame
    /// @param folder  holds labels_1mm.nii.gz, aortic_root_shape_stats.json and chests.json with its volumes. Config:
    /// missing or damaged.
    static Result<PhantomAtlas> load(const std::filesystem::path& folder);
};

/// Voxels along the patient's axes: index (d, h, w) lies at origin + spacing * (w, h, d), i.e. (left, back, head).
struct PhantomGrid {
    std::array<int, 3> size{64, 64, 64};  ///< D, H, W
    Vec origin;                           ///< centre of voxel (0, 0, 0), scene mm
    float spacing = 2;
    std::size_t voxels() const { return static_cast<std::size_t>(size[0]) * size[1] * size[2]; }
    static PhantomGrid around(Vec centre, std::array<int, 3> size, float spacing);
};

struct PhantomPoint {
    std::string head, name;  ///< "hps", "hinge_left"
    int value = 0;           ///< label of its head
    Vec at;                  ///< scene mm
    bool inside = false;     ///< of the grid, and of what the scan covers
};

struct Phantom {
    PhantomGrid grid;
    std::vector<float> hu;                           ///< [D, H, W]
    std::vector<std::uint8_t> heart, hps, ms, calc;  ///< labels per head, same layout; values as in kHeads
    /// Coronary arteries, 1; empty before edition 3 (unknown); all 0 without contrast agent. A voxel belongs to an
    /// artery if its centre lies inside, or within 0.55 voxels of the centre line (thin branches stay whole).
    std::vector<std::uint8_t> coronaries;
    std::vector<PhantomPoint> points;  ///< all seven, inside the grid or not
    Vec annulus_normal;                ///< unit, towards the aorta
    bool contrast = true;  ///< false: no contrast agent; hps and ms are then all background (nobody could place them)
    std::string profile;   ///< name of the scanner profile; empty in edition 1, which has none
    std::string phase;     ///< name of the contrast phase; empty in edition 1
};

/// Scanner profiles are split, so that a network can be judged on scanners that it never saw in training.
enum class ProfileSet { Training, HeldOut, All };

struct PhantomOptions {
    /// 1: the first generator; its phantoms never change, so that runs that began with it can be repeated. 2: named
    /// scanner profiles and contrast phases, leaflets as real ones are, dense veins, more dissections. 3: also real
    /// chests round half of the hearts, and the coronary tree with labels. 4: ostia in the sinuses, from which the
    /// arteries leave at right angles to the wall, as they do in patients.
    int edition = 1;
    ProfileSet profiles = ProfileSet::Training;  ///< from edition 2 on: draws from these
    std::string profile;                         ///< from edition 2 on: this profile and no other, if not empty
    std::string phase;                           ///< from edition 2 on: this contrast phase and no other, if not empty
    float ball_radius_mm = 5;                    ///< of hinge points and ostia in `hps`
    float septum_ball_radius_mm = 4;             ///< of the septum points in `ms`
    float non_contrast = 0.06F;                  ///< share of phantoms without contrast agent
};

/// The heads that a phantom labels, and their classes from value 1 on.
struct PhantomHead {
    const char* name;
    std::vector<const char*> classes;
};
const std::vector<PhantomHead>& phantom_heads();

struct PhantomProfile {
    const char* name;
    bool held_out;            ///< training never draws it
    const char* description;  ///< in a few words
};
/// Of edition 2.
const std::vector<PhantomProfile>& phantom_profiles();
/// Names of the contrast phases of edition 2.
const std::vector<std::string>& phantom_phases();

/// The phantom of `seed` on a grid of its own scene frame. A name in options that phantom_profiles() or
/// phantom_phases() does not hold is a defect of the caller: the draw is then as if it were empty.
Phantom draw_phantom(const PhantomAtlas& atlas, std::uint64_t seed, const PhantomGrid& grid,
                     const PhantomOptions& options = {});

/// A training window of the phantom of `seed`: mostly with the root well inside, sometimes elsewhere in the chest.
PhantomGrid training_window(std::uint64_t seed, std::array<int, 3> size, float spacing);
/// A window whose centre lies within jitter_mm, along each axis, of the middle of hinge points and ostia: what a
/// second look sees.
PhantomGrid root_window(std::uint64_t seed, std::array<int, 3> size, float spacing, float jitter_mm);

}  // namespace cardionode::train
