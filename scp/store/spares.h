// Spares: files of the journal that were used before and wait for their next use.
//
// A file system keeps a list of which blocks of a file were ever written. As long as that list changes, fdatasync has
// to wait for the file system's own journal, which also carries what every other program writes. In a file whose blocks
// were all written before, it waits for the data and one flush of the disk alone: a third of the time on a quiet disk,
// a tenth on a busy one. So a segment whose records are all in the queue is not removed: it stands in <spool>/spare
// until the next association begins one, under a new name with a new key (segment_format.h).
// While the node is quiet, the indexer writes files of zeros until there is as much as wished.
//
// Thread safety: any number of processes may take spares; one at a time (the indexer) keeps, prepares and drops them.
// Errors: Retry for a full disk and I/O trouble.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "conf/base/files.h"
#include "conf/base/result.h"
#include "scp/store/spool.h"

namespace cardionode {

inline constexpr std::uint64_t kSegmentBytes = 64ULL << 20;

struct Spare {
    FileDescriptor file;  ///< locked (flock)
    std::uint64_t bytes = 0;
};
/// Locks one and gives it the name `as`; the caller syncs the folder of `as`. none: there is none.
Result<std::optional<Spare>> take_spare(const Spool& spool, const std::filesystem::path& as);

/// Gives back one that was taken and got no record. false: that failed.
bool return_spare(const Spool& spool, const std::filesystem::path& file);

/// Makes a spare of a file that nobody needs any more, or removes it: more than `most_bytes` of spares in all, or a
/// file much smaller or larger than a segment.
Result<void> keep_as_spare(const Spool& spool, const std::filesystem::path& file, std::uint64_t most_bytes);

/// Writes one more, a segment of zeros. false: there are `most_bytes` already.
/// @param go_on  asked every few MB; false: give up for now
Result<bool> prepare_spare(const Spool& spool, std::uint64_t most_bytes, const std::function<bool()>& go_on);

/// Removes those that were not written to for `older_than`. They still hold what was received last.
/// @return how many bytes became free
Result<std::uint64_t> drop_spares(const Spool& spool, std::chrono::seconds older_than);

}  // namespace cardionode
