// New settings for a receiver that runs (SIGHUP): all of them hold, or none.
//
// Peers, limits, time-outs, retention, log level, certificates, keys and revocation lists change for the connections
// that come from then on. Where the receiver listens and stores was settled at the start and stays, and so do the audit
// trail and the metrics: such keys are named, and wait for a restart.
// Thread safety: a plain function.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "scp/dicom/tls.h"
#include "scp/server/peer_rules.h"

namespace cardionode {

struct Reloaded {
    NodeSettings settings;
    PeerRules rules;
    std::optional<TlsContext> tls;
    std::vector<std::string> waiting;  ///< keys whose new value needs a restart
    bool indexer_changed = false;      ///< the indexer must start again to see its settings
};

/// Config: what is wrong with the file, or with the files that it names; the running settings stay as they are.
Result<Reloaded> reload_settings(const std::filesystem::path& file, const NodeSettings& running);

}  // namespace cardionode
