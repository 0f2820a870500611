#include "scp/store/spares.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cardionode {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kExtension = ".spare";
constexpr std::string_view kUnfinished = ".new";
constexpr std::uint64_t kSmallest = kSegmentBytes / 4;

struct Entry {
    fs::path path;
    std::uint64_t bytes = 0;
    std::int64_t written = 0;  ///< seconds since 1970
};

Result<std::vector<Entry>> list(const Spool& spool) {
    std::vector<Entry> found;
    std::error_code error;
    for (fs::directory_iterator entry(spool.spare(), error), end; !error && entry != end; entry.increment(error)) {
        struct stat info {};
        if (entry->path().extension() != kExtension || ::stat(entry->path().c_str(), &info) != 0) continue;
        found.push_back({entry->path(), static_cast<std::uint64_t>(info.st_size), info.st_mtim.tv_sec});
    }
    if (error) return file_error("listing", spool.spare(), error.value());
    return found;
}

std::uint64_t bytes_of(const std::vector<Entry>& spares) {
    std::uint64_t sum = 0;
    for (const Entry& spare : spares) sum += spare.bytes;
    return sum;
}

fs::path spare_name(const Spool& spool, const fs::path& file) {
    return spool.spare() / (file.stem().string() + std::string(kExtension));
}

Result<void> remove_file(const fs::path& file) {
    if (::unlink(file.c_str()) != 0 && errno != ENOENT) return file_error("removing", file, errno);
    return {};
}

}  // namespace

Result<std::optional<Spare>> take_spare(const Spool& spool, const fs::path& as) {
    auto spares = list(spool);
    if (!spares) return std::move(spares).error();
    // The largest first, and of those the one that the page cache is most likely to hold.
    std::ranges::sort(*spares, [](const Entry& a, const Entry& b) {
        return a.bytes != b.bytes ? a.bytes > b.bytes : a.written > b.written;
    });
    for (const Entry& entry : *spares) {
        Spare spare{FileDescriptor(::open(entry.path.c_str(), O_RDWR | O_CLOEXEC)), entry.bytes};
        // Another association may be quicker: then the lock or the rename fails.
        if (!spare.file.valid() || ::flock(spare.file.get(), LOCK_EX | LOCK_NB) != 0) continue;
        if (::rename(entry.path.c_str(), as.c_str()) != 0) {
            if (errno == ENOENT) continue;
            return file_error("naming", as, errno);
        }
        return std::optional<Spare>(std::move(spare));
    }
    return std::optional<Spare>();
}

bool return_spare(const Spool& spool, const fs::path& file) {
    return ::rename(file.c_str(), spare_name(spool, file).c_str()) == 0;
}

Result<void> keep_as_spare(const Spool& spool, const fs::path& file, std::uint64_t most_bytes) {
    struct stat info {};
    if (::stat(file.c_str(), &info) != 0) {
        if (errno == ENOENT) return {};
        return file_error("asking for the size of", file, errno);
    }
    const auto bytes = static_cast<std::uint64_t>(info.st_size);
    auto spares = list(spool);
    if (!spares) return std::move(spares).error();
    if (bytes < kSmallest || bytes > 2 * kSegmentBytes || bytes_of(*spares) + bytes > most_bytes)
        return remove_file(file);
    const fs::path kept = spare_name(spool, file);
    if (::rename(file.c_str(), kept.c_str()) != 0) return file_error("keeping", file, errno);
    return {};
}

Result<bool> prepare_spare(const Spool& spool, std::uint64_t most_bytes, const std::function<bool()>& go_on) {
    auto spares = list(spool);
    if (!spares) return std::move(spares).error();
    if (bytes_of(*spares) + kSegmentBytes > most_bytes) return false;
    const fs::path made = spool.spare() / fmt::format("prepared-{}{}", ::getpid(), kUnfinished);
    FileDescriptor file(::open(made.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
    if (!file.valid()) return file_error("creating", made, errno);
    const std::vector<std::byte> zeros(1 << 20);
    const auto give_up = [&made](Error error) {
        ::unlink(made.c_str());
        return error;
    };
    for (std::uint64_t at = 0; at < kSegmentBytes; at += zeros.size()) {
        if (auto written = write_all(file.get(), zeros, made); !written) return give_up(std::move(written).error());
        if ((at >> 20) % 4 != 3) continue;
        // In small steps, so that what associations sync does not wait behind all of it.
        if (::fdatasync(file.get()) != 0) return give_up(file_error("syncing", made, errno));
        if (!go_on()) {
            ::unlink(made.c_str());
            return true;
        }
    }
    const fs::path ready = spool.spare() / fmt::format("prepared-{}-{}{}", ::getpid(), std::time(nullptr), kExtension);
    if (::fsync(file.get()) != 0) return give_up(file_error("syncing", made, errno));
    if (::link(made.c_str(), ready.c_str()) != 0 && errno != EEXIST) return give_up(file_error("naming", ready, errno));
    ::unlink(made.c_str());
    return true;
}

Result<std::uint64_t> drop_spares(const Spool& spool, std::chrono::seconds older_than) {
    auto spares = list(spool);
    if (!spares) return std::move(spares).error();
    std::uint64_t freed = 0;
    const std::int64_t until = std::time(nullptr) - older_than.count();
    for (const Entry& entry : *spares) {
        if (entry.written > until) continue;
        if (auto removed = remove_file(entry.path); !removed) return std::move(removed).error();
        freed += entry.bytes;
    }
    return freed;
}

}  // namespace cardionode
