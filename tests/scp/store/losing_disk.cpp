#include "tests/scp/store/losing_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

enum class Kind { Data, Made, Renamed, Removed };

struct Change {
    Kind kind = Kind::Data;
    ino_t inode = 0;                // Data
    off_t offset = 0, size = 0;     // Data: where, and how long the file was
    std::vector<char> before = {};  // Data
    ino_t folder = 0, folder2 = 0;  // names
    std::string path = {}, path2 = {};
};

std::string root, stash;
long changes_left = -1;
int stashed = 0;
std::vector<Change> changes;
std::map<ino_t, int> files;  // own descriptors, which outlive a rename

int real_open(const char* path, int flags, mode_t mode = 0) {
    return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

bool watched(const char* path) { return changes_left >= 0 && std::strncmp(path, root.c_str(), root.size()) == 0; }

/// none (0): not one of ours
ino_t watched(int fd) {
    if (changes_left < 0) return 0;
    char path[PATH_MAX];
    const ssize_t n = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = '\0';
    struct stat info {};
    if (!watched(path) || ::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return 0;
    // SQLite's shared memory is rebuilt at the next start.
    if (std::string_view(path).ends_with("-shm")) return 0;
    if (!files.contains(info.st_ino)) files[info.st_ino] = real_open(path, O_RDWR | O_CLOEXEC);
    return info.st_ino;
}

ino_t folder_of(const std::string& path) {
    struct stat info {};
    return ::stat(path.substr(0, path.rfind('/')).c_str(), &info) == 0 ? info.st_ino : 0;
}

[[noreturn]] void power_cut() {
    while (!changes.empty()) {
        const Change c = std::move(changes.back());
        changes.pop_back();
        switch (c.kind) {
            case Kind::Data:
                if (!c.before.empty())
                    ::syscall(SYS_pwrite64, files[c.inode], c.before.data(), c.before.size(), c.offset);
                ::syscall(SYS_ftruncate, files[c.inode], c.size);
                break;
            case Kind::Made: ::syscall(SYS_unlink, c.path.c_str()); break;
            case Kind::Renamed: ::syscall(SYS_rename, c.path2.c_str(), c.path.c_str()); break;
            case Kind::Removed: ::syscall(SYS_rename, c.path2.c_str(), c.path.c_str()); break;
        }
    }
    ::_exit(cardionode::test::kPowerIsOut);
}

void count() {
    if (changes_left == 0) power_cut();
    --changes_left;
}

void note_data(int fd, ino_t inode, off_t offset, std::size_t bytes) {
    struct stat info {};
    ::fstat(fd, &info);
    Change c;
    c.inode = inode;
    c.offset = offset;
    c.size = info.st_size;
    if (offset < info.st_size) {
        c.before.resize(std::min<std::size_t>(bytes, static_cast<std::size_t>(info.st_size - offset)));
        const auto n = ::syscall(SYS_pread64, files[inode], c.before.data(), c.before.size(), offset);
        c.before.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    }
    changes.push_back(std::move(c));
}

/// Before a write of `bytes` at `offset`.
void before_write(int fd, off_t offset, std::size_t bytes) {
    const ino_t inode = watched(fd);
    if (inode == 0) return;
    count();
    note_data(fd, inode, offset, bytes);
}

/// The real disk need not be troubled: what counts is what this one forgets.
int synced(int fd, long system_call) {
    struct stat info {};
    if (changes_left < 0 || ::fstat(fd, &info) != 0) return static_cast<int>(::syscall(system_call, fd));
    std::erase_if(changes, [&](const Change& c) {
        if (c.kind == Kind::Data) return S_ISREG(info.st_mode) && c.inode == info.st_ino;
        return S_ISDIR(info.st_mode) && (c.folder == info.st_ino || c.folder2 == info.st_ino);
    });
    return 0;
}

int open_noted(const char* path, int flags, mode_t mode) {
    struct stat info {};
    const bool makes = (flags & O_CREAT) != 0 && watched(path) && ::stat(path, &info) != 0;
    if (makes) count();
    const int fd = real_open(path, flags, mode);
    if (makes && fd >= 0 && !std::string_view(path).ends_with("-shm"))
        changes.push_back({.kind = Kind::Made, .folder = folder_of(path), .path = path});
    return fd;
}

std::size_t sum(const iovec* parts, int n) {
    std::size_t bytes = 0;
    for (int i = 0; i < n; ++i) bytes += parts[i].iov_len;
    return bytes;
}

}  // namespace

namespace cardionode::test {

void lose_power_after(const std::filesystem::path& folder, const std::filesystem::path& kept, long most) {
    root = folder.string();
    stash = kept.string();
    changes_left = most;
}

}  // namespace cardionode::test

extern "C" {

int open(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_noted(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_noted(path, flags, mode);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
    before_write(fd, offset, bytes);
    return ::syscall(SYS_pwrite64, fd, data, bytes, offset);
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t offset) { return pwrite(fd, data, bytes, offset); }
ssize_t pwritev(int fd, const iovec* parts, int n, off_t offset) {
    before_write(fd, offset, sum(parts, n));
    return ::syscall(SYS_pwritev, fd, parts, n, offset, 0);
}
ssize_t pwritev64(int fd, const iovec* parts, int n, off64_t offset) { return pwritev(fd, parts, n, offset); }
ssize_t write(int fd, const void* data, size_t bytes) {
    before_write(fd, ::lseek(fd, 0, SEEK_CUR), bytes);
    return ::syscall(SYS_write, fd, data, bytes);
}
ssize_t copy_file_range(int from, off64_t* at, int to, off64_t* to_at, size_t bytes, unsigned flags) {
    before_write(to, to_at ? *to_at : ::lseek(to, 0, SEEK_CUR), bytes);
    return ::syscall(SYS_copy_file_range, from, at, to, to_at, bytes, flags);
}
int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    before_write(fd, offset, 0);
    return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, bytes));
}
int fallocate64(int fd, int mode, off64_t offset, off64_t bytes) { return fallocate(fd, mode, offset, bytes); }
int ftruncate(int fd, off_t size) {
    struct stat info {};
    if (::fstat(fd, &info) == 0)
        before_write(fd, size, info.st_size > size ? static_cast<size_t>(info.st_size - size) : 0);
    return static_cast<int>(::syscall(SYS_ftruncate, fd, size));
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }
int rename(const char* from, const char* to) {
    const bool ours = watched(from);
    if (ours) count();
    const int result = static_cast<int>(::syscall(SYS_rename, from, to));
    if (ours && result == 0)
        changes.push_back(
            {.kind = Kind::Renamed, .folder = folder_of(from), .folder2 = folder_of(to), .path = from, .path2 = to});
    return result;
}
int unlink(const char* path) {
    if (!watched(path) || std::string_view(path).ends_with("-shm"))
        return static_cast<int>(::syscall(SYS_unlink, path));
    count();
    const std::string kept = stash + "/" + std::to_string(stashed++);
    ::syscall(SYS_link, path, kept.c_str());
    const int result = static_cast<int>(::syscall(SYS_unlink, path));
    if (result == 0) changes.push_back({.kind = Kind::Removed, .folder = folder_of(path), .path = path, .path2 = kept});
    return result;
}

}  // extern "C"
