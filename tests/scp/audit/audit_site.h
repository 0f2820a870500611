// What tests of the audit trail share: settings with a spool of their own, and a transfer to tell of.
#pragma once

#include <string>
#include <vector>

#include "conf/base/node_settings.h"
#include "conf/base/time.h"
#include "scp/audit/reader.h"
#include "scp/audit/sender.h"
#include "scp/audit/trail.h"
#include "tests/support/free_port.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {

inline const AuditTransfer kTransfer{
    {"CT1", "10.1.2.3"}, {"CARDIONODE", ""}, true, {"S00AM", "1.2.3.4", {{"1.2.840.10008.5.1.4.1.1.2", 300}}}};
inline const Moment kMoment{Milliseconds(1'700'000'000'000)};

struct Site {
    TemporaryFolder folder;
    NodeSettings settings;
    int port = free_port();
    Site() {
        settings.audit.host = "127.0.0.1";
        settings.audit.port = port;
        settings.audit.transport = "tcp";
        settings.audit.spool = folder / "audit";
    }
    AuditTrail trail(const Clock& clock = system_clock(), const std::string& program = "cardionode-scp") const {
        return AuditTrail::open(settings, program, clock).value();
    }
    AuditSender sender(const Clock& clock = system_clock()) const {
        return AuditSender::create(settings, clock).value();
    }
    std::vector<std::string> waiting() const {
        return AuditReader::open(settings.audit.spool).value().next(1'000'000).value();
    }
};

}  // namespace cardionode::test
