#include "conf/base/files.h"
#include "fedclient/flower/dir_transport.h"
#include "fedclient/flower/flower_http.h"
#include "fedclient/round/parts.h"

namespace cardionode::fed {

Result<std::unique_ptr<Transport>> open_transport(const FederatedSettings& settings) {
    const TransportSettings& t = settings.transport;
    if (auto made = make_folder(messages_folder(settings)); !made) return std::move(made).error();
    if (t.kind == "dir") {
        DirTransportOptions options;
        options.root = t.folder;
        options.work = messages_folder(settings);
        return make_dir_transport(std::move(options));
    }
    TransportOptions options;
    options.http.url = t.address;
    options.http.ca = t.tls.ca;
    options.http.certificate = t.tls.certificate;
    options.http.key = t.tls.key;
    options.http.pins = t.pins;
    options.dialect = t.kind == "flower-http-v0" ? Dialect::V0 : Dialect::V1;
    options.node_key = t.node_key.empty() ? t.tls.key : t.node_key;
    options.work = messages_folder(settings);
    options.heartbeat_interval_seconds = 2.0 * t.heartbeat_seconds;
    options.heartbeat_pause = std::chrono::seconds(t.heartbeat_seconds);
    return make_flower_transport(std::move(options));
}

}  // namespace cardionode::fed
