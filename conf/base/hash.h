// SHA-256 of bytes and files (OpenSSL inside). Lower-case hex, 64 characters.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "conf/base/result.h"

namespace cardionode {

/// Incremental SHA-256. Not safe for use from two threads at once; movable.
class Sha256 {
public:
    Sha256();
    ~Sha256();
    Sha256(Sha256&&) noexcept;
    Sha256& operator=(Sha256&&) noexcept;

    Sha256& update(std::span<const std::byte> bytes);
    Sha256& update(std::string_view text);
    /// Ends the computation; the object may not be updated afterwards.
    std::array<std::byte, 32> digest();
    std::string hex_digest();

private:
    struct State;
    std::unique_ptr<State> state_;
};

std::string to_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);
/// Reads the file in pieces of 1 MiB. Config: the file cannot be read.
Result<std::string> sha256_of_file(const std::filesystem::path& path);

}  // namespace cardionode
