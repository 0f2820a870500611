#include "fedclient/net/http_connection.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <sys/socket.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace cardionode::fed {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;
using Code = boost::system::error_code;

constexpr std::size_t kBlock = 256 * 1024;
constexpr std::size_t kRead = 64 * 1024;
constexpr std::size_t kLongestHead = 64 * 1024;
constexpr std::size_t kLongestComplaint = 64 * 1024;  ///< bytes of a body that no caller waits for
constexpr auto kSlice = std::chrono::milliseconds(100);

asio::const_buffer buffer_of(std::span<const std::byte> bytes) {
    return asio::const_buffer(bytes.data(), bytes.size());
}

}  // namespace

Result<HttpTarget> HttpTarget::parse(const std::string& url) {
    const auto wrong = [&] {
        return config_error(
            fmt::format("server {}: expected https://host[:port][/path], or http:// to this machine", url));
    };
    HttpTarget target;
    std::string_view rest = url;
    if (rest.starts_with("https://")) rest.remove_prefix(8);
    else if (rest.starts_with("http://")) {
        rest.remove_prefix(7);
        target.tls = false;
    } else return wrong();
    const std::size_t slash = rest.find('/');
    std::string_view authority = rest.substr(0, slash);
    if (slash != std::string_view::npos) target.prefix = rest.substr(slash);
    while (target.prefix.ends_with('/')) target.prefix.pop_back();
    std::size_t colon = authority.rfind(':');
    if (authority.starts_with('[')) {  // IPv6
        const std::size_t end = authority.find(']');
        if (end == std::string_view::npos) return wrong();
        target.host = authority.substr(1, end - 1);
        colon = end + 1 < authority.size() ? end + 1 : std::string_view::npos;
    } else {
        target.host = authority.substr(0, colon);
    }
    target.port = target.tls ? "443" : "80";
    if (colon != std::string_view::npos) target.port = authority.substr(colon + 1);
    const auto printable = [](const std::string& text) {
        return std::all_of(text.begin(), text.end(),
                           [](unsigned char c) { return c > 32 && c < 127 && c != '@' && c != '?' && c != '#'; });
    };
    const bool digits =
        !target.port.empty() && target.port.size() <= 5 &&
        std::all_of(target.port.begin(), target.port.end(), [](unsigned char c) { return std::isdigit(c); });
    if (target.host.empty() || !digits || std::stoi(target.port) > 65535 || !printable(target.host) ||
        !printable(target.prefix))
        return wrong();
    return target;
}

std::string HttpTarget::authority() const {
    const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
    return name + ":" + port;
}

struct HttpConnection::State {
    explicit State(const HttpOptions& o) : options(&o) {
        buffer.reserve(kRead);  // Beast reads as much as the buffer has room for, which is 512 bytes otherwise
    }

    const HttpOptions* options;
    asio::io_context context{1};
    std::unique_ptr<asio::ssl::context> tls_context;  ///< shares the session's SSL_CTX
    std::unique_ptr<beast::tcp_stream> plain;
    std::unique_ptr<asio::ssl::stream<beast::tcp_stream>> tls;
    beast::flat_buffer buffer{kLongestHead + kBlock};
    std::string block = std::string(kBlock, '\0');

    beast::tcp_stream& lowest() { return tls ? tls->next_layer() : *plain; }

    /// Starts an operation and runs it to its end, at most `longest`, asking all the while whether to stop.
    template <class Start>
    Code drive(Milliseconds longest, Start start) {
        bool done = false;
        Code result;
        lowest().expires_after(longest);
        start([&](Code code, auto&&...) {
            result = code;
            done = true;
        });
        bool stopped = false;
        while (!done) {
            context.restart();
            context.run_one_for(kSlice);
            if (done || stopped || !options->surroundings.stop()) continue;
            stopped = true;
            lowest().close();  // ends the operation
        }
        lowest().expires_never();
        return stopped ? Code(asio::error::operation_aborted) : result;
    }

    template <class Operation>
    Code on_stream(Milliseconds longest, Operation operation) {
        return drive(longest, [&](auto handler) {
            if (tls) operation(*tls, std::move(handler));
            else operation(*plain, std::move(handler));
        });
    }

    Error failed(const Code& code, std::string_view doing) const {
        if (options->surroundings.stop()) return retry_error(fmt::format("{}: stopped", doing));
        if (tls && code.category() == asio::error::get_ssl_category()) {
            SSL* ssl = tls->native_handle();
            return tls_failure(ssl, ERR_GET_REASON(static_cast<unsigned long>(code.value())), code.message()).in(doing);
        }
        const bool late = code == beast::error::timeout;
        return retry_error(fmt::format("{}: {}", doing, late ? "no answer in time" : code.message()));
    }

    Result<void> send(std::span<const std::byte> bytes, Progress& progress) {
        const Code code = on_stream(options->transfer_time, [&](auto& stream, auto handler) {
            asio::async_write(stream, buffer_of(bytes), std::move(handler));
        });
        progress.sent = true;  // of a failed write some bytes may have left
        if (code) return failed(code, "sending a request");
        return {};
    }

