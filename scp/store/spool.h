// The folders under the spool and who may write in them.
//
//   <spool>/ingest/<name>.seg          segments: instances as received, one file per association (segment.h)
//   <spool>/spare/<name>.spare         files of segments that wait for their next use (spares.h)
//   <spool>/instances/<2 hex>/<name>.dcm   DICOM files that the queue knows (indexer.h)
//   <spool>/damaged/                   what could not be read back: kept for a person, never read again
//   <spool>/receiver.lock, indexer.lock    locks (flock): one receiver and one indexer at a time
//
// Names are made by us; nothing of a data set or a peer enters a path.
// Thread safety: values and plain functions. Errors: Config for a spool that cannot be used.
#pragma once

#include <filesystem>

#include "conf/base/files.h"
#include "conf/base/result.h"

namespace cardionode {

struct Spool {
    std::filesystem::path root;
    std::filesystem::path ingest() const { return root / "ingest"; }
    std::filesystem::path spare() const { return root / "spare"; }
    std::filesystem::path instances() const { return root / "instances"; }
    std::filesystem::path damaged() const { return root / "damaged"; }
};

/// Makes the folders and proves by a made, synced and removed file that the spool can be used.
Result<Spool> prepare_spool(const std::filesystem::path& root);

/// Takes the lock file's lock, which ends with the last process that holds the descriptor.
/// Retry: another process has it. Config: the file cannot be made.
Result<FileDescriptor> take_lock(const std::filesystem::path& file);

}  // namespace cardionode
