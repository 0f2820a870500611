// The processes beside the receiving: nothing that comes in waits for one (side_process.h starts them).
//
// Thread safety: each runs in a forked child, after become_child() (process_control.h).
#pragma once

#include "conf/base/files.h"
#include "conf/base/node_settings.h"
#include "scp/audit/trail.h"
#include "scp/server/shared_state.h"

namespace cardionode {

/// Delivers the audit spool until it is asked to end. @return exit code
int run_audit_sender(const NodeSettings& settings);

/// Answers /metrics and /health until it is asked to end; sees the shared memory read-only from then on.
/// @param listener  of Responder::listen(). @return exit code
int run_metrics(const NodeSettings& settings, SharedState& shared, FileDescriptor listener);

/// Reports storage commitment to peers until it is asked to end. @return exit code: 0 asked to end, 1 try again later,
/// 2 the installation is wrong
int run_reporter(const NodeSettings& settings, const AuditTrail& audit, SharedState& shared);

}  // namespace cardionode
