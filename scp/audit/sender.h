// Delivers the audit spool to the repository, in order, for as long as it takes.
//
// Where it runs: a child process of the receiver's supervisor, as the indexer is. It is the one process that is always
// there, so that also the events of a pipeline that crashed are delivered; a process of its own, because it talks TLS
// to the network and must neither hold a scanner's answer up nor share memory with what speaks DICOM; and no service of
// its own, because that would be a fourth unit, user and file of settings for a page of code.
//
// Thread safety: one object belongs to one thread, which does nothing else.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "conf/base/time.h"
#include "scp/audit/reader.h"
#include "scp/audit/syslog_connection.h"

namespace cardionode {

class AuditSender {
public:
    static constexpr std::chrono::milliseconds kFirstPause{1'000};
    static constexpr std::chrono::milliseconds kLongestPause{60'000};

    /// Errors: as AuditReader::open.
    static Result<AuditSender> create(const NodeSettings& settings, const Clock& clock = system_clock());

    /// Delivers what waits, at most one batch. @return how many messages arrived; 0: none waited
    /// Retry: the repository is away, or the disk. The next call connects anew.
    Result<std::size_t> step();

    /// Until `stop`, then once more. @param wait  sleeps, at most for that long; ends early at a wish to stop
    void run(const std::function<bool()>& stop, const std::function<void(std::chrono::milliseconds)>& wait);

private:
    AuditSender(const NodeSettings& settings, AuditReader reader, const Clock& clock);
    Result<void> tell_lost();
    Result<void> connect();

    AuditSettings settings_;
    std::string source_id_;
    AuditReader reader_;
    const Clock* clock_;
    std::chrono::milliseconds connect_time_{10'000};
    std::optional<SyslogConnection> connection_;
    bool away_ = false;  ///< and the log says so
};

}  // namespace cardionode
