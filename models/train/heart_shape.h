// The anatomy behind the phantoms: signed distances to six blood pools of one normal heart.
//
// Source of the shape: Toronto Heart Atlas (Mashari et al.), CC BY 4.0, labels_1mm.nii.gz (1 LV, 2 RV, 3 LA, 4 RA,
// 5 aorta, 6 pulmonary artery). The file's header says RAS, but its voxel axes run to the patient's RIGHT, HEAD and
// BACK (the left atrium lies at high k, the ventricles' apex at low j, the right atrium at high i); that frame is
// right-handed, so the heart is not mirrored, only turned. Here it is brought to LPS; a test holds the anatomy.
// Canonical frame: LPS millimetres, origin in the centre of the shape's own three cusp nadirs.
// Thread safety: immutable after loading; share by const reference.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "conf/base/result.h"
#include "models/train/vec.h"

namespace cardionode::train {

/// Order of the channels of HeartShape::distances.
enum Chamber { kLv, kRv, kLa, kRa, kAo, kPa, kChambers };

class HeartShape {
public:
    /// Reads labels_1mm.nii.gz. Config: missing, damaged, or not uint8 of 1 mm.
    static Result<HeartShape> load(const std::filesystem::path& folder);

    /// Signed distance in mm to each pool's wall, negative inside; outside the shape's box a lower bound grows with
    /// the distance to the box.
    std::array<float, 8> distances(Vec canonical) const;

    /// Of the shape's own aortic root: unit normal of the nadirs' plane towards the aorta, and the direction in it
    /// from the centre to the right cusp's nadir. Measured once on the labels (lowest points of the three sinuses).
    static Vec root_axis() { return {-0.539F, -0.308F, 0.784F}; }
    static Vec root_right_cusp() { return {0.21F, -0.95F, -0.23F}; }

private:
    std::array<int, 3> size_{};  ///< x, y, z of the 2 mm table
    std::vector<float> table_;   ///< [z][y][x][8]
};

}  // namespace cardionode::train
