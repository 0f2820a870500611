#include "scp/store/spool.h"

#include <cerrno>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scp/store/patient_mark.h"

namespace cardionode {

Result<Spool> prepare_spool(const std::filesystem::path& root, const std::string& sentinel) {
    Spool spool{.root = root, .sentinel = sentinel};
    if (!sentinel.empty() && ::access((root / sentinel).c_str(), F_OK) != 0)
        return config_error(
            fmt::format("the spool folder {} does not hold the file {} (scp.spool_sentinel): is its "
                        "disk mounted? On a new disk, make that file once",
                        root.string(), sentinel));
    const auto unusable = [&](Error error) {
        Error e = std::move(error).in(fmt::format("the spool folder {} cannot be used", root.string()));
        e.kind = ErrorKind::Config;
        return e;
    };
    for (const auto& folder : {spool.ingest(), spool.spare(), spool.instances(), spool.damaged()}) {
        if (auto made = make_folder(folder); !made) return unusable(std::move(made).error());
        const std::filesystem::path probe = folder / ".probe";
        // A full disk is no fault of the installation: the watermark answers it. So nothing is written here.
        const FileDescriptor file(::open(probe.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
        if (!file.valid()) return unusable(file_error("creating", probe, errno));
        if (::fsync(file.get()) != 0) return unusable(file_error("syncing", probe, errno));
        if (::unlink(probe.c_str()) != 0) return unusable(file_error("removing", probe, errno));
    }
    auto key = patient_key(root);
    if (key) spool.patient_key = std::move(key).value();
    else if (key.error().kind != ErrorKind::Retry) return unusable(std::move(key).error());
    // Retry: no room for a key. The spool refuses images for the same reason, and the next start makes it.
    struct stat info {};
    if (::stat(root.c_str(), &info) != 0) return unusable(file_error("looking at", root, errno));
    spool.device = info.st_dev;
    spool.inode = info.st_ino;
    return spool;
}

bool spool_in_place(const Spool& spool) {
    struct stat info {};
    if (spool.inode != 0 &&
        (::stat(spool.root.c_str(), &info) != 0 || info.st_dev != spool.device || info.st_ino != spool.inode))
        return false;
    return spool.sentinel.empty() || ::access((spool.root / spool.sentinel).c_str(), F_OK) == 0;
}

Result<FileDescriptor> take_lock(const std::filesystem::path& file) {
    FileDescriptor fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
    if (!fd.valid()) return file_error("opening", file, errno);
    while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno == EWOULDBLOCK) return retry_error(fmt::format("{} is locked by another process", file.string()));
        return file_error("locking", file, errno);
    }
    return fd;
}

}  // namespace cardionode
