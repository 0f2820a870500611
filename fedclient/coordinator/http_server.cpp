#include "fedclient/coordinator/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <ctime>
#include <optional>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "conf/base/free_by.h"
#include "conf/base/log.h"

namespace cardionode::fed {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using Tcp = asio::ip::tcp;
using Error_ = beast::error_code;

constexpr std::uint64_t kLargestBody = 64U << 20;
constexpr std::uint32_t kLargestHeader = 32U << 10;
constexpr std::chrono::seconds kRequestTime{120};  // for one body in either direction
constexpr std::chrono::seconds kHandshakeTime{15};

std::string http_date(Moment moment) {
    const std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(moment.time_since_epoch()).count();
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[64];
    const auto length = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return std::string(text, length);
}

std::string common_name_of(SSL* connection) {
    const std::unique_ptr<X509, FreeBy<&X509_free>> certificate(SSL_get1_peer_certificate(connection));
    if (!certificate) return {};
    char name[128] = {};
    if (X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name, sizeof name) <= 0)
        return {};
    return name;
}

struct Shared {
    HttpServerOptions options;
    HttpServer::Handler handler;
    const Clock& clock;
};

/// One connection. Its handlers run on one strand; it lives as long as one of them is due.
template <class Stream>
class Session : public std::enable_shared_from_this<Session<Stream>> {
public:
    static constexpr bool kTls = !std::is_same_v<Stream, beast::tcp_stream>;

    template <class... Arguments>
    explicit Session(std::shared_ptr<Shared> shared, Arguments&&... arguments)
        : shared_(std::move(shared)), stream_(std::forward<Arguments>(arguments)...), timer_(stream_.get_executor()) {}

    void start() {
        asio::dispatch(stream_.get_executor(), [self = this->shared_from_this()] {
            if constexpr (kTls) self->handshake();
            else self->read();
        });
    }

private:
    void handshake() {
        if constexpr (kTls) {
            beast::get_lowest_layer(stream_).expires_after(kHandshakeTime);
            stream_.async_handshake(ssl::stream_base::server, [self = this->shared_from_this()](Error_ error) {
                if (error) return log_info("tls_refused", {{"reason", error.message()}});
                self->client_name_ = common_name_of(self->stream_.native_handle());
                self->read();
            });
        }
    }

    void read() {
        parser_.emplace();
        parser_->body_limit(kLargestBody);
        parser_->header_limit(kLargestHeader);
        beast::get_lowest_layer(stream_).expires_after(
            std::chrono::milliseconds(static_cast<std::int64_t>(shared_->options.idle_seconds * 1000)));
        http::async_read_header(stream_, buffer_, *parser_,
                                [self = this->shared_from_this()](Error_ error, std::size_t) {
                                    if (error) return self->close();
                                    self->read_body();
                                });
    }

    void read_body() {
        beast::get_lowest_layer(stream_).expires_after(kRequestTime);
        if (beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
            interim_.emplace(http::status::continue_, 11);
            http::async_write(stream_, *interim_, [self = this->shared_from_this()](Error_ error, std::size_t) {
                if (error) return self->close();
                self->read_rest();
            });
            return;
        }
        read_rest();
    }

    void read_rest() {
        http::async_read(stream_, buffer_, *parser_, [self = this->shared_from_this()](Error_ error, std::size_t) {
            if (error == http::error::body_limit) {
                HttpReply reply;
                reply.status = 413;
                reply.content_type = "text/plain";
                return self->write(std::move(reply), false);
            }
            if (error) return self->close();
            self->answer();
        });
    }

    void answer() {
        const auto& request = parser_->get();
        HttpQuestion question;
        question.method = std::string(request.method_string());
        question.target = std::string(request.target());
        for (const auto& field : request) {
            std::string name(field.name_string());
            std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
            question.headers[name] = std::string(field.value());
        }
        question.client_name = client_name_;
        const bool keep = request.keep_alive();
        question.body = std::move(parser_->get().body());
        HttpReply reply = shared_->handler(question);
        if (reply.drop) return cut_off();
        if (reply.delay_seconds <= 0) return write(std::move(reply), keep);
        beast::get_lowest_layer(stream_).expires_never();
        timer_.expires_after(std::chrono::milliseconds(static_cast<std::int64_t>(reply.delay_seconds * 1000)));
        auto held = std::make_shared<HttpReply>(std::move(reply));
        timer_.async_wait(
            [self = this->shared_from_this(), held, keep](Error_) { self->write(std::move(*held), keep); });
    }

    void write(HttpReply reply, bool keep) {
        beast::get_lowest_layer(stream_).expires_after(kRequestTime);
        response_.emplace(static_cast<http::status>(reply.status), 11);
        response_->set(http::field::content_type, reply.content_type);
        response_->set(http::field::date, http_date(shared_->clock.now()));
        response_->set(http::field::server, "cardionode-fedcoord");
        response_->keep_alive(keep);
        response_->body() = std::move(reply.body);
        response_->prepare_payload();
        if (reply.cut) {  // the head announces it all
            serializer_text_ = fmt::format("HTTP/1.1 {} OK\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
                                           reply.status, reply.content_type, response_->body().size()) +
                               response_->body().substr(0, response_->body().size() / 2);
            asio::async_write(stream_, asio::buffer(serializer_text_),
                              [self = this->shared_from_this()](Error_, std::size_t) { self->cut_off(); });
            return;
        }
        http::async_write(
            stream_, *response_,
            [self = this->shared_from_this(), keep, silent = reply.close_silently](Error_ error, std::size_t) {
                self->response_.reset();
                if (error || silent) return self->cut_off();
                if (!keep) return self->close();
                self->read();
            });
    }

