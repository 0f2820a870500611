// The sender's side of the spool: events in order, each until it is said to be delivered (trail.h has the format).
//
// How far each file is delivered stands in <spool>/delivered, written durably after each batch: after a crash a few
// events may be delivered twice, none is left out. A file is removed when all of it is delivered and nobody wrote into
// it for an hour, or earlier when it is large. Damaged lines are logged and left out.
// Thread safety: one object belongs to one thread; one process reads a spool.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "conf/base/files.h"
#include "conf/base/result.h"
#include "conf/base/time.h"

namespace cardionode {

class AuditReader {
public:
    static constexpr std::chrono::minutes kSilent{65};
    static constexpr std::uint64_t kLarge = 1 << 20;

    /// Errors: as read_file, but a missing `delivered` is none.
    static Result<AuditReader> open(std::filesystem::path spool, const Clock& clock = system_clock());

    /// What was written reaches the disk.
    Result<void> sync();
    /// The next messages, synced to disk before they are returned. Empty: nothing waits.
    Result<std::vector<std::string>> next(std::size_t most);
    /// What next() returned last has arrived.
    Result<void> delivered();
    /// Removes files that are done with.
    Result<void> tidy();

    /// Events that were lost because the spool was full, by program; and that the repository knows it.
    std::map<std::string, std::uint64_t> lost() const;
    void lost_was_told(const std::string& program) const;

private:
    AuditReader(std::filesystem::path spool, const Clock& clock) : spool_(std::move(spool)), clock_(&clock) {}
    struct Part {
        std::vector<std::string> messages;
        std::uint64_t end = 0;  ///< of the last whole line
    };
    Result<std::vector<std::string>> files() const;
    Result<Part> read_part(int fd, const std::filesystem::path& path, std::uint64_t from, std::size_t most);
    Result<void> rescue(int fd, const std::string& name, std::uint64_t from);
    bool over(const std::string& name) const;
    Result<void> save() const;

    std::filesystem::path spool_;
    const Clock* clock_;
    std::map<std::string, std::uint64_t> delivered_;  ///< bytes by file name
    std::map<std::string, std::uint64_t> handed_out_;
    std::map<std::string, std::uint64_t> synced_;
};

}  // namespace cardionode
