// Reading the small volumes that phantoms are drawn from: NIfTI-1, gzip, little endian, as made for this project.
// (Volumes of others are read by pipeline/read/nifti.h, which checks and turns them.) Thread safety: pure functions.
#pragma once

#include <array>
#include <filesystem>
#include <string>

#include "conf/base/result.h"

namespace cardionode::train {

/// Everything in a .gz file. Config: missing, damaged, or beyond 256 MiB.
Result<std::string> inflate_file(const std::filesystem::path& file);

struct SmallVolume {
    std::array<int, 3> size{};       ///< x, y, z
    std::array<float, 3> spacing{};  ///< mm
    std::string bytes;               ///< the whole file, inflated
    std::size_t offset = 0;          ///< of the first voxel in it; x fastest
};
/// @param type  NIfTI's code of the voxels: 2 uint8, 4 int16. Config: another one, or not a whole NIfTI-1 volume.
Result<SmallVolume> read_small_volume(const std::filesystem::path& file, int type);

}  // namespace cardionode::train
