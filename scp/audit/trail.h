// Where the services leave their audit events: one call, one line in a file.
//
// record() appends the finished syslog message to <spool>/<UTC hour>-<program>.audit with one write(), and returns.
// After that a crash of the process loses nothing; the sender (sender.h) syncs the files within a second and delivers
// them. No lock, no network, no sync here: nothing that a scanner waits for can hang on the audit. What cannot be
// written is counted (a byte each in <spool>/lost-<program>), logged, and told to the repository later.
//
// The spool is bounded. When it is full, new events are lost, not old ones: a flood must not wash away what was there
// before. Events that strangers can cause at will (refused associations) may fill only half of it, so that they do not
// displace the transfers.
//
// A line is: newline, CRC-32 as 8 hexadecimal digits, space, message, newline. The leading newline ends a line that a
// crash has cut off. Each program writes files of its own; of one program's events the order is kept.
//
// Thread safety: any thread, and any forked child; several processes may write one file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "conf/base/time.h"
#include "scp/audit/event.h"

namespace cardionode {

class AuditTrail {
public:
    /// Records nothing.
    AuditTrail() = default;
    /// Without audit.host: a trail that records nothing. Config: the spool cannot be used.
    /// @param program  "cardionode-scp"  @param clock  must outlive the trail
    static Result<AuditTrail> open(const NodeSettings& settings, std::string program,
                                   const Clock& clock = system_clock());

    bool on() const { return state_ != nullptr; }
    /// Studies are named by their UID: an event then needs AuditStudy::uid.
    bool study_uids() const;
    void record(const AuditEvent& event) const noexcept;

private:
    struct State;
    std::shared_ptr<const State> state_;
};

/// The line of a message, and back. none: torn or damaged.
std::string audit_line(std::string_view message);
std::optional<std::string> audit_message_of(std::string_view line);

struct AuditSpoolUse {
    std::uint64_t bytes = 0;
    std::uint64_t lost = 0;                       ///< events, since the repository was told last
    std::optional<Moment> oldest = std::nullopt;  ///< hour of the oldest file
};
/// Sizes of the files; what is delivered already and not yet removed (up to an hour) counts as well.
AuditSpoolUse audit_spool_use(const std::filesystem::path& spool);

}  // namespace cardionode
