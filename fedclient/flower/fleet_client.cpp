#include "fedclient/flower/fleet_client.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/base64.h"
#include "conf/base/log.h"
#include "fedclient/flower/object_envelope.h"

namespace cardionode::fed {
namespace {

constexpr std::size_t kLongestDetail = 200;

/// A server's words as they may stand in a log.
std::string printable(const std::string& text) {
    std::string clean;
    for (const char c : text.substr(0, kLongestDetail)) clean += c >= 32 && c < 127 ? c : ' ';
    return clean;
}

Refusal refusal_of(const HttpAnswer& answer) {
    Refusal refusal{answer.status, {}, {}};
    const nlohmann::json body = nlohmann::json::parse(answer.body, nullptr, false);
    if (!body.is_object()) return refusal;
    const auto word = [&](const char* key) -> std::string {
        const auto found = body.find(key);
        if (found == body.end() || found->is_null()) return {};
        return printable(found->is_string() ? found->get<std::string>()
                                            : found->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    };
    refusal.code = word("code");
    refusal.detail = word("detail");
    return refusal;
}

bool passing(int status) { return status == 408 || status == 425 || status == 429 || (status >= 502 && status <= 504); }

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::string Refusal::text() const {
    std::string text = fmt::format("HTTP {}", status);
    if (!code.empty()) text += " " + code;
    if (!detail.empty()) text += ": " + detail;
    return text;
}

Result<FleetClient> FleetClient::create(const TransportOptions& options, const NodeKey& key) {
    auto session = HttpSession::create(options.http);
    if (!session) return std::move(session).error();
    FleetClient client;
    client.options_ = &options;
    client.key_ = &key;
    client.session_ = std::make_unique<HttpSession>(std::move(session).value());
    return client;
}

Result<std::vector<std::pair<std::string, std::string>>> FleetClient::headers() const {
    std::vector<std::pair<std::string, std::string>> headers = {{"Content-Type", "application/protobuf"},
                                                                {"Accept", "application/protobuf"}};
    headers.insert(headers.end(), options_->extra_headers.begin(), options_->extra_headers.end());
    if (options_->dialect == Dialect::V0) return headers;
    const std::string timestamp = signed_timestamp(options_->http.surroundings.clock->now());
    const auto signature = key_->sign(timestamp);
    if (!signature) return signature.error();
    headers.emplace_back("flwr-public-key", to_base64(key_->public_pem()));
    headers.emplace_back("flwr-timestamp", timestamp);
    headers.emplace_back("flwr-signature", to_base64(*signature));
    return headers;
}

Error FleetClient::config_problem(const Refusal& refusal, const std::string& name, std::uint64_t bytes) const {
    if (refusal.status == 413)
        return config_error(
            fmt::format("{}: the proxy before the server takes no body of {} bytes; set its limit to 16 "
                        "MB or more",
                        name, bytes));
    if (refusal.status == 404)
        return config_error(fmt::format("{}: {} has no such call: another dialect or another path is needed", name,
                                        options_->http.url));
    const double skew = session_->clock_skew_seconds().value_or(0);
    return config_error(
        fmt::format("{}: the server does not accept this node ({}): its public key must be registered, "
                    "and its clock right (it differs by {} s)",
                    name, refusal.text(), skew));
}

Result<FleetClient::Exchange> FleetClient::exchange(const std::string& name, const BodySource& body,
                                                    const CallLimits& limits, const AnswerSink* sink) {
    HttpRequest request;
    request.path = (options_->dialect == Dialect::V0 ? "/api/v0/fleet/" : "/v1/fleet/") + name;
    request.body = body;
    request.repeatable = limits.repeatable;
    Backoff backoff(options_->http.surroundings, limits.until);
    for (int refused = 0;;) {
        auto signed_headers = headers();
        if (!signed_headers) return std::move(signed_headers).error();
        request.headers = std::move(signed_headers).value();
        auto answer = session_->post(request, sink);
        Error last = retry_error("");
        if (!answer) {
            last = std::move(answer).error().in(name);
            if (last.kind != ErrorKind::Retry) return last;
            if (!limits.repeatable && session_->may_have_arrived())
                log_warning("fed_answer_lost", {{"call", name},
                                                {"reason", last.message},
                                                {"effect", "a message may be lost until the server issues it again"}});
        } else if (answer->status == 200) {
            return Exchange{std::nullopt, std::move(answer->body)};
        } else {
            Refusal refusal = refusal_of(*answer);
            if (answer->status == 413 || answer->status == 401 || answer->status == 403 ||
                (answer->status == 404 && refusal.code.empty()))
                return config_problem(refusal, name, body.size);
            if (!passing(answer->status)) {
                const bool again = answer->status == 500 && ++refused < limits.tries_on_500;
                if (!again) return Exchange{std::move(refusal), {}};
            }
            last = retry_error(fmt::format("{}: {}", name, refusal.text()));
        }
        if (backoff.waits() == 0) log_debug("fed_call_repeated", {{"call", name}, {"reason", last.message}});
        if (!backoff.wait()) return last;
    }
}

Result<std::optional<Refusal>> FleetClient::call_into(const std::string& name, std::string request,
                                                      const CallLimits& limits,
                                                      google::protobuf::MessageLite& response) {
    auto answer = exchange(name, BodySource::of(std::move(request)), limits, nullptr);
    if (!answer) return std::move(answer).error();
    if (answer->refusal) return std::move(answer->refusal);
    if (!response.ParseFromString(answer->body))
        return retry_error(fmt::format("{}: the answer is no protobuf: is a portal or a filter in between?", name));
    return std::optional<Refusal>();
}

Result<PulledObject> FleetClient::pull_object(std::uint64_t node_id, std::uint64_t run_id, const std::string& id,
                                              const ObjectStore* store, const CallLimits& limits) {
    fleet::PullObjectRequest request;
    request.mutable_node()->set_node_id(node_id);
    request.set_run_id(run_id);
    request.set_object_id(id);
    std::optional<ObjectWriter> writer;
    std::optional<PullObjectReader> reader;
    std::uint64_t bytes = 0;
    const auto start = std::chrono::steady_clock::now();  // pauses count: a line that breaks is a slow line
    AnswerSink sink;
    sink.start = [&]() -> Result<void> {
        bytes = 0;
        writer.reset();
        if (store) {
            auto begun = store->begin();
            if (!begun) return std::move(begun).error();
            writer.emplace(std::move(begun).value());
        }
        reader.emplace([&](std::span<const std::byte> piece) -> Result<void> {
            bytes += piece.size();
            return writer ? writer->append(piece) : Result<void>();
        });
        return {};
    };
    sink.take = [&](std::span<const std::byte> piece) { return reader->feed(piece); };
    auto answer = exchange("pull-object", BodySource::of(request.SerializeAsString()), limits, &sink);
    PulledObject pulled;
    if (!answer) {
        if (answer.error().kind != ErrorKind::Reject) return std::move(answer).error();
        pulled.found = pulled.available = true;
        pulled.damage = answer.error().message;
        return pulled;
    }
    pulled.refusal = std::move(answer->refusal);
    if (pulled.refusal) return pulled;
    pulled.found = reader->found();
    pulled.available = reader->available();
    if (!reader->complete()) pulled.found = pulled.available = true, pulled.damage = "the answer ends too early";
    if (!store || !pulled.found || !pulled.available || !pulled.damage.empty()) return pulled;
    object_seconds_ += seconds_since(start);
    object_bytes_ += bytes;
    auto head = writer->commit(id);
    if (head) pulled.head = std::move(head).value();
    else if (head.error().kind == ErrorKind::Reject) pulled.damage = head.error().message;
    else return std::move(head).error();
    return pulled;
}

Result<Called<fleet::PushObjectResponse>> FleetClient::push_object(std::uint64_t node_id, std::uint64_t run_id,
                                                                   const std::string& id, const std::string& session_id,
                                                                   const BodySource& object, const CallLimits& limits) {
    const std::string prefix = push_object_prefix(node_id, run_id, id, session_id, object.size);
    BodySource body;
    body.size = prefix.size() + object.size;
    body.read = [&](std::uint64_t offset, std::span<std::byte> target) -> Result<void> {
        if (offset < prefix.size()) {
            const std::size_t n = std::min<std::size_t>(prefix.size() - offset, target.size());
            std::memcpy(target.data(), prefix.data() + offset, n);
            target = target.subspan(n);
            offset += n;
        }
        return target.empty() ? Result<void>() : object.read(offset - prefix.size(), target);
    };
    auto answer = exchange("push-object", body, limits, nullptr);
    if (!answer) return std::move(answer).error();
    Called<fleet::PushObjectResponse> called;
    called.refusal = std::move(answer->refusal);
    if (!called.refusal && !called.response.ParseFromString(answer->body)) called.response.set_stored(false);
    return called;
}

double FleetClient::download_bytes_per_second() const {
    return object_seconds_ > 0 ? static_cast<double>(object_bytes_) / object_seconds_ : 0;
}

}  // namespace cardionode::fed
