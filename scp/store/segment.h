// Segments: where received instances become durable before they are answered.
//
// One append-only file per association under <spool>/ingest. A record is a header block of 4096 bytes and the data
// set exactly as received, filled up to the next multiple of 4096, where the next record begins (segment_format.h).
// The data set is written while it arrives; the header block is written last, and one fdatasync makes both durable. So
// the segment is the journal:
//   - a record whose header block is whole and whose data set has the check of the header was received completely;
//     it may have been acknowledged, and to index it is right in any case;
//   - what stands behind the last such record was never acknowledged and is cut off.
// While its writer lives it holds flock(LOCK_EX) on the file; whoever gets the lock knows that the writer is gone.
//
// Why it is fast without giving anything up: one fdatasync an instance, in a file whose blocks were written before
// (spares.h), touches neither the file system's journal nor a folder. Associations need no common committer: their
// fdatasyncs share nothing but the flush of the disk, and the kernel already lets one flush serve all that wait for it.
//
// Thread safety: one object belongs to one thread; a writer and readers may be different processes.
// Errors: Retry for a full disk (nothing of the record counts then) and I/O trouble, Config for a forbidden folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "conf/base/files.h"
#include "conf/base/result.h"
#include "scp/queue/queue.h"
#include "scp/store/record_mac.h"
#include "scp/store/segment_format.h"
#include "scp/store/spares.h"
#include "scp/store/spool.h"

namespace cardionode {

/// Appends records. The file is made with the first record and given up when it reaches `roll_at` bytes.
class SegmentWriter {
public:
    explicit SegmentWriter(Spool spool, std::uint64_t roll_at = kSegmentBytes)
        : spool_(std::move(spool)), roll_at_(roll_at) {}
    ~SegmentWriter() { close(); }
    SegmentWriter(SegmentWriter&&) = delete;
    SegmentWriter& operator=(SegmentWriter&&) = delete;

    /// Begins a record at the tail. What was begun before and not committed is forgotten.
    Result<void> begin();
    Result<void> append(std::span<const std::byte> bytes);
    /// Writes the header block and syncs. After success the instance may be acknowledged. `sha256`, `bytes` and `file`
    /// of `instance` are ignored.
    Result<void> commit(ReceivedInstance instance);
    /// Forgets the record that was begun.
    void discard() { open_record_ = false; }
    /// Forgets what was not committed and lets the lock go; an empty segment is removed or a spare again.
    void close();

private:
    Result<void> open_segment();
    Result<void> write_blocks(std::span<const std::byte> bytes);

    Spool spool_;
    std::uint64_t roll_at_;
    FileDescriptor file_;
    std::filesystem::path path_;
    SegmentKey key_{};
    std::uint64_t number_ = 0;      ///< of the next record
    std::uint64_t tail_ = 0;        ///< end of the last committed record, a multiple of 4096
    std::uint64_t reserved_ = 0;    ///< bytes that the file system promised us
    std::uint64_t data_bytes_ = 0;  ///< of the open record
    std::uint64_t written_ = 0;     ///< of these, a multiple of 4096; the rest stands in `begun_block_`
    RecordBlock begun_block_{};
    bool open_record_ = false;
    bool from_spare_ = false;
    RecordMac mac_;
};

struct SegmentRecord {
    ReceivedInstance instance;  ///< without `file`, and without `sha256` before verify()
    RecordTag tag{};
    std::uint64_t data_offset = 0;
    std::uint64_t next_offset = 0;
};

class SegmentReader {
public:
    /// Config: the file has not the name of a segment.
    static Result<SegmentReader> open(const std::filesystem::path& path);

    /// The record behind those read so far; none: not there (yet), or torn. Does not go past it: call advance().
    Result<std::optional<SegmentRecord>> peek();
    void advance(const SegmentRecord& record);
    /// Compares the data set with the check of its header, and fills in `sha256`. false: torn or damaged.
    Result<bool> verify(SegmentRecord& record);
    /// true from the moment the writer has closed the file or died. Ask before peek() to know that none comes after.
    bool writer_gone();
    /// What stands behind the records read so far, after the writer has gone.
    enum class Rest {
        Nothing,       ///< or blocks of a former use of the file
        Torn,          ///< a part of a record that was never acknowledged
        LaterRecords,  ///< whole records behind one that is damaged: it was acknowledged, and is lost
    };
    Result<Rest> rest();

    int fd() const { return file_.get(); }
    const std::filesystem::path& path() const { return path_; }

private:
    SegmentReader(FileDescriptor file, std::filesystem::path path, const SegmentKey& key)
        : file_(std::move(file)), path_(std::move(path)), key_(key) {}

    FileDescriptor file_;
    std::filesystem::path path_;
    SegmentKey key_{};
    std::uint64_t offset_ = 0;
    std::uint64_t number_ = 0;
    RecordMac mac_;
    bool gone_ = false;
};

}  // namespace cardionode
