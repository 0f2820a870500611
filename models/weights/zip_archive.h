// A file read at offsets, and the table of contents of a zip archive whose entries are stored as they are.
//
// Only what PyTorch writes (APPNOTE.TXT 6.3: one disk, no encryption, no compression, zip64 where needed). Every offset
// and length is checked against the file; the entries together cannot be longer than the file, so overlapping ones
// cannot multiply what is read.
// Thread safety: const functions may run at once. Errors: Config for a missing or damaged file, Retry for I/O trouble.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "conf/base/result.h"

namespace cardionode {

class WeightsFile {
public:
    static Result<WeightsFile> open(const std::filesystem::path& file);
    ~WeightsFile();
    WeightsFile(WeightsFile&& other) noexcept;
    WeightsFile& operator=(WeightsFile&&) = delete;

    std::uint64_t size() const { return size_; }
    /// All of `bytes`, or an error.
    Result<void> read(void* target, std::uint64_t bytes, std::uint64_t offset) const;
    Result<std::string> text(std::uint64_t bytes, std::uint64_t offset) const;

private:
    WeightsFile(int fd, std::uint64_t size) : fd_(fd), size_(size) {}
    int fd_;
    std::uint64_t size_;
};

struct ZipEntry {
    std::uint64_t begin = 0;  ///< of the data, from the start of the file
    std::uint64_t bytes = 0;
    std::uint32_t crc = 0;
};

/// Names and places of all entries.
Result<std::map<std::string, ZipEntry>> read_zip_directory(const WeightsFile& file);

/// CRC-32 of zip (polynomial 0xEDB88320).
std::uint32_t crc32_of(const void* data, std::size_t bytes);

}  // namespace cardionode
