// The head of a .npy v1.0 stream (NumPy's format NEP 1): what stands before the values of a tensor.
//
// Read strictly: no pickled objects, no structured types, no Fortran order, little-endian floats alone. Thread safety:
// pure functions. Errors: Reject with what is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

struct NpyHead {
    std::size_t value_bytes = 4;  ///< 2, 4 or 8: float16, float32, float64
    std::vector<std::int64_t> shape;
    std::size_t bytes = 0;  ///< of the head; values begin here

    std::uint64_t values() const;
};

/// float32 in C order; its length is a multiple of 64.
std::string make_npy_head(const std::vector<std::int64_t>& shape);

/// Bytes from the beginning that are enough for any head.
inline constexpr std::size_t kLongestNpyHead = 10 + 65535;
/// @param bytes  at least the head
Result<NpyHead> parse_npy_head(std::string_view bytes);

/// The number of values; none: negative, or more than 2^40.
Result<std::uint64_t> count_of(const std::vector<std::int64_t>& shape);

}  // namespace cardionode::fed
