// What the fuzz targets share: a promise that ends the run when it is broken, and input as a file.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

/// Ends the run, and libFuzzer keeps the input.
#define CARDIONODE_PROMISE(condition)                                                             \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            std::fprintf(stderr, "broken promise: %s (%s:%d)\n", #condition, __FILE__, __LINE__); \
            std::abort();                                                                         \
        }                                                                                         \
    } while (false)

namespace cardionode::fuzz {

inline std::span<const std::byte> bytes_of(const std::uint8_t* data, std::size_t size) {
    return std::as_bytes(std::span(data, size));
}
inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

/// One file in memory whose content is replaced for each input: readers of files get a path.
class InputFile {
public:
    InputFile() : fd_(::memfd_create("fuzz", 0)) { CARDIONODE_PROMISE(fd_ >= 0); }
    const std::filesystem::path& holding(const std::uint8_t* data, std::size_t size) {
        CARDIONODE_PROMISE(::ftruncate(fd_, 0) == 0);
        CARDIONODE_PROMISE(::pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size));
        return path_;
    }

private:
    int fd_;
    std::filesystem::path path_ = "/proc/self/fd/" + std::to_string(fd_);
};

}  // namespace cardionode::fuzz
