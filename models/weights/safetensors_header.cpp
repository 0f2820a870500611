#include "models/weights/safetensors.h"
#include "models/weights/tensor_header.h"

namespace cardionode {
namespace {

/// Of a word that the header's check has let pass.
torch::ScalarType dtype_from(const std::string& word) {
    if (word == "F64") return torch::kFloat64;
    if (word == "F16") return torch::kFloat16;
    if (word == "BF16") return torch::kBFloat16;
    if (word == "I64") return torch::kInt64;
    if (word == "I32") return torch::kInt32;
    if (word == "U8") return torch::kUInt8;
    return torch::kFloat32;
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(const std::string& json, std::uint64_t data_bytes,
                                                   const SafetensorsLimits& limits) {
    auto parsed = parse_tensor_header(json, data_bytes,
                                      {.file_bytes = limits.file_bytes,
                                       .header_bytes = limits.header_bytes,
                                       .tensors = limits.tensors,
                                       .dimensions = limits.dimensions,
                                       .name_bytes = limits.name_bytes});
    if (!parsed) return std::move(parsed).error();
    SafetensorsHeader header{std::move(parsed->metadata), {}};
    for (TensorEntry& entry : parsed->entries) {
        header.entries.push_back({std::move(entry.name), dtype_from(entry.dtype), std::move(entry.shape), entry.begin,
                                  entry.begin + entry.bytes});
    }
    return header;
}

}  // namespace cardionode
