// The Transport over Flower's Fleet HTTP protocol, in both of its dialects (fedclient/PROTOCOL.md).
//
// What lies in a message's folder, <work>/<message id>, so that a killed process goes on where it was:
//   message.pb            metadata and object tree, durable before poll() returns
//   objects/              what was fetched; each object is checked when written, and again by the next process
//   weights-<id>.safetensors   the weights of the ArrayRecord <id>; then its chunks are removed
//   confirmed             the server knows that everything is here
//   reply/                weights (a hard link where possible), small objects, chunks.json, created_at, reply.pb (last)
//   stored, finished      the server has the whole reply; it was taken or is wanted no more
// <work>/node.json holds the node's id at the server, <work>/cache the newest weights of "teacher/..." records.
// A message without `finished` whose time has not come is returned again by the first poll() of a later process.
// Folders of ended messages are removed after 14 days; the caller may remove them earlier.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conf/base/result.h"
#include "fedclient/flower/transport.h"
#include "fedclient/net/http_session.h"

namespace cardionode::fed {

enum class Dialect {
    V0,  ///< /api/v0/fleet/*: Flower 1.24 to 1.39, no signatures: only behind a proxy with client certificates
    V1,  ///< /v1/fleet/*: Flower 1.40 and newer, signed headers, upload sessions
};

struct TransportOptions {
    HttpOptions http;  ///< server, certificates, pins, times; its surroundings serve the whole transport
    Dialect dialect = Dialect::V1;
    std::filesystem::path node_key;  ///< PEM private key on a NIST curve (P-384); may be the key of the certificate
    std::filesystem::path work;      ///< folder of this node alone
    double heartbeat_interval_seconds = 60;  ///< 10 to 1800, told to the server; offline after twice that
    Milliseconds heartbeat_pause{0};         ///< between beats, real time; 0: half of the interval
    std::optional<Moment> deadline;          ///< of the night, own clock: no call is repeated later
    Milliseconds patience{600'000};          ///< how long one call is repeated at most
    /// More request headers, e.g. flwr-package-name and -version where a server demands them. None by default.
    std::vector<std::pair<std::string, std::string>> extra_headers;
    std::uint64_t largest_message = 4ULL << 30;  ///< bytes of all its objects
};

/// Reads and checks keys and certificates; connects nowhere yet. Config: what is wrong with them.
Result<std::unique_ptr<Transport>> make_flower_transport(TransportOptions options);

}  // namespace cardionode::fed
