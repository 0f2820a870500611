#include "fedclient/flower/dir_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <utility>
#include <vector>

#include "conf/base/hash.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPiece = std::size_t{1} << 20;

struct OpenFile {
    FileDescriptor file;
    std::uint64_t bytes = 0;
};

/// A regular file in a foreign folder. Nothing: it is not there.
Result<std::optional<OpenFile>> open_in(const FileDescriptor& folder, const std::string& name, std::uint64_t largest) {
    FileDescriptor file(::openat(folder.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file.valid()) {
        if (errno == ENOENT) return std::optional<OpenFile>();
        if (errno == ELOOP) return reject_error(name + ": is a link, which is not followed");
        if (errno == ENXIO) return reject_error(name + ": not a regular file");
        return file_error("reading", name, errno);
    }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return file_error("reading", name, errno);
    if (!S_ISREG(status.st_mode)) return reject_error(name + ": not a regular file");
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    if (bytes > largest) {
        return reject_error(name + ": " + std::to_string(bytes) + " bytes, at most " + std::to_string(largest) +
                            " are taken");
    }
    return std::optional<OpenFile>(OpenFile{std::move(file), bytes});
}

/// All bytes up to the end, piece by piece; more than `largest` are an error, however large the file said it was.
template <class Use>
Result<std::uint64_t> read_pieces(const FileDescriptor& file, const std::string& name, std::uint64_t largest, Use use) {
    std::vector<std::byte> piece(kPiece);
    std::uint64_t total = 0;
    for (;;) {
        const ssize_t got = ::read(file.get(), piece.data(), piece.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return file_error("reading", name, errno);
        if (got == 0) return total;
        total += static_cast<std::uint64_t>(got);
        if (total > largest) return reject_error(name + ": grew while it was read");
        if (auto used = use(std::span(piece).first(static_cast<std::size_t>(got))); !used)
            return std::move(used).error();
    }
}

}  // namespace

Result<std::optional<FileDescriptor>> open_folder_in(const fs::path& parent, const std::string& name) {
    const FileDescriptor above(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!above.valid()) return file_error("opening folder", parent, errno);
    FileDescriptor folder(::openat(above.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (folder.valid()) return std::optional<FileDescriptor>(std::move(folder));
    if (errno == ENOENT) return std::optional<FileDescriptor>();
    if (errno == ELOOP || errno == ENOTDIR) return reject_error("not a folder, or a link, which is not followed");
    return file_error("opening folder", parent / name, errno);
}

bool exists_in(const FileDescriptor& folder, const std::string& name) {
    struct stat status {};
    return ::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<std::optional<std::string>> read_in(const FileDescriptor& folder, const std::string& name,
                                           std::uint64_t largest) {
    const auto file = open_in(folder, name, largest);
    if (!file) return Error(file.error());
    if (!*file) return std::optional<std::string>();
    std::string text;
    const auto read = read_pieces((*file)->file, name, largest, [&](std::span<const std::byte> piece) -> Result<void> {
        text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        return {};
    });
    if (!read) return Error(read.error());
    return std::optional<std::string>(std::move(text));
}

Result<std::uint64_t> size_in(const FileDescriptor& folder, const std::string& name) {
    const auto file = open_in(folder, name, ~std::uint64_t{0});
    if (!file) return Error(file.error());
    if (!*file) return reject_error(name + ": is not there");
    return (*file)->bytes;
}

Result<std::uint64_t> copy_from(const FileDescriptor& folder, const std::string& name, std::uint64_t largest,
                                const std::string& sha256, const fs::path& target) {
    const auto file = open_in(folder, name, largest);
    if (!file) return Error(file.error());
    if (!*file) return reject_error(name + ": is not there");
    const fs::path part = target.string() + ".part";
    const auto give_up = [&](Error error) {
        ::unlink(part.c_str());
        return error;
    };
    // The node's own folder: what a killed process left there is overwritten.
    FileDescriptor out(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640));
    if (!out.valid()) return file_error("writing", target, errno);
    Sha256 hash;
    const auto copied =
        read_pieces((*file)->file, name, largest, [&](std::span<const std::byte> piece) -> Result<void> {
            hash.update(piece);
            return write_all(out.get(), piece, target);
        });
    if (!copied) return give_up(Error(copied.error()));
    if (hash.hex_digest() != sha256) return give_up(reject_error(name + ": its SHA-256 is not the one in SHA256SUMS"));
    if (::fsync(out.get()) != 0) return give_up(file_error("syncing", target, errno));
    if (::rename(part.c_str(), target.c_str()) != 0) return give_up(file_error("renaming to", target, errno));
    if (auto synced = sync_folder(target.parent_path()); !synced) return std::move(synced).error();
    return *copied;
}

Result<std::uint64_t> copy_into(const FileDescriptor& folder, const std::string& name, const fs::path& source) {
    const FileDescriptor in(::open(source.c_str(), O_RDONLY | O_CLOEXEC));
    if (!in.valid()) return file_error("reading", source, errno);
    const FileDescriptor out(
        ::openat(folder.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640));
    if (!out.valid()) return file_error("writing", name, errno);
    auto copied = read_pieces(in, source.string(), ~std::uint64_t{0},
                              [&](std::span<const std::byte> piece) { return write_all(out.get(), piece, name); });
    if (!copied) return copied;
    if (::fsync(out.get()) != 0) return file_error("syncing", name, errno);
    return *copied;
}

}  // namespace cardionode::fed
