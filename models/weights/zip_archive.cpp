#include "models/weights/zip_archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace cardionode {
namespace {

constexpr std::uint64_t kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20, kLocalBytes = 30, kEntryBytes = 46;
constexpr std::uint64_t kDirectoryLimit = std::uint64_t{64} << 20;

Error damaged(const std::string& what) { return config_error("the zip archive is damaged: " + what); }

/// Little-endian number at `at`; the caller has checked that it lies inside.
std::uint64_t number(std::string_view bytes, std::size_t at, int width) {
    std::uint64_t value = 0;
    for (int i = 0; i < width; ++i) value |= std::uint64_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
    return value;
}

bool inside(std::uint64_t begin, std::uint64_t bytes, std::uint64_t end) {
    return begin <= end && bytes <= end - begin;
}

struct Directory {
    std::uint64_t begin = 0, bytes = 0, entries = 0;
};

Result<Directory> find_directory(const WeightsFile& file) {
    const std::uint64_t tail_bytes = std::min<std::uint64_t>(file.size(), kEndBytes + 0xffff);
    const std::uint64_t tail_begin = file.size() - tail_bytes;
    auto tail = file.text(tail_bytes, tail_begin);
    if (!tail) return std::move(tail).error();
    if (tail_bytes < kEndBytes) return damaged("it is too short");
    std::size_t at = tail_bytes - kEndBytes + 1;
    bool found = false;
    while (!found && at-- > 0) {
        found = number(*tail, at, 4) == 0x06054b50 && at + kEndBytes + number(*tail, at + 20, 2) == tail_bytes;
    }
    if (!found) return damaged("its end is missing (was the file copied completely?)");
    Directory directory{number(*tail, at + 16, 4), number(*tail, at + 12, 4), number(*tail, at + 10, 2)};
    std::uint64_t limit = tail_begin + at;
    if (directory.begin == 0xffffffff || directory.bytes == 0xffffffff || directory.entries == 0xffff) {
        if (limit < kLocatorBytes + kEnd64Bytes) return damaged("its zip64 record is missing");
        auto locator = file.text(kLocatorBytes, limit - kLocatorBytes);
        if (!locator) return std::move(locator).error();
        const std::uint64_t place = number(*locator, 8, 8);
        if (number(*locator, 0, 4) != 0x07064b50 || !inside(place, kEnd64Bytes, limit - kLocatorBytes)) {
            return damaged("its zip64 record is missing");
        }
        auto record = file.text(kEnd64Bytes, place);
        if (!record) return std::move(record).error();
        if (number(*record, 0, 4) != 0x06064b50) return damaged("its zip64 record is missing");
        directory = {number(*record, 48, 8), number(*record, 40, 8), number(*record, 32, 8)};
        limit = place;
    }
    if (!inside(directory.begin, directory.bytes, limit)) return damaged("its table of contents lies outside");
    if (directory.bytes > kDirectoryLimit) return damaged("its table of contents is too long");
    return directory;
}

struct Sizes {
    std::uint64_t plain, packed, local;
};

/// Zip64: what does not fit in 32 bits stands in an extra field of id 1, in this order.
bool widen(std::string_view extra, Sizes& sizes) {
    std::uint64_t* wanted[] = {&sizes.plain, &sizes.packed, &sizes.local};
    const bool needed = std::any_of(std::begin(wanted), std::end(wanted), [](auto* v) { return *v == 0xffffffff; });
    if (!needed) return true;
    while (extra.size() >= 4) {
        const std::uint64_t id = number(extra, 0, 2), length = number(extra, 2, 2);
        if (length > extra.size() - 4) return false;
        std::string_view field = extra.substr(4, length);
        extra.remove_prefix(4 + length);
        if (id != 1) continue;
        for (std::uint64_t* value : wanted) {
            if (*value != 0xffffffff) continue;
            if (field.size() < 8) return false;
            *value = number(field, 0, 8);
            field.remove_prefix(8);
        }
        return true;
    }
    return false;
}

Result<ZipEntry> place(const WeightsFile& file, const Sizes& sizes, std::uint32_t crc, std::uint64_t limit) {
    if (!inside(sizes.local, kLocalBytes, limit)) return damaged("an entry lies outside");
    auto local = file.text(kLocalBytes, sizes.local);
    if (!local) return std::move(local).error();
    if (number(*local, 0, 4) != 0x04034b50) return damaged("an entry is not where the table of contents says");
    const std::uint64_t begin = sizes.local + kLocalBytes + number(*local, 26, 2) + number(*local, 28, 2);
    if (!inside(begin, sizes.plain, limit)) return damaged("an entry lies outside");
    return ZipEntry{begin, sizes.plain, crc};
}

}  // namespace

