#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/base/hash.h"
#include "scp/store/segment.h"

namespace cardionode {
namespace {

/// Bytes read; fewer than asked for at the end of the file.
Result<std::size_t> read_at(int fd, std::span<std::byte> bytes, std::uint64_t offset,
                            const std::filesystem::path& path) {
    std::size_t have = 0;
    while (have < bytes.size()) {
        const ssize_t n = ::pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(offset + have));
        if (n == 0) break;
        if (n < 0) {
            if (errno == EINTR) continue;
            return file_error("reading", path, errno);
        }
        have += static_cast<std::size_t>(n);
    }
    return have;
}

}  // namespace

Result<SegmentReader> SegmentReader::open(const std::filesystem::path& path) {
    const auto key = segment_key(path);
    if (!key)
        return config_error(
            fmt::format("{} has not the name of a segment of this version: start the version that "
                        "wrote it once more, or move the file away",
                        path.string()));
    FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return file_error("opening", path, errno);
    return SegmentReader(std::move(file), path, *key);
}

Result<std::optional<SegmentRecord>> SegmentReader::peek() {
    RecordBlock block{};
    auto have = read_at(file_.get(), block, offset_, path_);
    if (!have) return std::move(have).error();
    const std::optional<SegmentRecord> none;
    if (*have < block.size()) return none;
    auto header = read_header(block, segment_id(key_));
    if (!header) return std::move(header).error().in(path_.string());
    if (!*header || (*header)->number != number_) return none;
    struct stat info {};
    if (::fstat(file_.get(), &info) != 0) return file_error("asking for the size of", path_, errno);
    SegmentRecord record;
    record.data_offset = offset_ + kRecordBlock;
    const std::uint64_t data_bytes = (*header)->data_bytes;
    if (data_bytes > static_cast<std::uint64_t>(info.st_size) - record.data_offset) return none;
    record.instance = std::move((*header)->instance);
    record.instance.bytes = static_cast<std::int64_t>(data_bytes);
    record.tag = (*header)->tag;
    record.next_offset = record.data_offset + whole_blocks(data_bytes);
    return std::optional<SegmentRecord>(std::move(record));
}

void SegmentReader::advance(const SegmentRecord& record) {
    offset_ = record.next_offset;
    ++number_;
}

Result<bool> SegmentReader::verify(SegmentRecord& record) {
    Sha256 hash;
    mac_.begin(key_, number_);
    std::vector<std::byte> buffer(std::min<std::size_t>(static_cast<std::size_t>(record.instance.bytes), 1 << 18));
    std::uint64_t at = record.data_offset;
    auto left = static_cast<std::uint64_t>(record.instance.bytes);
    while (left > 0) {
        const auto part =
            std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size())));
        auto have = read_at(file_.get(), part, at, path_);
        if (!have) return std::move(have).error();
        if (*have != part.size()) return false;
        mac_.update(part);
        hash.update(part);
        at += part.size();
        left -= part.size();
    }
    record.instance.sha256 = hash.hex_digest();
    return mac_.end() == record.tag;
}

Result<SegmentReader::Rest> SegmentReader::rest() {
    RecordBlock block{};
    Rest found = Rest::Nothing;
    for (std::uint64_t at = offset_;; at += kRecordBlock) {
        auto have = read_at(file_.get(), block, at, path_);
        if (!have) return std::move(have).error();
        if (*have < block.size()) return found;
        auto header = read_header(block, segment_id(key_));
        if (!header) return std::move(header).error().in(path_.string());
        if (*header && (*header)->number > number_) return Rest::LaterRecords;
        if (at == offset_ && begins_record(block, segment_id(key_))) found = Rest::Torn;
    }
}

bool SegmentReader::writer_gone() {
    if (!gone_) gone_ = ::flock(file_.get(), LOCK_SH | LOCK_NB) == 0;
    return gone_;
}

}  // namespace cardionode
