// The checked header of a safetensors file, without torch: what both readers of weights share.
//
// What is checked stands in models/weights/safetensors.h. Thread safety: pure functions. May throw std::bad_alloc.
// Errors: Config, which says which tensor and what is wrong.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "models/weights/tensor_file.h"

namespace cardionode {

/// What a file may hold before it is refused.
struct TensorFileLimits {
    std::uint64_t file_bytes = std::uint64_t{8} << 30;
    std::uint64_t header_bytes = std::uint64_t{16} << 20;
    std::size_t tensors = 100'000;
    std::size_t dimensions = 8;
    std::size_t name_bytes = 512;
};

struct TensorHeader {
    std::map<std::string, std::string> metadata;
    std::vector<TensorEntry> entries;  ///< by `begin`
};

/// Bytes of one element; 0 for a word that names no dtype.
std::uint64_t element_bytes(std::string_view dtype);

/// Checks the JSON text of a header against `data_bytes` bytes of data.
Result<TensorHeader> parse_tensor_header(const std::string& json, std::uint64_t data_bytes,
                                         const TensorFileLimits& limits = {});

}  // namespace cardionode
