// Weights for tests: a safetensors file with known values.
#pragma once

#include <cmath>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/weights/tensor_file.h"

namespace cardionode::test {

struct TestTensor {
    std::string name;
    std::vector<std::int64_t> shape;
    float seed = 0;  ///< value i is sin(seed + i)
};

inline void write_weights(const std::filesystem::path& file, const std::vector<TestTensor>& tensors) {
    std::vector<TensorEntry> entries;
    for (const TestTensor& tensor : tensors) {
        TensorEntry entry;
        entry.name = tensor.name;
        entry.shape = tensor.shape;
        entries.push_back(entry);
    }
    auto writer = TensorFileWriter::create(file, entries);
    if (!writer) throw std::runtime_error(writer.error().message);
    for (std::size_t t = 0; t < tensors.size(); ++t) {
        const std::uint64_t count = entries[t].elements();
        std::vector<float> part;
        for (std::uint64_t i = 0; i < count; ++i) {
            part.push_back(std::sin(tensors[t].seed + static_cast<float>(i % 100'003)));
            if (part.size() < 65536 && i + 1 < count) continue;
            if (auto done = writer->append(std::span<const float>(part)); !done)
                throw std::runtime_error(done.error().message);
            part.clear();
        }
    }
    if (auto done = writer->commit(); !done) throw std::runtime_error(done.error().message);
}

}  // namespace cardionode::test
