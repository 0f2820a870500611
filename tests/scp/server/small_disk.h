// A small file system for tests that need a full or a read-only disk.
//
// Thread safety: one object belongs to one thread.
#pragma once

#include <sys/mount.h>

#include <filesystem>
#include <string>

namespace cardionode::test {

/// Is there for the life of the object, where the test may mount one.
class SmallDisk {
public:
    SmallDisk(const std::filesystem::path& folder, const std::string& size) : folder_(folder) {
        std::filesystem::create_directories(folder);
        mounted_ = ::mount("tmpfs", folder.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    }
    ~SmallDisk() {
        if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
    }
    bool mounted() const { return mounted_; }
    bool make_read_only() const {
        return ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0;
    }

private:
    std::filesystem::path folder_;
    bool mounted_ = false;
};

}  // namespace cardionode::test
