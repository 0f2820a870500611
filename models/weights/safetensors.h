// Reading and writing safetensors files: named tensors, nothing that could run.
//
// Layout: u64 little-endian length of the header, JSON header {name: {dtype, shape, data_offsets}}, raw data; the text
// values of "__metadata__" ride along (https://github.com/huggingface/safetensors, "Format").
// Reading is strict, because weights come over a network: the header's length, each dtype, shape and byte range are
// checked before anything of that size is allocated; ranges must follow one another without gap or overlap and end with
// the file; a name may occur once. The file is streamed, not mapped: one that is truncated meanwhile is an error, never
// a signal. dtypes: F64, F32, F16, BF16, I64, I32, U8.
// Thread safety: functions without shared state. torch exceptions do not leave them.
// Errors: Config for a missing, forbidden or damaged file; Retry for I/O trouble, a full disk or full memory.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

/// Tensors by name, in the bytewise order of the names.
using NamedTensors = std::map<std::string, torch::Tensor>;

struct Safetensors {
    std::map<std::string, std::string> metadata;
    NamedTensors tensors;  ///< contiguous, on the CPU, dtype as stored
};

/// What a file may hold before it is refused.
struct SafetensorsLimits {
    std::uint64_t file_bytes = std::uint64_t{8} << 30;
    std::uint64_t header_bytes = std::uint64_t{16} << 20;
    std::size_t tensors = 100'000;
    std::size_t dimensions = 8;
    std::size_t name_bytes = 512;
};

/// One entry of a checked header. `begin` and `end` count bytes from the end of the header.
struct SafetensorsEntry {
    std::string name;
    torch::ScalarType dtype = torch::kFloat32;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0, end = 0;
};

struct SafetensorsHeader {
    std::map<std::string, std::string> metadata;
    std::vector<SafetensorsEntry> entries;  ///< by `begin`
};

/// Checks the JSON text of a header against `data_bytes` bytes of data. Config: says which tensor and what is wrong.
Result<SafetensorsHeader> parse_safetensors_header(const std::string& json, std::uint64_t data_bytes,
                                                   const SafetensorsLimits& limits = {});

/// Reads all tensors, or those whose name starts with `prefix` (the name is kept whole).
Result<Safetensors> read_safetensors(const std::filesystem::path& file, const std::string& prefix = {},
                                     const SafetensorsLimits& limits = {});

/// Writes the tensors, durably and atomically: after success name and content survive a power cut; after a crash the
/// old file or the new one is there. Tensors on any device, any layout; they are written contiguous.
/// Bug: a dtype that is not listed above, or an undefined tensor.
Result<void> write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                               const std::map<std::string, std::string>& metadata = {});

}  // namespace cardionode
