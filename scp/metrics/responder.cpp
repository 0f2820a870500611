#include "scp/metrics/responder.h"

#include <cerrno>
#include <optional>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "conf/base/log.h"

namespace cardionode {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;

/// One connection: reads a request, answers, closes. Lives as long as an operation of it is pending.
class Session : public std::enable_shared_from_this<Session> {
public:
    Session(Tcp::socket socket, const Responder::Handler& handler, int& open)
        : stream_(std::move(socket)), handler_(&handler), open_(&open) {
        ++*open_;
        constexpr std::uint32_t kLongestHeader = 8192;
        parser_.header_limit(kLongestHeader);
        parser_.body_limit(1 << 20);  // of what is announced; a body is never read
    }
    ~Session() { --*open_; }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    void start() {
        stream_.expires_after(Responder::kTime);
        http::async_read_header(stream_, buffer_, parser_,
                                [self = shared_from_this()](beast::error_code error, std::size_t) {
                                    if (!error) self->answer();
                                });
    }

private:
    void answer() {
        const http::verb verb = parser_.get().method();
        response_.version(11);
        response_.set(http::field::server, "cardionode");
        response_.set(http::field::cache_control, "no-store");
        response_.keep_alive(false);
        if (verb != http::verb::get && verb != http::verb::head) {
            response_.result(http::status::method_not_allowed);
            response_.set(http::field::allow, "GET, HEAD");
        } else {
            const std::string target(parser_.get().target());
            HttpAnswer answer = (*handler_)(std::string_view(target).substr(0, target.find('?')));
            response_.result(static_cast<unsigned>(answer.status));
            response_.set(http::field::content_type, answer.content_type);
            response_.body() = std::move(answer.body);
        }
        response_.prepare_payload();
        if (verb == http::verb::head) response_.body().clear();  // with the length of what GET would get
        stream_.expires_after(Responder::kTime);
        http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code, std::size_t) {
            beast::error_code ignored;  // the peer may be gone
            self->stream_.socket().shutdown(Tcp::socket::shutdown_send, ignored);
        });
    }

    beast::tcp_stream stream_;
    const Responder::Handler* handler_;
    int* open_;
    beast::flat_static_buffer<16384> buffer_;
    http::request_parser<http::empty_body> parser_;
    http::response<http::string_body> response_;
};

}  // namespace

struct Responder::State {
    asio::io_context context{1};
    Tcp::acceptor acceptor{context};
    Handler handler;
    int open = 0;

    void accept() {
        acceptor.async_accept([this](beast::error_code error, Tcp::socket socket) {
            // One too many is closed at once; no descriptors left: the next one may find some again.
            if (!error && open < kMaxConnections) std::make_shared<Session>(std::move(socket), handler, open)->start();
            if (error != asio::error::operation_aborted) accept();
        });
    }
};

Responder::Responder(std::unique_ptr<State> state) : state_(std::move(state)) {}
Responder::Responder(Responder&&) noexcept = default;
Responder& Responder::operator=(Responder&&) noexcept = default;
Responder::~Responder() = default;

Result<FileDescriptor> Responder::listen(const std::string& address, int port) {
    asio::io_context context{1};
    Tcp::acceptor acceptor{context};
    beast::error_code error;
    const auto ip = asio::ip::make_address(address, error);
    const Tcp::endpoint end(ip, static_cast<unsigned short>(port));
    if (!error) acceptor.open(end.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(end, error);
    if (!error) acceptor.listen(kMaxConnections, error);
    if (error) return config_error(fmt::format("metrics: listening on {} port {}: {}", address, port, error.message()));
    FileDescriptor socket(acceptor.release(error));
    if (error || ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC) != 0)
        return config_error(fmt::format("metrics: listening on {} port {}", address, port));
    return socket;
}

Result<Responder> Responder::create(FileDescriptor listener, Handler handler) {
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0)
        return file_error("asking for the address of", "the metrics port", errno);
    auto state = std::make_unique<State>();
    state->handler = std::move(handler);
    beast::error_code error;
    state->acceptor.assign(name.ss_family == AF_INET6 ? Tcp::v6() : Tcp::v4(), listener.get(), error);
    if (error) return retry_error("metrics: " + error.message());
    listener.release();  // the acceptor owns it now
    return Responder(std::move(state));
}

void Responder::run(const std::function<bool()>& stop) {
    State& state = *state_;
    state.accept();
    while (!stop()) {
        try {
            state.context.run_for(std::chrono::milliseconds(200));
        } catch (const std::exception& problem) {  // of one answer; the others go on
            log_error("metrics_failed", {{"reason", problem.what()}});
        }
        if (state.context.stopped()) state.context.restart();
    }
    beast::error_code ignored;  // it ends in any case
    state.acceptor.close(ignored);
}

Responder::Handler observe(std::function<std::string()> metrics, std::function<Health()> health) {
    return [metrics = std::move(metrics), health = std::move(health)](std::string_view path) -> HttpAnswer {
        if (path == "/metrics") return {200, metrics(), "text/plain; version=0.0.4; charset=utf-8"};
        const bool live = path == "/health/live", ready = path == "/health/ready", both = path == "/health";
        if (!live && !ready && !both) return {404, "try /metrics, /health/live or /health/ready\n"};
        const Health found = health();
        std::string why;
        if ((live || both) && !found.why_not_live.empty()) why += "not live: " + found.why_not_live + "\n";
        if ((ready || both) && !found.why_not_ready.empty()) why += "not ready: " + found.why_not_ready + "\n";
        if (why.empty()) return {200, live ? "live\n" : ready ? "ready\n" : "live\nready\n"};
        return {503, why};
    };
}

}  // namespace cardionode
