// Files that stand beside the checkout (../shared). A test that needs one is skipped loudly where it is absent.
#pragma once

#include <filesystem>

namespace cardionode::test {

inline std::filesystem::path shared(const std::filesystem::path& name) {
    return std::filesystem::path(CARDIONODE_SOURCE_DIR) / ".." / "shared" / name;
}

}  // namespace cardionode::test

/// Skips the test, naming the file, where `path` is absent.
#define CARDIONODE_NEEDS(path)                                                    \
    do {                                                                          \
        if (!std::filesystem::exists(path)) GTEST_SKIP() << "absent: " << (path); \
    } while (false)
