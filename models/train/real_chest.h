// Real chests as surroundings of drawn hearts (edition 3): lungs, ribs, spine, wall, abdomen and table of two public
// CTs, the heart and everything else between the lungs marked as hollow. shapes/README.md says where they come from.
//
// Thread safety: immutable after loading.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "conf/base/result.h"
#include "models/train/smooth_noise.h"
#include "models/train/vec.h"

namespace cardionode::train {

class RealChest {
public:
    /// Every chest of chests.json. Config: missing or damaged.
    static Result<std::vector<RealChest>> load_all(const std::filesystem::path& folder);

    struct Sample {
        float hu = -1000;
        float hollow = 0;  ///< share, 0 to 1: belongs to what was taken out
    };
    /// Trilinear. Beyond the sides: air; beyond top and bottom the last slice goes on.
    Sample at(Vec voxel) const;

    static constexpr float kSpacing = 2;  ///< mm
    Vec heart, heart_half;                ///< voxels: centre and half the extent of the heart that was there
    float spine_x = 0, spine_y = 0;       ///< voxels: centre of the vertebrae
    float lung_hu = -880;
    int slices() const { return size_[2]; }

private:
    std::array<int, 3> size_{};
    std::vector<std::int16_t> packed_;  ///< 2 * round(HU / 16), plus 1 where hollow
};

/// A chest round a scene.
struct ChestPlacement {
    int chest = -1;         ///< which; -1: none, the chest is drawn
    bool mirrored = false;  ///< about its spine; the heart never is
    Vec scale{1, 1, 1};     ///< of the chest
    float middle = 0;       ///< scene x of the spine
    Vec heart;              ///< scene place of the heart's centre
    std::array<SmoothNoise, 3> bend;
    float bend_mm = 0;
    float low_z = 0, high_z = 0;  ///< scene heights between which the chest is known
    Vec to_voxel(const RealChest& chest, Vec scene) const;
};

}  // namespace cardionode::train
