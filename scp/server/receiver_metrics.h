// What the receiver and the queue look like from outside: Prometheus metrics and health.
//
// Every number comes from memory that is shared with the receiver's processes, from the spool's folder or from a
// read-only look at the queue; nothing here can change or delay any of them. The queue is counted here and not by the
// pipeline, so that it can be watched while the GPU is down.
// Thread safety: plain functions.
#pragma once

#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/time.h"
#include "scp/metrics/responder.h"
#include "scp/server/shared_state.h"

namespace cardionode {

std::string receiver_metrics(const NodeSettings& settings, const SharedState& shared,
                             const Clock& clock = system_clock());
/// Live: the supervisor's loop turns. Ready: a new association would be taken now.
Health receiver_health(const SharedState& shared);

}  // namespace cardionode
