// Small safetensors files for tests: written from lists of numbers, read back as lists of numbers.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/weights/tensor_file.h"

namespace cardionode::test {

using Weights = std::map<std::string, std::vector<float>>;  ///< one-dimensional F32 tensors

/// @param integers  I64 tensors
inline void write_weights(const std::filesystem::path& file, const Weights& weights,
                          const std::map<std::string, std::vector<std::int64_t>>& integers = {}) {
    std::vector<TensorEntry> entries;
    for (const auto& [name, values] : weights)
        entries.push_back({name, "F32", {static_cast<std::int64_t>(values.size())}});
    for (const auto& [name, values] : integers)
        entries.push_back({name, "I64", {static_cast<std::int64_t>(values.size())}});
    auto writer = TensorFileWriter::create(file, entries);
    ASSERT_TRUE(writer.ok()) << writer.error().message;
    for (const auto& [name, values] : weights) ASSERT_TRUE(writer->append(std::span<const float>(values)).ok());
    for (const auto& [name, values] : integers)
        ASSERT_TRUE(writer->append(std::as_bytes(std::span<const std::int64_t>(values))).ok());
    const auto done = writer->commit();
    ASSERT_TRUE(done.ok()) << done.error().message;
}

/// The F32 tensors of a file; an empty map and a failed test if it cannot be read.
inline Weights read_weights(const std::filesystem::path& file) {
    Weights weights;
    const auto opened = TensorFile::open(file);
    EXPECT_TRUE(opened.ok()) << (opened.ok() ? "" : opened.error().message);
    if (!opened.ok()) return weights;
    for (const auto& entry : opened->entries())
        if (entry.dtype == "F32") weights[entry.name] = opened->floats(entry).value();
    return weights;
}

}  // namespace cardionode::test
