// The 348 bytes at the start of a NIfTI-1 file, and what they say about voxels and patient. Used by nifti.cpp only.
//
// Thread safety: values and pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/read/nifti.h"
#include "pipeline/volume/grid.h"

namespace cardionode::nifti {

inline constexpr std::size_t kHeaderBytes = 348;
inline constexpr std::size_t kFirstVoxel = 352;  ///< four bytes that say "no extension" stand between

/// Codes of `datatype`.
enum class Type : std::int16_t {
    Uint8 = 2,
    Int16 = 4,
    Int32 = 8,
    Float32 = 16,
    Float64 = 64,
    Int8 = 256,
    Uint16 = 512,
    Uint32 = 768,
    Int64 = 1024,
    Uint64 = 1280,
};
/// 0: a type that holds no single number.
std::size_t bytes_of(Type type);

struct Header {
    Grid grid;
    Type type = Type::Int16;
    bool swapped = false;  ///< the other byte order than this machine's
    std::size_t first_voxel = kFirstVoxel;
    double slope = 1, intercept = 0;
    std::vector<std::string> warnings;
};

/// Reject: as read_nifti_ct says, for all that the header can tell.
Result<Header> parse_header(std::span<const std::byte> bytes, std::int64_t min_side, const NiftiLimits& limits);

/// The header of a single file with voxels from kFirstVoxel on, followed by the four bytes of no extension.
/// Reject: an axis of more than 32767 voxels.
Result<std::array<std::byte, kFirstVoxel>> make_header(const Grid& grid, Type type);

}  // namespace cardionode::nifti
