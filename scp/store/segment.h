// Segments: where received instances become durable before they are answered.
//
// One append-only file per association under <spool>/ingest. A record is a header block of 4096 bytes and the data
// set exactly as received; the next record begins at the next multiple of 4096. The data set is written while it
// arrives; the header block is written last, and one fdatasync makes both durable. So the segment is the journal:
//   - a record whose header block is whole and whose data set has the SHA-256 of the header was received completely;
//     it may have been acknowledged, and to index it is right in any case;
//   - what stands behind the last such record was never acknowledged and is cut off.
// Header block, numbers little endian: "CNRECORD", u32 version 1, u32 bytes of metadata, u64 bytes of data set,
// u64 segment id (random), u64 number of the record, 32 bytes SHA-256, u32 CRC-32 of the block with this field 0,
// then the metadata as JSON, then zeros. The segment id is never sent to anybody: a data set cannot pretend to be a
// record.
// While its writer lives it holds flock(LOCK_EX) on the file; whoever gets the lock knows that the writer is gone.
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
#include "conf/base/hash.h"
#include "conf/base/result.h"
#include "scp/queue/queue.h"
#include "scp/store/spool.h"

namespace cardionode {

inline constexpr std::size_t kRecordBlock = 4096;

/// Appends records. The file is made with the first record and given up when it reaches `roll_at` bytes.
class SegmentWriter {
public:
    explicit SegmentWriter(Spool spool, std::uint64_t roll_at = 128ULL << 20)
        : spool_(std::move(spool)), roll_at_(roll_at) {}
    ~SegmentWriter() { close(); }
    SegmentWriter(SegmentWriter&&) = delete;
    SegmentWriter& operator=(SegmentWriter&&) = delete;

    /// Begins a record at the tail. What was begun before and not committed is forgotten.
    Result<void> begin();
    Result<void> append(std::span<const std::byte> bytes);
    /// Writes the header block and syncs. After success the instance may be acknowledged. `sha256`, `bytes` of
    /// `instance` are filled in; `file` is ignored.
    Result<void> commit(ReceivedInstance instance);
    /// Forgets the record that was begun.
    void discard() { open_record_ = false; }
    /// Cuts off what was not committed and lets the lock go; an empty segment is removed.
    void close();

private:
    Result<void> open_segment();

    Spool spool_;
    std::uint64_t roll_at_;
    FileDescriptor file_;
    std::filesystem::path path_;
    std::uint64_t id_ = 0;
    std::uint64_t number_ = 0;      ///< of the next record
    std::uint64_t tail_ = 0;        ///< end of the last committed record, a multiple of 4096
    std::uint64_t reserved_ = 0;    ///< bytes that the file system promised us
    std::uint64_t data_bytes_ = 0;  ///< of the open record
    bool open_record_ = false;
    std::optional<Sha256> hash_;
};

struct SegmentRecord {
    ReceivedInstance instance;  ///< without `file`
    std::uint64_t data_offset = 0;
    std::uint64_t next_offset = 0;
};

class SegmentReader {
public:
    static Result<SegmentReader> open(const std::filesystem::path& path);

    /// The record behind those read so far; none: not there (yet), or torn. Does not go past it: call advance().
    Result<std::optional<SegmentRecord>> peek();
    void advance(const SegmentRecord& record);
    /// Compares the data set with the SHA-256 of its header. false: torn or damaged.
    Result<bool> verify(const SegmentRecord& record);
    /// true from the moment the writer has closed the file or died. Ask before peek() to know that none comes after.
    bool writer_gone();
    /// Is there a record behind one whose header block is damaged? Then that one was acknowledged, and is lost.
    Result<bool> later_record();
    /// Bytes of the file behind the records read so far.
    Result<std::uint64_t> rest_bytes() const;

    int fd() const { return file_.get(); }
    const std::filesystem::path& path() const { return path_; }

private:
    SegmentReader(FileDescriptor file, std::filesystem::path path) : file_(std::move(file)), path_(std::move(path)) {}

    FileDescriptor file_;
    std::filesystem::path path_;
    std::uint64_t offset_ = 0;
    std::uint64_t number_ = 0;
    std::optional<std::uint64_t> id_;
    bool gone_ = false;
};

}  // namespace cardionode
