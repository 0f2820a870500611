// Files in folders that a hostile hand may change while they are read: by descriptors, never through a link.
//
// Thread safety: functions without shared state. Errors: Reject for what the other side did (links, pipes, sizes, wrong
// hashes, a file that is not there), Config and Retry for the rest as conf/base/files.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "conf/base/files.h"
#include "conf/base/result.h"

namespace cardionode::fed {

/// A folder `name` in `parent`, opened without following a link. Nothing: it is not there.
Result<std::optional<FileDescriptor>> open_folder_in(const std::filesystem::path& parent, const std::string& name);

/// Whether there is anything of that name in the folder.
bool exists_in(const FileDescriptor& folder, const std::string& name);

/// All of a regular file of at most `largest` bytes. Nothing: it is not there.
Result<std::optional<std::string>> read_in(const FileDescriptor& folder, const std::string& name,
                                           std::uint64_t largest);

/// Bytes of a regular file.
Result<std::uint64_t> size_in(const FileDescriptor& folder, const std::string& name);

/// Copies a file out of the folder, durably. `target` appears only when its SHA-256 is `sha256`.
/// @return its bytes
Result<std::uint64_t> copy_from(const FileDescriptor& folder, const std::string& name, std::uint64_t largest,
                                const std::string& sha256, const std::filesystem::path& target);

/// Copies a file into the folder under a name that is not there yet, and syncs it.
/// @return its bytes
Result<std::uint64_t> copy_into(const FileDescriptor& folder, const std::string& name,
                                const std::filesystem::path& source);

}  // namespace cardionode::fed
