#include "scp/store/segment.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <nlohmann/json.hpp>

namespace cardionode {
namespace {

constexpr std::string_view kMagic = "CNRECORD";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kMetadataAt = 80;
constexpr std::size_t kCrcAt = 72;
constexpr std::uint64_t kReserve = 16ULL << 20;
using Block = std::array<std::byte, kRecordBlock>;

std::uint64_t round_up(std::uint64_t bytes) { return (bytes + kRecordBlock - 1) / kRecordBlock * kRecordBlock; }

void put(Block& block, std::size_t at, std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i)
        block[at + static_cast<std::size_t>(i)] = static_cast<std::byte>(value >> (8 * i) & 0xff);
}

std::uint64_t get(const Block& block, std::size_t at, int bytes) {
    std::uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
        value = value << 8 | std::to_integer<std::uint64_t>(block[at + static_cast<std::size_t>(i)]);
    return value;
}

std::uint32_t crc_of(Block block) {
    put(block, kCrcAt, 0, 4);
    return static_cast<std::uint32_t>(
        ::crc32(::crc32(0, nullptr, 0), reinterpret_cast<const Bytef*>(block.data()), static_cast<uInt>(block.size())));
}

std::string metadata_of(const ReceivedInstance& instance) {
    const nlohmann::json json = {
        {"study", instance.study_instance_uid},   {"series", instance.series_instance_uid},
        {"instance", instance.sop_instance_uid},  {"class", instance.sop_class_uid},
        {"syntax", instance.transfer_syntax_uid}, {"modality", instance.modality},
        {"calling", instance.calling_ae_title},   {"called", instance.called_ae_title},
        {"peer", instance.peer_address},          {"received_ms", instance.received_at.time_since_epoch().count()},
    };
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// none: not what we wrote.
std::optional<ReceivedInstance> instance_of(std::string_view metadata) {
    const auto json = nlohmann::json::parse(metadata, nullptr, false);
    if (!json.is_object()) return std::nullopt;
    ReceivedInstance instance;
    const auto text = [&](const char* key, std::string& target) {
        const auto found = json.find(key);
        if (found == json.end() || !found->is_string()) return false;
        target = found->get<std::string>();
        return true;
    };
    const auto received = json.find("received_ms");
    if (received == json.end() || !received->is_number_integer()) return std::nullopt;
    instance.received_at = Moment(Milliseconds(received->get<std::int64_t>()));
    const bool whole = text("study", instance.study_instance_uid) && text("series", instance.series_instance_uid) &&
                       text("instance", instance.sop_instance_uid) && text("class", instance.sop_class_uid) &&
                       text("syntax", instance.transfer_syntax_uid) && text("modality", instance.modality) &&
                       text("calling", instance.calling_ae_title) && text("called", instance.called_ae_title) &&
                       text("peer", instance.peer_address);
    if (!whole) return std::nullopt;
    return instance;
}

Result<void> write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset,
                      const std::filesystem::path& path) {
    while (!bytes.empty()) {
        const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0) {
            if (errno == EINTR) continue;
            return file_error("writing", path, errno);
        }
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return {};
}

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

Result<void> SegmentWriter::open_segment() {
    std::array<std::uint64_t, 2> random{};
    if (::getrandom(random.data(), sizeof random, 0) != sizeof random)
        return file_error("asking for random numbers for", spool_.ingest(), errno);
    // Segments are indexed in the order of their names, and the first content under a UID is the one in use: two that
    // are begun within one millisecond must keep their order.
    const auto begun =
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
    const std::string name = fmt::format("{}-{:016x}", begun.count(), random[1]);
    const std::filesystem::path made = spool_.ingest() / (".new-" + name);
    FileDescriptor file(::open(made.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
    if (!file.valid()) return file_error("creating", made, errno);
    path_ = spool_.ingest() / (name + ".seg");
    // Locked before it gets the name under which the indexer looks for it.
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 || ::rename(made.c_str(), path_.c_str()) != 0) {
        Error error = file_error("naming", path_, errno);
        ::unlink(made.c_str());
        return error;
    }
    if (auto synced = sync_folder(spool_.ingest()); !synced) {
        ::unlink(path_.c_str());
        return synced;
    }
    file_ = std::move(file);
    id_ = random[0];
    number_ = tail_ = reserved_ = 0;
    return {};
}

Result<void> SegmentWriter::begin() {
    discard();
    if (file_.valid() && tail_ >= roll_at_) close();
    if (!file_.valid()) {
        if (auto opened = open_segment(); !opened) return opened;
    }
    data_bytes_ = 0;
    hash_.emplace();
    open_record_ = true;
    return {};
}

Result<void> SegmentWriter::append(std::span<const std::byte> bytes) {
    if (!open_record_) return bug_error("a segment record was not begun");
    const std::uint64_t at = tail_ + kRecordBlock + data_bytes_;
    const std::uint64_t needed = at + bytes.size();
    if (needed > reserved_) {
        // Reserving in large steps keeps the file in one piece; where that much is not there, the exact need decides.
        const std::uint64_t wished = std::max(needed, reserved_ + kReserve);
        if (::fallocate(file_.get(), 0, static_cast<off_t>(reserved_), static_cast<off_t>(wished - reserved_)) == 0)
            reserved_ = wished;
    }
    if (auto written = write_at(file_.get(), bytes, at, path_); !written) {
        open_record_ = false;
        return written;
    }
    hash_->update(bytes);
    data_bytes_ += bytes.size();
    return {};
}

Result<void> SegmentWriter::commit(ReceivedInstance instance) {
    if (!open_record_) return bug_error("a segment record was not begun");
    open_record_ = false;
    const std::array<std::byte, 32> digest = hash_->digest();
    const std::string metadata = metadata_of(instance);
    if (metadata.size() > kRecordBlock - kMetadataAt) return reject_error("the metadata of the instance are too long");
    Block block{};
    std::memcpy(block.data(), kMagic.data(), kMagic.size());
    put(block, 8, kVersion, 4);
    put(block, 12, metadata.size(), 4);
    put(block, 16, data_bytes_, 8);
    put(block, 24, id_, 8);
    put(block, 32, number_, 8);
    std::copy(digest.begin(), digest.end(), block.begin() + 40);
    std::memcpy(block.data() + kMetadataAt, metadata.data(), metadata.size());
    put(block, kCrcAt, crc_of(block), 4);
    if (auto written = write_at(file_.get(), block, tail_, path_); !written) return written;
    if (::fdatasync(file_.get()) != 0) {
        // The kernel may have dropped the pages: nothing in this file behind the tail can be trusted any more.
        Error error = file_error("syncing", path_, errno);
        close();
        return error;
    }
    tail_ = round_up(tail_ + kRecordBlock + data_bytes_);
    ++number_;
    return {};
}

void SegmentWriter::close() {
    if (!file_.valid()) return;
    discard();
    if (number_ == 0) {
        ::unlink(path_.c_str());  // a leftover would be removed at the next start
    } else if (::ftruncate(file_.get(), static_cast<off_t>(tail_)) != 0) {
        // Only space that was reserved stays taken until the indexer removes the file.
    }
    file_.reset();
}

Result<SegmentReader> SegmentReader::open(const std::filesystem::path& path) {
    FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return file_error("opening", path, errno);
    return SegmentReader(std::move(file), path);
}

Result<std::optional<SegmentRecord>> SegmentReader::peek() {
    Block block{};
    auto have = read_at(file_.get(), block, offset_, path_);
    if (!have) return std::move(have).error();
    const bool ours = *have == block.size() && std::memcmp(block.data(), kMagic.data(), kMagic.size()) == 0 &&
                      get(block, kCrcAt, 4) == crc_of(block) && get(block, 32, 8) == number_ &&
                      (!id_ || *id_ == get(block, 24, 8));
    if (!ours) return std::optional<SegmentRecord>();
    if (get(block, 8, 4) != kVersion)
        return config_error(fmt::format("{} was written by a newer version of this program", path_.string()));
    const std::uint64_t metadata_bytes = get(block, 12, 4), data_bytes = get(block, 16, 8);
    if (metadata_bytes > kRecordBlock - kMetadataAt) return std::optional<SegmentRecord>();
    auto size = rest_bytes();
    if (!size) return std::move(size).error();
    if (data_bytes > *size - kRecordBlock) return std::optional<SegmentRecord>();
    auto instance = instance_of({reinterpret_cast<const char*>(block.data()) + kMetadataAt, metadata_bytes});
    if (!instance) return std::optional<SegmentRecord>();
    SegmentRecord record;
    record.instance = std::move(*instance);
    record.instance.sha256 = to_hex(std::span<const std::byte>(block).subspan(40, 32));
    record.instance.bytes = static_cast<std::int64_t>(data_bytes);
    record.data_offset = offset_ + kRecordBlock;
    record.next_offset = round_up(record.data_offset + data_bytes);
    id_ = get(block, 24, 8);
    return std::optional<SegmentRecord>(std::move(record));
}

Result<bool> SegmentReader::later_record() {
    Block block{};
    for (std::uint64_t at = offset_ + kRecordBlock;; at += kRecordBlock) {
        auto have = read_at(file_.get(), block, at, path_);
        if (!have) return std::move(have).error();
        if (*have < block.size()) return false;
        if (std::memcmp(block.data(), kMagic.data(), kMagic.size()) == 0 && get(block, kCrcAt, 4) == crc_of(block) &&
            get(block, 32, 8) > number_ && (!id_ || *id_ == get(block, 24, 8)))
            return true;
    }
}

void SegmentReader::advance(const SegmentRecord& record) {
    offset_ = record.next_offset;
    ++number_;
}

Result<bool> SegmentReader::verify(const SegmentRecord& record) {
    Sha256 hash;
    std::vector<std::byte> buffer(1 << 20);
    std::uint64_t at = record.data_offset;
    auto left = static_cast<std::uint64_t>(record.instance.bytes);
    while (left > 0) {
        const auto part =
            std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size())));
        auto have = read_at(file_.get(), part, at, path_);
        if (!have) return std::move(have).error();
        if (*have != part.size()) return false;
        hash.update(part);
        at += part.size();
        left -= part.size();
    }
    return hash.hex_digest() == record.instance.sha256;
}

bool SegmentReader::writer_gone() {
    if (!gone_) gone_ = ::flock(file_.get(), LOCK_SH | LOCK_NB) == 0;
    return gone_;
}

Result<std::uint64_t> SegmentReader::rest_bytes() const {
    struct stat info {};
    if (::fstat(file_.get(), &info) != 0) return file_error("asking for the size of", path_, errno);
    const auto size = static_cast<std::uint64_t>(info.st_size);
    return size > offset_ ? size - offset_ : 0;
}

}  // namespace cardionode
