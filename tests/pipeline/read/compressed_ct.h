// Writes CT files whose pixels are JPEG 2000 codestreams made by the test, cut into fragments as the test says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "tests/support/synthetic_ct.h"

namespace cardionode::test {

/// A lossless JPEG 2000 codestream of one grey image.
std::vector<std::uint8_t> jpeg_2000(const std::vector<std::int32_t>& values, int columns, int rows, int precision,
                                    bool is_signed);

struct Encapsulated {
    std::vector<std::vector<std::uint8_t>> fragments;
    std::vector<std::uint32_t> offset_table;  ///< may be empty
};

/// `bytes` in pieces of at most `piece` bytes (even).
std::vector<std::vector<std::uint8_t>> cut(const std::vector<std::uint8_t>& bytes, std::size_t piece);

/// Replaces the pixels of an uncompressed file by encapsulated ones, as transfer syntax `uid`.
void encapsulate(const std::filesystem::path& file, const Encapsulated& pixels, const char* uid);

}  // namespace cardionode::test
