// An audit event as the repository gets it: XML of PS3.15 A.5.1 inside a syslog message of RFC 5424 (IHE ITI-20).
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "conf/base/time.h"
#include "scp/audit/event.h"

namespace cardionode {

struct AuditSource {
    std::string id;       ///< Audit Source ID
    std::string host;     ///< of this machine
    std::string program;  ///< "cardionode-scp"
    int process = 0;
    bool study_uids = false;  ///< name studies by their UID
};

/// One line: control characters of a text become spaces, and every text is escaped.
std::string to_audit_xml(const AuditEvent& event, const AuditSource& source, Moment now);

/// Facility 10 (security), severity 5 (notice) or, for an event that failed, 4 (warning); MSGID "DICOM+RFC3881".
std::string to_syslog(const AuditEvent& event, const AuditSource& source, Moment now);

}  // namespace cardionode