Result<WeightsFile> WeightsFile::open(const std::filesystem::path& file) {
    WeightsFile opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK), 0);
    struct stat status {};
    if (opened.fd_ < 0 || ::fstat(opened.fd_, &status) != 0) {
        const int code = errno;
        std::string message = std::string("cannot be opened: ") + std::strerror(code);
        const bool passing = code == EINTR || code == EIO || code == EMFILE || code == ENFILE || code == ENOMEM;
        return passing ? retry_error(std::move(message)) : config_error(std::move(message));
    }
    if (!S_ISREG(status.st_mode)) return config_error("not a regular file");
    opened.size_ = static_cast<std::uint64_t>(status.st_size);
    return opened;
}

WeightsFile::~WeightsFile() {
    if (fd_ >= 0) ::close(fd_);
}

WeightsFile::WeightsFile(WeightsFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

Result<void> WeightsFile::read(void* target, std::uint64_t bytes, std::uint64_t offset) const {
    if (!inside(offset, bytes, size_)) return config_error("the file ends too early");
    auto* to = static_cast<char*>(target);
    while (bytes > 0) {
        const ssize_t got = ::pread(fd_, to, std::min<std::uint64_t>(bytes, 1u << 30), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return retry_error(std::string("cannot be read: ") + std::strerror(errno));
        if (got == 0) return config_error("the file became shorter while it was read");
        to += got;
        offset += static_cast<std::uint64_t>(got);
        bytes -= static_cast<std::uint64_t>(got);
    }
    return {};
}

Result<std::string> WeightsFile::text(std::uint64_t bytes, std::uint64_t offset) const {
    if (!inside(offset, bytes, size_)) return config_error("the file ends too early");
    std::string text(bytes, '\0');
    if (auto done = read(text.data(), bytes, offset); !done) return std::move(done).error();
    return text;
}

Result<std::map<std::string, ZipEntry>> read_zip_directory(const WeightsFile& file) {
    auto directory = find_directory(file);
    if (!directory) return std::move(directory).error();
    auto table = file.text(directory->bytes, directory->begin);
    if (!table) return std::move(table).error();
    std::string_view rest = *table;
    std::map<std::string, ZipEntry> entries;
    std::uint64_t total = 0;
    for (std::uint64_t i = 0; i < directory->entries; ++i) {
        if (rest.size() < kEntryBytes || number(rest, 0, 4) != 0x02014b50) return damaged("its table of contents");
        const std::uint64_t name_bytes = number(rest, 28, 2), extra_bytes = number(rest, 30, 2);
        const std::uint64_t entry_bytes = kEntryBytes + name_bytes + extra_bytes + number(rest, 32, 2);
        if (entry_bytes > rest.size()) return damaged("its table of contents");
        std::string name(rest.substr(kEntryBytes, name_bytes));
        if ((number(rest, 8, 2) & 1) != 0) return config_error("the zip archive is encrypted");
        Sizes sizes{number(rest, 24, 4), number(rest, 20, 4), number(rest, 42, 4)};
        if (!widen(rest.substr(kEntryBytes + name_bytes, extra_bytes), sizes)) return damaged("a zip64 field");
        if (number(rest, 10, 2) != 0 || sizes.plain != sizes.packed) {
            return config_error(
                "an entry of the zip archive is compressed; torch.save stores its entries as they are, so this file "
                "was packed anew by another program");
        }
        auto entry = place(file, sizes, static_cast<std::uint32_t>(number(rest, 16, 4)), directory->begin);
        if (!entry) return std::move(entry).error();
        total += entry->bytes;  // each is at most the file's size, so the sum cannot wrap before it is refused
        if (total > file.size()) return damaged("its entries overlap");
        if (!entries.emplace(std::move(name), *entry).second) return damaged("an entry occurs twice");
        rest.remove_prefix(entry_bytes);
    }
    return entries;
}

std::uint32_t crc32_of(const void* data, std::size_t bytes) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t c = i;
            for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
            made[i] = c;
        }
        return made;
    }();
    std::uint32_t crc = ~0u;
    const auto* at = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < bytes; ++i) crc = table[(crc ^ at[i]) & 0xff] ^ (crc >> 8);
    return ~crc;
}

}  // namespace cardionode
