// The calls of the Fleet protocol: bytes, headers, attempts. What they mean for a round stands in flower_transport.h.
// Private to fedclient/flower. Thread safety: one object belongs to one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "conf/base/result.h"
#include "fedclient/flower/fleet.pb.h"
#include "fedclient/flower/flower_http.h"
#include "fedclient/flower/node_key.h"
#include "fedclient/flower/object_store.h"
#include "fedclient/net/http_session.h"

namespace cardionode::fed {

/// The server understood and said no.
struct Refusal {
    int status = 0;
    std::string code, detail;  ///< of a JSON answer; printable and short

    std::string text() const;
};

struct CallLimits {
    Moment until;            ///< no attempt begins later, except the first
    int tries_on_500 = 5;    ///< v0 says 500 for "no" as well as for a passing trouble
    bool repeatable = true;  ///< HttpRequest::repeatable
};

template <class Response>
struct Called {
    std::optional<Refusal> refusal;
    Response response;
};

struct PulledObject {
    std::optional<Refusal> refusal;
    bool found = false, available = false;
    std::optional<ObjectHead> head;  ///< it is in the store
    std::string damage;              ///< what came was not that object
};

class FleetClient {
public:
    static Result<FleetClient> create(const TransportOptions& options, const NodeKey& key);

    /// Repeats after network trouble and 429, 502, 503, 504, with back-off, until the limit; then Retry. Config: a
    /// signature that is not accepted, another dialect, a proxy that allows no large bodies.
    template <class Response>
    Result<Called<Response>> call(const std::string& name, const google::protobuf::MessageLite& request,
                                  const CallLimits& limits) {
        Called<Response> called;
        auto refusal = call_into(name, request.SerializeAsString(), limits, called.response);
        if (!refusal) return std::move(refusal).error();
        called.refusal = std::move(refusal).value();
        return called;
    }

    /// @param store  none: only asks whether it is there
    Result<PulledObject> pull_object(std::uint64_t node_id, std::uint64_t run_id, const std::string& id,
                                     const ObjectStore* store, const CallLimits& limits);
    /// @param object  the object's bytes
    Result<Called<fleet::PushObjectResponse>> push_object(std::uint64_t node_id, std::uint64_t run_id,
                                                          const std::string& id, const std::string& session_id,
                                                          const BodySource& object, const CallLimits& limits);

    HttpTotals totals() const { return session_->totals(); }
    std::optional<double> clock_skew_seconds() const { return session_->clock_skew_seconds(); }
    double download_bytes_per_second() const;
    void close() { session_->close(); }

private:
    struct Exchange {
        std::optional<Refusal> refusal;
        std::string body;
    };
    FleetClient() = default;
    Result<std::optional<Refusal>> call_into(const std::string& name, std::string request, const CallLimits& limits,
                                             google::protobuf::MessageLite& response);
    Result<Exchange> exchange(const std::string& name, const BodySource& body, const CallLimits& limits,
                              const AnswerSink* sink);
    Result<std::vector<std::pair<std::string, std::string>>> headers() const;
    Error config_problem(const Refusal& refusal, const std::string& name, std::uint64_t bytes) const;

    const TransportOptions* options_ = nullptr;
    const NodeKey* key_ = nullptr;
    std::unique_ptr<HttpSession> session_;
    double object_seconds_ = 0;
    std::uint64_t object_bytes_ = 0;
};

}  // namespace cardionode::fed
