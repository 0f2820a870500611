#include "fedclient/net/http_session.h"

#include <cmath>
#include <cstring>
#include <ctime>

#include <fmt/format.h>

#include "conf/base/log.h"
#include "fedclient/net/http_connection.h"
#include "fedclient/net/tls_client.h"

namespace cardionode::fed {
namespace {

constexpr double kTolerableSkewSeconds = 60;

/// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7).
std::optional<double> seconds_of(const std::string& date) {
    std::tm parts{};
    const char* end = ::strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    if (!end || *end != '\0') return std::nullopt;
    return static_cast<double>(::timegm(&parts));
}

}  // namespace

BodySource BodySource::of(std::string bytes) {
    BodySource source;
    source.size = bytes.size();
    source.read = [bytes = std::move(bytes)](std::uint64_t offset, std::span<std::byte> target) -> Result<void> {
        if (offset > bytes.size() || target.size() > bytes.size() - offset)
            return bug_error("a body shorter than it says");
        std::memcpy(target.data(), bytes.data() + offset, target.size());
        return {};
    };
    return source;
}

struct HttpSession::State {
    HttpOptions options;
    HttpTarget target;
    TlsContextPtr context;
    std::unique_ptr<HttpConnection> connection;
    HttpTotals totals;
    std::optional<double> skew;
    bool may_have_arrived = false, warned_of_skew = false;

    void look_at_date(const std::string& date) {
        const auto server = seconds_of(date);
        if (!server) return;
        const double own = static_cast<double>(options.surroundings.clock->now().time_since_epoch().count()) / 1000.0;
        skew = std::floor(own) - *server;
        if (std::abs(*skew) <= kTolerableSkewSeconds || warned_of_skew) return;
        warned_of_skew = true;
        log_warning("fed_clock_skew", {{"seconds", *skew}, {"advice", "check time synchronisation of this machine"}});
    }

    Result<HttpAnswer> attempt(const HttpRequest& request, const AnswerSink* sink, HttpConnection::Progress& progress) {
        if (!connection) {
            auto opened = HttpConnection::open(target, options, context.get());
            if (!opened) return std::move(opened).error();
            connection = std::move(opened).value();
            ++totals.connects;
        }
        auto answer = connection->exchange(target, request, sink, progress);
        totals.bytes_sent += progress.body_sent;
        totals.bytes_received += progress.body_received;
        if (!answer || !answer->keep_alive) connection.reset();
        if (!answer) return std::move(answer).error();
        look_at_date(answer->date);
        return std::move(answer->answer);
    }

    Result<HttpAnswer> post(const HttpRequest& request, const AnswerSink* sink) {
        if (options.surroundings.stop()) return retry_error("stopped");
        ++totals.calls;
        may_have_arrived = false;
        // Closed by the server meanwhile, or about to be: what must not be sent twice begins on a line of its own.
        if (connection && (!request.repeatable || !connection->quiet())) connection.reset();
        const bool kept = connection != nullptr;
        HttpConnection::Progress progress;
        auto answer = attempt(request, sink, progress);
        const bool stale = kept && !progress.answered && !options.surroundings.stop();
        if (!answer && answer.error().kind == ErrorKind::Retry && stale && request.repeatable) {
            progress = {};
            answer = attempt(request, sink, progress);
        }
        may_have_arrived = !answer && progress.sent;
        return answer;
    }
};

HttpSession::HttpSession(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpSession::HttpSession(HttpSession&&) noexcept = default;
HttpSession& HttpSession::operator=(HttpSession&&) noexcept = default;
HttpSession::~HttpSession() = default;

Result<HttpSession> HttpSession::create(HttpOptions options) {
    auto target = HttpTarget::parse(options.url);
    if (!target) return std::move(target).error();
    auto state = std::make_unique<State>();
    if (target->tls) {
        auto context = make_tls_context(options);
        if (!context) return std::move(context).error();
        state->context = std::move(context).value();
    }
    state->options = std::move(options);
    state->target = std::move(target).value();
    return HttpSession(std::move(state));
}

Result<HttpAnswer> HttpSession::post(const HttpRequest& request, const AnswerSink* sink) {
    try {
        return state_->post(request, sink);
    } catch (const std::exception& problem) {  // no memory, or a Boost call of ours that throws
        state_->connection.reset();
        return retry_error(fmt::format("HTTP: {}", problem.what()));
    }
}

bool HttpSession::may_have_arrived() const { return state_->may_have_arrived; }
void HttpSession::close() { state_->connection.reset(); }
HttpTotals HttpSession::totals() const { return state_->totals; }
std::optional<double> HttpSession::clock_skew_seconds() const { return state_->skew; }
const HttpOptions& HttpSession::options() const { return state_->options; }

}  // namespace cardionode::fed
