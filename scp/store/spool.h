// The folders under the spool and who may write in them.
//
//   <spool>/ingest/<name>.seg          segments: instances as received, one file per association (segment.h)
//   <spool>/spare/<name>.spare         files of segments that wait for their next use (spares.h)
//   <spool>/instances/<2 hex>/<name>.dcm   DICOM files that the queue knows (indexer.h)
//   <spool>/damaged/                   what could not be read back: kept for a person, never read again
//   <spool>/patient.key            tells patients apart in the queue without naming them (patient_mark.h)
//   <spool>/receiver.lock, indexer.lock    locks (flock): one receiver and one indexer at a time
//
// Names are made by us; nothing of a data set or a peer enters a path.
// Thread safety: values and plain functions. Errors: Config for a spool that cannot be used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "conf/base/files.h"
#include "conf/base/result.h"

namespace cardionode {

struct Spool {
    std::filesystem::path root;
    std::uint64_t device = 0;  ///< of the folder when it was prepared; 0: not prepared
    std::uint64_t inode = 0;
    std::string sentinel = {};     ///< file in `root` that must be there; empty: none
    std::string patient_key = {};  ///< patient_mark.h
    std::filesystem::path ingest() const { return root / "ingest"; }
    std::filesystem::path spare() const { return root / "spare"; }
    std::filesystem::path instances() const { return root / "instances"; }
    std::filesystem::path damaged() const { return root / "damaged"; }
};

/// Makes the folders and proves by a made, synced and removed file that the spool can be used.
/// @param sentinel  name of a file that must be there before: it tells a mounted disk from the empty mount point
Result<Spool> prepare_spool(const std::filesystem::path& root, const std::string& sentinel = {});

/// The folder is still the one that was prepared, with its sentinel: not unmounted, not mounted over, not replaced.
/// What would be written otherwise would be out of sight once the disk is back.
bool spool_in_place(const Spool& spool);

/// Takes the lock file's lock, which ends with the last process that holds the descriptor.
/// Retry: another process has it. Config: the file cannot be made.
Result<FileDescriptor> take_lock(const std::filesystem::path& file);

}  // namespace cardionode
