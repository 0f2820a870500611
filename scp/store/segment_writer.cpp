#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include "scp/store/segment.h"

namespace cardionode {
namespace {

constexpr std::uint64_t kReserve = 16ULL << 20;
/// A large object is handed to the disk while it comes in, so that its sync does not keep the others waiting.
constexpr std::uint64_t kHandOver = 8ULL << 20;

Result<void> write_at(int fd, std::span<const std::byte> first, std::span<const std::byte> second, std::uint64_t offset,
                      const std::filesystem::path& path) {
    while (!first.empty() || !second.empty()) {
        const iovec parts[2] = {{const_cast<std::byte*>(first.data()), first.size()},
                                {const_cast<std::byte*>(second.data()), second.size()}};
        const ssize_t n = ::pwritev(fd, parts, 2, static_cast<off_t>(offset));
        if (n < 0) {
            if (errno == EINTR) continue;
            return file_error("writing", path, errno);
        }
        const auto done = static_cast<std::size_t>(n);
        const std::size_t of_first = std::min(done, first.size());
        first = first.subspan(of_first);
        second = second.subspan(done - of_first);
        offset += done;
    }
    return {};
}

}  // namespace

Result<void> SegmentWriter::open_segment() {
    if (!spool_in_place(spool_)) return retry_error("the spool is not in its place: is its disk mounted?");
    if (::getrandom(key_.data(), key_.size(), 0) != static_cast<ssize_t>(key_.size()))
        return file_error("asking for random numbers for", spool_.ingest(), errno);
    // Segments are indexed in the order of their names, and the first content under a UID is the one in use: two that
    // are begun within one millisecond must keep their order.
    const auto begun =
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
    const std::string name = segment_name(begun.count(), key_);
    path_ = spool_.ingest() / name;
    reserved_ = number_ = tail_ = 0;
    auto spare = take_spare(spool_, path_);
    if (!spare) return std::move(spare).error();
    FileDescriptor file;
    if (*spare) {
        file = std::move((*spare)->file);
        reserved_ = (*spare)->bytes;
    } else {
        const std::filesystem::path made = spool_.ingest() / (".new-" + name);
        file = FileDescriptor(::open(made.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
        if (!file.valid()) return file_error("creating", made, errno);
        // Locked before it gets the name under which the indexer looks for it.
        if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 || ::rename(made.c_str(), path_.c_str()) != 0) {
            Error error = file_error("naming", path_, errno);
            ::unlink(made.c_str());
            return error;
        }
    }
    // Also makes durable that a spare has no other name any more, before anything in it is overwritten.
    if (auto synced = sync_folder(spool_.ingest()); !synced) {
        ::unlink(path_.c_str());
        return synced;
    }
    file_ = std::move(file);
    from_spare_ = spare->has_value();
    return {};
}

Result<void> SegmentWriter::begin() {
    discard();
    if (file_.valid() && tail_ >= roll_at_) close();
    if (!file_.valid()) {
        if (auto opened = open_segment(); !opened) return opened;
    }
    data_bytes_ = written_ = 0;
    mac_.begin(key_, number_);
    open_record_ = true;
    return {};
}

/// Only whole blocks are written: to change a part of one the kernel would have to read it first.
Result<void> SegmentWriter::append(std::span<const std::byte> bytes) {
    if (!open_record_) return bug_error("a segment record was not begun");
    mac_.update(bytes);
    const auto begun = static_cast<std::size_t>(data_bytes_ - written_);
    data_bytes_ += bytes.size();
    const std::size_t rest = static_cast<std::size_t>(data_bytes_ % kRecordBlock);
    if (begun + bytes.size() < kRecordBlock) {
        std::ranges::copy(bytes, begun_block_.begin() + static_cast<std::ptrdiff_t>(begun));
        return {};
    }
    const auto whole = bytes.first(bytes.size() - rest);
    if (auto written = write_blocks(whole); !written) {
        open_record_ = false;
        return written;
    }
    std::ranges::copy(bytes.last(rest), begun_block_.begin());
    return {};
}

/// The begun block and `bytes`, which fill up blocks together.
Result<void> SegmentWriter::write_blocks(std::span<const std::byte> bytes) {
    const std::uint64_t end = whole_blocks(data_bytes_ + 1) - kRecordBlock;  // of the whole blocks
    const auto begun =
        std::span<const std::byte>(begun_block_).first(static_cast<std::size_t>(end - written_ - bytes.size()));
    const std::uint64_t at = tail_ + kRecordBlock + written_;
    const std::uint64_t needed = tail_ + kRecordBlock + end;
    if (needed > reserved_) {
        // Reserving in large steps keeps the file in one piece; where that much is not there, the exact need decides.
        const std::uint64_t wished = std::max(needed, reserved_ + kReserve);
        if (::fallocate(file_.get(), 0, static_cast<off_t>(reserved_), static_cast<off_t>(wished - reserved_)) == 0)
            reserved_ = wished;
    }
    if (auto done = write_at(file_.get(), begun, bytes, at, path_); !done) return done;
    if (written_ / kHandOver != end / kHandOver)
        (void)::sync_file_range(file_.get(), static_cast<off_t>(tail_), static_cast<off_t>(needed - tail_),
                                SYNC_FILE_RANGE_WRITE);
    written_ = end;
    return {};
}

Result<void> SegmentWriter::commit(ReceivedInstance instance) {
    if (!open_record_) return bug_error("a segment record was not begun");
    open_record_ = false;
    RecordHeader header;
    header.segment_id = segment_id(key_);
    header.number = number_;
    header.data_bytes = data_bytes_;
    header.tag = mac_.end();
    header.instance = std::move(instance);
    auto block = write_header(header);
    if (!block) return std::move(block).error();
    const auto begun = static_cast<std::size_t>(data_bytes_ - written_);
    if (begun > 0) {
        std::fill(begun_block_.begin() + static_cast<std::ptrdiff_t>(begun), begun_block_.end(), std::byte{0});
        if (auto done = write_at(file_.get(), begun_block_, {}, tail_ + kRecordBlock + written_, path_); !done)
            return done;
    }
    if (auto done = write_at(file_.get(), *block, {}, tail_, path_); !done) return done;
    if (::fdatasync(file_.get()) != 0) {
        // The kernel may have dropped the pages: nothing in this file behind the tail can be trusted any more.
        Error error = file_error("syncing", path_, errno);
        close();
        return error;
    }
    tail_ += kRecordBlock + whole_blocks(data_bytes_);
    ++number_;
    return {};
}

void SegmentWriter::close() {
    if (!file_.valid()) return;
    discard();
    // Without a record the next start would do the same.
    if (number_ == 0 && !(from_spare_ && return_spare(spool_, path_))) ::unlink(path_.c_str());
    file_.reset();
}

}  // namespace cardionode
