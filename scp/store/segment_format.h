// How a segment looks on disk: its name and the header block of a record. Inside scp/store; others use segment.h.
//
// Name: "<nanoseconds since 1970, when begun>-<32 hex digits>.seg". The digits are the segment's secret key, drawn at
// random for each use of a file; their first half is the segment id that stands in every record. So whatever a former
// use left behind in the blocks of a file is no record of this segment, without a byte being cleared.
// Header block of 4096 bytes, numbers little endian: "CNRECORD", u32 version 2, u32 bytes of metadata, u64 bytes of
// data set, u64 segment id, u64 number of the record, 16 bytes check of the data set (record_mac.h), 16 zeros, u32
// CRC-32 of the block with this field 0, u32 zero, then the metadata as JSON, then zeros.
//
// Thread safety: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "conf/base/result.h"
#include "scp/queue/queue.h"
#include "scp/store/record_mac.h"

namespace cardionode {

inline constexpr std::size_t kRecordBlock = 4096;
using RecordBlock = std::array<std::byte, kRecordBlock>;

constexpr std::uint64_t whole_blocks(std::uint64_t bytes) {
    return (bytes + kRecordBlock - 1) / kRecordBlock * kRecordBlock;
}

std::string segment_name(std::int64_t begun_ns, const SegmentKey& key);
/// none: not the name of a segment.
std::optional<SegmentKey> segment_key(const std::filesystem::path& file);
std::uint64_t segment_id(const SegmentKey& key);

struct RecordHeader {
    std::uint64_t segment_id = 0;
    std::uint64_t number = 0;
    std::uint64_t data_bytes = 0;
    RecordTag tag{};
    ReceivedInstance instance;  ///< without sha256, bytes and file
};

/// Reject: the metadata are too long for the block.
Result<RecordBlock> write_header(const RecordHeader& header);
/// none: not a whole header block of this segment. Config: of this segment, but written by another version.
Result<std::optional<RecordHeader>> read_header(const RecordBlock& block, std::uint64_t segment_id);
/// Whole or not: was it meant to be one of this segment?
bool begins_record(const RecordBlock& block, std::uint64_t segment_id);

}  // namespace cardionode
