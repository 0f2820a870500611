// How a round's messages reach a hospital and leave it. One interface, three kinds: flower-http-v1, flower-http-v0,
// dir.
//
// A session: join -> poll until a message is there -> fetch -> (work) -> prepare -> push -> receipt until taken ->
// leave. Everything that must survive kill -9 lies in the message's folder, written durably before the call returns, so
// that a later process goes on where this one ended: poll's answer, each object that was fetched, the bytes of the
// reply. Heartbeats run on a thread of the transport from join to leave, also while the caller trains. Thread safety:
// one caller. Errors: Retry for the network, the server or a full disk (calls retry inside, with back-off and jitter,
// until the deadline of TransportOptions); Config for certificates, pins, addresses, registration; Reject for a message
// that can never be used (a wrong hash after retries, a malformed tree); no exception leaves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "conf/base/result.h"
#include "fedclient/flower/record.h"

namespace cardionode::fed {

/// A message for this node. Its folder is <work>/<message_id>.
struct Incoming {
    std::string message_id, group_id, type;  ///< type: train | evaluate | query
    std::uint64_t run_id = 0;
    double created_at = 0, ttl = 0;  ///< seconds since 1970 by the server's clock; seconds
    std::filesystem::path folder;
};

struct PulledArrays {
    std::filesystem::path weights;  ///< safetensors in the message's folder
    std::string record_id;          ///< object id of the ArrayRecord, a Merkle root over all weights
};

/// The content of a message, verified object by object.
struct Pulled {
    std::map<std::string, PulledArrays> arrays;  ///< by record name: "arrays"; a teacher: "teacher/<head>"
    std::map<std::string, Record> configs;       ///< "config"
    std::map<std::string, Record> metrics;
};

struct Reply {
    std::optional<std::filesystem::path> weights;  ///< safetensors, sent as ArrayRecord "arrays"
    Record metrics;                                ///< sent as MetricRecord "metrics"
    std::map<std::string, Record> configs;
    /// An honest refusal instead of a result: code and reason without patient data.
    struct Failure {
        std::int64_t code = 2;
        std::string reason;
    };
    std::optional<Failure> failure;
};

enum class PushOutcome {
    Stored,   ///< all objects are at the server; it waits to be taken
    Refused,  ///< the server wants this reply no more: late, answered before, run over
};
enum class Receipt { Waiting, Taken, RunOver };

struct TransferTotals {
    std::uint64_t bytes_sent = 0, bytes_received = 0;  ///< of HTTP bodies
    std::int64_t calls = 0, reconnects = 0;
    double download_bytes_per_second = 0;  ///< measured over all objects that were fetched; 0: none yet
    double clock_skew_seconds = 0;         ///< own clock minus the server's, whole seconds; 0 where nobody tells
};

class Transport {
public:
    virtual ~Transport() = default;
    /// Makes the node known and starts heartbeats.
    virtual Result<void> join() = 0;
    /// Asks once. The message's metadata and object tree are on disk before it returns one.
    virtual Result<std::optional<Incoming>> poll() = 0;
    /// Fetches what is not in the folder yet, checks every hash, confirms, and writes the weights as safetensors.
    virtual Result<Pulled> fetch(const Incoming& message) = 0;
    /// Writes the reply's bytes into the message's folder, deterministically: a repeated call with the same reply gives
    /// the same ids. Returns the id of the reply.
    virtual Result<std::string> prepare(const Incoming& message, const Reply& reply) = 0;
    /// Sends what prepare wrote; may be repeated freely.
    virtual Result<PushOutcome> push(const Incoming& message) = 0;
    /// Whether the server has taken the reply. The node must stay online until then.
    virtual Result<Receipt> receipt(const Incoming& message) = 0;
    /// Stops heartbeats and says good-bye.
    virtual Result<void> leave() = 0;
    virtual TransferTotals totals() const = 0;
};

}  // namespace cardionode::fed
