// Files that survive a power cut: descriptors that close themselves, writes that are on disk when they return.
//
// POSIX only. Every function is thread safe as long as two calls do not name the same path.
// Errors: Retry for a full disk or quota (ENOSPC, EDQUOT) and other I/O trouble, Config for a missing or forbidden
// path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

/// Owns a file descriptor.
class FileDescriptor {
public:
    FileDescriptor() = default;
    explicit FileDescriptor(int fd) : fd_(fd) {}
    ~FileDescriptor() { reset(); }
    FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    int get() const noexcept { return fd_; }
    bool valid() const noexcept { return fd_ >= 0; }
    int release() noexcept { return std::exchange(fd_, -1); }
    void reset() noexcept;

private:
    int fd_ = -1;
};

/// Turns errno into an Error whose message names what was done and to which path.
Error file_error(std::string_view doing, const std::filesystem::path& path, int error_number);

Result<std::string> read_file(const std::filesystem::path& path);

/// Writes all bytes at the descriptor's position. Retry: disk full or I/O error.
Result<void> write_all(int fd, std::span<const std::byte> bytes, const std::filesystem::path& path_for_messages);

/// fsync of a folder, so that names made or removed in it survive a power cut.
Result<void> sync_folder(const std::filesystem::path& folder);

/// Writes `path` so that after success the content and the name are durable, and after a crash either the old
/// file or the new one is there: temporary file beside it, fsync, rename, fsync of the folder.
Result<void> write_file_durably(const std::filesystem::path& path, std::span<const std::byte> bytes);
Result<void> write_file_durably(const std::filesystem::path& path, std::string_view text);

/// Makes the folder and its parents and syncs them. No error when it is there already.
Result<void> make_folder(const std::filesystem::path& folder);

/// Free bytes for this user on the file system that holds `path`.
Result<std::uint64_t> free_bytes(const std::filesystem::path& path);

}  // namespace cardionode
