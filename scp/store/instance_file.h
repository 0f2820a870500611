// DICOM files of the spool: their names, writing a group of them durably, reading one back.
//
// A name depends on the identity and the content of an instance alone, so that a step that is repeated after a crash
// makes the same file. Instances of one series stand in one folder, so that a group costs one folder sync.
// Thread safety: one group belongs to one thread. Errors: Retry for a full disk and I/O trouble.
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/files.h"
#include "conf/base/result.h"
#include "scp/queue/queue.h"
#include "scp/store/spool.h"

namespace cardionode {

inline constexpr std::string_view kTemporaryPrefix = ".tmp-";

/// "instances/<2 hex>/<40 hex>.dcm", relative to the spool. Needs the UIDs and the SHA-256 of `instance`.
std::string instance_file_name(const ReceivedInstance& instance);

/// Files that become durable together: add() each, then sync_files(), rename_files(), sync_folders().
class InstanceFileGroup {
public:
    explicit InstanceFileGroup(const Spool& spool) : spool_(&spool) {}
    ~InstanceFileGroup();  ///< removes what was not renamed
    InstanceFileGroup(const InstanceFileGroup&) = delete;
    InstanceFileGroup& operator=(const InstanceFileGroup&) = delete;

    /// Writes the temporary file of one instance: meta header, then instance.bytes bytes of `data_fd` from
    /// `data_offset`. Does nothing for a file that is there whole.
    Result<void> add(const ReceivedInstance& instance, int data_fd, std::uint64_t data_offset);
    Result<void> sync_files();
    Result<void> rename_files(const std::function<void()>& before_each);
    Result<void> sync_folders();

private:
    struct File {
        FileDescriptor fd;
        std::filesystem::path temporary;
        std::filesystem::path final;
        bool renamed = false;
    };
    const Spool* spool_;
    std::vector<File> files_;
    std::set<std::filesystem::path> folders_;
};

/// Scans a file of ours. `file` stays empty. @param patient_key  of the spool. Reject: not one of ours, or damaged.
Result<ReceivedInstance> read_instance_file(const std::filesystem::path& path, const std::string& patient_key);

}  // namespace cardionode