    Result<void> send_request(const std::string& head, const BodySource& body, Progress& progress) {
        // The head and the first piece leave together: one packet for most calls.
        std::string first = head;
        std::uint64_t at = 0;
        do {
            const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, body.size - at));
            std::span<std::byte> piece;
            if (at == 0) {
                first.resize(head.size() + n);
                piece = std::as_writable_bytes(std::span(first)).subspan(head.size());
            } else {
                piece = std::as_writable_bytes(std::span(block)).first(n);
            }
            if (n > 0) {
                if (auto got = body.read(at, piece); !got) return got;
            }
            if (auto sent = send(at == 0 ? std::as_bytes(std::span(first)) : piece, progress); !sent) return sent;
            at += n;
            progress.body_sent = at;
        } while (at < body.size);
        return {};
    }

    Result<Answer> receive(const AnswerSink* sink, Progress& progress) {
        http::response_parser<http::buffer_body> parser;
        parser.header_limit(kLongestHead);
        parser.body_limit(sink ? options->largest_stream_answer : options->largest_plain_answer);
        Code code = on_stream(options->answer_time, [&](auto& stream, auto handler) {
            http::async_read_header(stream, buffer, parser, std::move(handler));
        });
        progress.answered = progress.answered || parser.got_some() || buffer.size() > 0;
        if (code) return failed(code, "waiting for an answer");
        Answer answer;
        answer.answer.status = static_cast<int>(parser.get().result_int());
        answer.answer.content_type = std::string(parser.get()[http::field::content_type]);
        answer.date = std::string(parser.get()[http::field::date]);
        const bool good = answer.answer.status == 200;
        if (good && sink) {
            if (auto ready = sink->start(); !ready) return std::move(ready).error();
        }
        while (!parser.is_done()) {
            parser.get().body().data = block.data();
            parser.get().body().size = block.size();
            code = on_stream(options->transfer_time, [&](auto& stream, auto handler) {
                http::async_read(stream, buffer, parser, std::move(handler));
            });
            if (code == http::error::need_buffer) code = {};
            if (code) return failed(code, "receiving an answer");
            const std::size_t n = block.size() - parser.get().body().size;
            progress.body_received += n;
            const std::string_view piece(block.data(), n);
            if (good && sink) {
                if (auto taken = sink->take(std::as_bytes(std::span(piece))); !taken) return std::move(taken).error();
            } else if (good || answer.answer.body.size() < kLongestComplaint) {
                answer.answer.body.append(piece);
            }
        }
        answer.keep_alive = parser.keep_alive();
        return answer;
    }

    Result<void> connect(const HttpTarget& target, SSL_CTX* ssl_context) {
        Tcp::resolver resolver(context);
        Code code;
        const auto found = resolver.resolve(target.host, target.port, code);
        if (code) return retry_error(fmt::format("name {}: {}", target.host, code.message()));
        const bool here = std::all_of(found.begin(), found.end(),
                                      [](const auto& entry) { return entry.endpoint().address().is_loopback(); });
        if (!target.tls && !here)
            return config_error(
                fmt::format("http://{} is not this machine: only https may leave it", target.authority()));
        if (target.tls) {
            SSL_CTX_up_ref(ssl_context);
            tls_context = std::make_unique<asio::ssl::context>(ssl_context);
            tls = std::make_unique<asio::ssl::stream<beast::tcp_stream>>(beast::tcp_stream(context), *tls_context);
        } else {
            plain = std::make_unique<beast::tcp_stream>(context);
        }
        code = drive(options->connect_time, [&](auto handler) { lowest().async_connect(found, std::move(handler)); });
        if (code) return failed(code, fmt::format("connecting to {}", target.authority()));
        lowest().socket().set_option(Tcp::no_delay(true), code);
        if (!tls) return {};
        if (!expect_host(tls->native_handle(), target.host))
            return config_error(fmt::format("server {}: no name that a certificate can have", target.host));
        code = drive(options->connect_time,
                     [&](auto handler) { tls->async_handshake(asio::ssl::stream_base::client, std::move(handler)); });
        if (code) return failed(code, fmt::format("connecting to {}", target.authority()));
        if (auto pinned = check_pins(tls->native_handle(), options->pins); !pinned)
            return std::move(pinned).error().in(target.authority());
        return {};
    }
};

HttpConnection::HttpConnection(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpConnection::~HttpConnection() {
    if (state_->tls || state_->plain) {
        Code ignored;  // the server finds out by itself; a polite end of TLS could block
        state_->lowest().socket().shutdown(Tcp::socket::shutdown_both, ignored);
    }
}

Result<std::unique_ptr<HttpConnection>> HttpConnection::open(const HttpTarget& target, const HttpOptions& options,
                                                             SSL_CTX* context) {
    std::unique_ptr<HttpConnection> made(new HttpConnection(std::make_unique<State>(options)));
    if (auto connected = made->state_->connect(target, context); !connected) return std::move(connected).error();
    return made;
}

Result<HttpConnection::Answer> HttpConnection::exchange(const HttpTarget& target, const HttpRequest& request,
                                                        const AnswerSink* sink, Progress& progress) {
    std::string head = fmt::format("POST {}{} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: keep-alive\r\n",
                                   target.prefix, request.path, target.authority(), request.body.size);
    for (const auto& [name, value] : request.headers) head += fmt::format("{}: {}\r\n", name, value);
    head += "\r\n";
    if (auto sent = state_->send_request(head, request.body, progress); !sent) {
        // A server that refuses a request by its head answers and closes before the body is through.
        if (sent.error().kind != ErrorKind::Retry || !progress.sent || state_->options->surroundings.stop())
            return std::move(sent).error();
        auto early = state_->receive(nullptr, progress);
        if (!early || early->answer.status == 200) return std::move(sent).error();
        early->keep_alive = false;
        return early;
    }
    return state_->receive(sink, progress);
}

bool HttpConnection::quiet() const {
    if (state_->buffer.size() > 0) return false;
    char byte = 0;
    const ssize_t n = ::recv(state_->lowest().socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

}  // namespace cardionode::fed
