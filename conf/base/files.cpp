#include "conf/base/files.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace cardionode {

void FileDescriptor::reset() noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

Error file_error(std::string_view doing, const std::filesystem::path& path, int error_number) {
    const bool installation = error_number == ENOENT || error_number == EACCES || error_number == EROFS ||
                              error_number == EPERM || error_number == ENOTDIR || error_number == EISDIR;
    return {installation ? ErrorKind::Config : ErrorKind::Retry,
            fmt::format("{} {}: {}", doing, path.string(), std::strerror(error_number))};
}

Result<std::string> read_file(const std::filesystem::path& path) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return file_error("reading", path, errno);
    std::string out;
    char buffer[65536];
    while (true) {
        const ssize_t n = ::read(file.get(), buffer, sizeof buffer);
        if (n == 0) return out;
        if (n < 0) {
            if (errno == EINTR) continue;
            return file_error("reading", path, errno);
        }
        out.append(buffer, static_cast<std::size_t>(n));
    }
}

Result<void> write_all(int fd, std::span<const std::byte> bytes, const std::filesystem::path& path_for_messages) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd, bytes.data(), bytes.size());
        if (n < 0) {
            if (errno == EINTR) continue;
            return file_error("writing", path_for_messages, errno);
        }
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

Result<void> sync_folder(const std::filesystem::path& folder) {
    const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return file_error("opening folder", folder, errno);
    if (::fsync(fd.get()) != 0) return file_error("syncing folder", folder, errno);
    return {};
}

Result<void> write_file_durably(const std::filesystem::path& path, std::span<const std::byte> bytes) {
    const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
    std::string temporary = (folder / ("." + path.filename().string() + ".XXXXXX")).string();
    FileDescriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!file.valid()) return file_error("creating a temporary file for", path, errno);
    const auto give_up = [&](Error error) {
        ::unlink(temporary.c_str());
        return error;
    };
    if (auto written = write_all(file.get(), bytes, path); !written) return give_up(std::move(written).error());
    if (::fchmod(file.get(), 0640) != 0) return give_up(file_error("setting the mode of", path, errno));
    if (::fsync(file.get()) != 0) return give_up(file_error("syncing", path, errno));
    if (::rename(temporary.c_str(), path.c_str()) != 0) return give_up(file_error("renaming to", path, errno));
    return sync_folder(folder);
}

Result<void> write_file_durably(const std::filesystem::path& path, std::string_view text) {
    return write_file_durably(path, std::as_bytes(std::span(text.data(), text.size())));
}

Result<void> make_folder(const std::filesystem::path& folder) {
    std::error_code error;
    if (std::filesystem::is_directory(folder, error)) return {};
    const std::filesystem::path parent = std::filesystem::absolute(folder, error).lexically_normal().parent_path();
    if (!std::filesystem::is_directory(parent, error)) {
        if (auto made = make_folder(parent); !made) return made;
    }
    if (::mkdir(folder.c_str(), 0750) != 0 && errno != EEXIST) return file_error("making folder", folder, errno);
    return sync_folder(parent);
}

Result<std::uint64_t> free_bytes(const std::filesystem::path& path) {
    struct statvfs info {};
    if (::statvfs(path.c_str(), &info) != 0) return file_error("asking for free space of", path, errno);
    return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace cardionode
