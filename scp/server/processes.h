// What runs in the processes that the supervisor forks, and how they are asked to end.
//
// Signals: SIGTERM to the whole service means "finish": only the supervisor listens to it. A child ends at SIGUSR1;
// a child whose supervisor dies gets that too (the indexer SIGKILL: every step of it may be cut off).
#pragma once

#include <string>

#include "conf/base/files.h"
#include "conf/base/node_settings.h"
#include "scp/dicom/tls.h"
#include "scp/server/peer_rules.h"
#include "scp/server/shared_state.h"
#include "scp/store/spool.h"

namespace cardionode {

/// In a forked child: signal handling as above; end with the parent. false: the parent is gone already.
bool become_child(int parent_process, int signal_when_parent_dies);

/// Serves one connection to its end. @param tls  nullptr: plain. @return exit code
int run_connection(FileDescriptor socket, const std::string& peer_address, const TlsContext* tls,
                   const NodeSettings& settings, const PeerRules& rules, const Spool& spool, SharedState& shared,
                   Slot& slot, int wake_indexer);

/// Indexes until it is asked to end. @param wake  eventfd that is written when an instance comes while it sleeps
/// @return exit code: 0 asked to end, 1 try again later, 2 the installation is wrong
int run_indexer(const NodeSettings& settings, const Spool& spool, SharedState& shared, int wake);

/// Reports storage commitment to peers until it is asked to end. @return exit code as above
int run_reporter(const NodeSettings& settings, SharedState& shared);

}  // namespace cardionode
