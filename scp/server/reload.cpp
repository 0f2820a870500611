#include "scp/server/reload.h"

#include <tuple>
#include <utility>

namespace cardionode {
namespace {

/// Puts the running value back and notes the key, where the two differ.
template <class T>
void keep(T& loaded, const T& running, const char* key, std::vector<std::string>& waiting) {
    if (loaded == running) return;
    loaded = running;
    waiting.emplace_back(key);
}

}  // namespace

Result<Reloaded> reload_settings(const std::filesystem::path& file, const NodeSettings& running) {
    auto loaded = load_node_settings(file);
    if (!loaded) return std::move(loaded).error();
    Reloaded next;
    next.settings = std::move(loaded).value();
    ScpSettings& scp = next.settings.scp;
    const ScpSettings& old = running.scp;
    keep(next.settings.node.spool, running.node.spool, "node.spool", next.waiting);
    keep(next.settings.node.database, running.node.database, "node.database", next.waiting);
    keep(scp.bind_address, old.bind_address, "scp.bind_address", next.waiting);
    keep(scp.port, old.port, "scp.port", next.waiting);
    keep(scp.tls.only, old.tls.only, "scp.tls.only", next.waiting);
    keep(scp.spool_sentinel, old.spool_sentinel, "scp.spool_sentinel", next.waiting);
    if (scp.tls.port != old.tls.port) {
        // Files of a section that is to be switched on or off later may be absent by now: they wait with their port.
        scp.tls = old.tls;
        next.waiting.emplace_back("scp.tls.port");
    }
    keep(next.settings.audit, running.audit, "audit", next.waiting);
    keep(next.settings.metrics, running.metrics, "metrics", next.waiting);
    auto rules = PeerRules::create(scp, next.settings.destinations);
    if (!rules) return std::move(rules).error();
    next.rules = std::move(rules).value();
    if (scp.tls.port != 0) {
        auto tls = TlsContext::for_server(scp.tls);
        if (!tls) return std::move(tls).error();
        next.tls = std::move(tls).value();
    }
    const auto of_indexer = [](const ScpSettings& s) {
        return std::tuple(s.series_quiet_seconds, s.study_quiet_seconds, s.longest_study_minutes, s.late_images,
                          s.other_patient_id, s.journal_spare_mib, s.keep_finished_days, s.keep_free_mib);
    };
    next.indexer_changed = of_indexer(scp) != of_indexer(old);
    return next;
}

}  // namespace cardionode