    void close() {
        if constexpr (kTls) {
            beast::get_lowest_layer(stream_).expires_after(std::chrono::seconds(2));
            stream_.async_shutdown([self = this->shared_from_this()](Error_) { self->cut_off(); });
        } else {
            cut_off();
        }
    }

    void cut_off() {
        Error_ ignored;  // the peer may have closed first
        beast::get_lowest_layer(stream_).socket().shutdown(Tcp::socket::shutdown_both, ignored);
        beast::get_lowest_layer(stream_).socket().close(ignored);
    }

    std::shared_ptr<Shared> shared_;
    Stream stream_;
    asio::steady_timer timer_;
    beast::flat_buffer buffer_;
    std::optional<http::request_parser<http::string_body>> parser_;
    std::optional<http::response<http::string_body>> response_;
    std::optional<http::response<http::empty_body>> interim_;
    std::string serializer_text_;
    std::string client_name_;
};

Result<void> load_tls(const HttpServerOptions& options, ssl::context& context) {
    Error_ error;
    const auto failed = [&](const std::filesystem::path& file) {
        return config_error(fmt::format("{}: {}", file.string(), error.message()));
    };
    SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_3_VERSION);
    context.use_certificate_chain_file(options.certificate.string(), error);
    if (error) return failed(options.certificate);
    context.use_private_key_file(options.key.string(), ssl::context::pem, error);
    if (error) return failed(options.key);
    if (options.client_ca.empty()) return {};
    context.load_verify_file(options.client_ca.string(), error);
    if (error) return failed(options.client_ca);
    context.set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
    if (error) return failed(options.client_ca);
    if (options.client_crl.empty()) return {};
    X509_STORE* const store = SSL_CTX_get_cert_store(context.native_handle());
    X509_LOOKUP* const lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, options.client_crl.c_str(), X509_FILETYPE_PEM) <= 0)
        return config_error(options.client_crl.string() + ": no revocation list in PEM");
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return {};
}

}  // namespace

struct HttpServer::State {
    explicit State(std::shared_ptr<Shared> s, int threads)
        : shared(std::move(s)), io(threads), tls(ssl::context::tls_server), acceptor(io) {}

    void accept() {
        acceptor.async_accept(asio::make_strand(io), [this](Error_ error, Tcp::socket socket) {
            if (!acceptor.is_open()) return;
            if (error) {
                log_warning("accept_failed", {{"reason", error.message()}});
                retry.expires_after(std::chrono::milliseconds(200));  // no descriptors left: no busy loop
                return retry.async_wait([this](Error_ cancelled) {
                    if (!cancelled) accept();
                });
            }
            Error_ ignored;  // an option only
            socket.set_option(Tcp::no_delay(true), ignored);
            if (shared->options.certificate.empty())
                std::make_shared<Session<beast::tcp_stream>>(shared, std::move(socket))->start();
            else
                std::make_shared<Session<beast::ssl_stream<beast::tcp_stream>>>(shared, std::move(socket), tls)
                    ->start();
            accept();
        });
    }

    std::shared_ptr<Shared> shared;
    asio::io_context io;
    ssl::context tls;
    Tcp::acceptor acceptor;
    asio::steady_timer retry{io};
    std::vector<std::thread> threads;
};

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpServerOptions& options, Handler handler) {
    const Clock& clock = options.clock ? *options.clock : system_clock();
    auto state = std::make_unique<State>(std::make_shared<Shared>(Shared{options, std::move(handler), clock}),
                                         std::max(1, options.threads));
    if (!options.certificate.empty())
        if (auto loaded = load_tls(options, state->tls); !loaded) return std::move(loaded).error().in("TLS");
    const auto place = fmt::format("{}:{}", options.bind_address, options.port);
    Error_ error;
    const auto address = asio::ip::make_address(options.bind_address, error);
    if (error) return config_error(place + ": no IP address");
    const Tcp::endpoint endpoint(address, static_cast<unsigned short>(options.port));
    state->acceptor.open(endpoint.protocol(), error);
    if (!error) state->acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) state->acceptor.bind(endpoint, error);
    if (!error) state->acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) return config_error(fmt::format("listening on {}: {}", place, error.message()));
    state->accept();
    for (int i = 0; i < std::max(1, options.threads); ++i)
        state->threads.emplace_back([raw = state.get()] {
            while (true) {
                try {
                    raw->io.run();
                    return;
                } catch (const std::exception& e) {  // a handler's bug costs its own connection alone
                    log_error("http_thread", {{"kind", "bug"}, {"reason", e.what()}});
                }
            }
        });
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() {
    state_->io.stop();
    for (auto& thread : state_->threads) thread.join();
}

int HttpServer::port() const { return state_->acceptor.local_endpoint().port(); }

}  // namespace cardionode::fed
