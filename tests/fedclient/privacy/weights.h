// Small safetensors files for tests.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/weights/tensor_file.h"

namespace cardionode::fed::test {

using Weights = std::map<std::string, std::vector<float>>;

inline void write_weights(const std::filesystem::path& file, const Weights& weights,
                          const std::map<std::string, std::string>& metadata = {}) {
    std::vector<TensorEntry> entries;
    for (const auto& [name, values] : weights) entries.push_back({name, "F32", {static_cast<long>(values.size())}});
    auto writer = TensorFileWriter::create(file, entries, metadata);
    ASSERT_TRUE(writer.ok()) << writer.error().message;
    for (const auto& [name, values] : weights) ASSERT_TRUE(writer->append(std::span<const float>(values)).ok());
    ASSERT_TRUE(writer->commit().ok());
}

inline Weights read_weights(const std::filesystem::path& file) {
    Weights weights;
    const auto opened = TensorFile::open(file);
    if (!opened) {
        ADD_FAILURE() << opened.error().message;
        return weights;
    }
    for (const TensorEntry& entry : opened->entries()) weights[entry.name] = opened->floats(entry).value();
    return weights;
}

}  // namespace cardionode::fed::test
