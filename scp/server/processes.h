// The processes of the receiving itself: one for each connection, and the indexer. Those beside it: helper_processes.h.
#pragma once

#include <chrono>
#include <string>

#include "conf/base/files.h"
#include "conf/base/node_settings.h"
#include "scp/audit/trail.h"
#include "scp/dicom/tls.h"
#include "scp/server/peer_rules.h"
#include "scp/server/shared_state.h"
#include "scp/store/spool.h"

namespace cardionode {

/// Serves one connection to its end. @param tls  nullptr: plain. @param accepted  when its time began. @return exit
/// code
int run_connection(FileDescriptor socket, const std::string& peer_address, const TlsContext* tls,
                   std::chrono::steady_clock::time_point accepted, const NodeSettings& settings, const PeerRules& rules,
                   const Spool& spool, const AuditTrail& audit, SharedState& shared, Slot& slot, int wake_indexer);

/// Indexes until it is asked to end. @param wake  eventfd that is written when an instance comes while it sleeps
/// @return exit code: 0 asked to end, 1 try again later, 2 the installation is wrong
int run_indexer(const NodeSettings& settings, const Spool& spool, const AuditTrail& audit, SharedState& shared,
                int wake);

}  // namespace cardionode
