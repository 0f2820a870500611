#include "tests/support/scripted_server.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <list>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include <sys/socket.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "conf/base/hash.h"

namespace cardionode::test {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;
using Code = boost::system::error_code;
using TlsStream = asio::ssl::stream<Tcp::socket&>;

constexpr std::size_t kBlock = 256 * 1024;
constexpr std::uint64_t kKeptBody = 6U << 20;

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

}  // namespace

struct ScriptedServer::State {
    Handler handler;
    std::optional<asio::ssl::context> tls;
    asio::io_context context;
    Tcp::acceptor acceptor{context};
    std::mutex handling;
    std::mutex mutex;  ///< of what follows
    std::condition_variable stopped;
    bool stop = false;
    std::list<Tcp::socket> sockets;
    std::vector<std::thread> threads;
    std::atomic<int> accepted{0};
    std::thread acceptor_thread;

    void accept() {
        while (true) {
            Tcp::socket socket(context);
            Code code;
            acceptor.accept(socket, code);
            const std::lock_guard lock(mutex);
            if (stop) return;
            if (code) continue;
            socket.set_option(Tcp::no_delay(true), code);
            sockets.push_back(std::move(socket));
            threads.emplace_back([this, &own = sockets.back(), number = ++accepted] { serve(own, number); });
        }
    }

    void serve(Tcp::socket& socket, int number) {
        try {
            if (!tls) {
                converse(socket, number, nullptr);
            } else {
                TlsStream stream(socket, *tls);
                stream.handshake(asio::ssl::stream_base::server);
                converse(stream, number, stream.native_handle());
            }
        } catch (const std::exception&) {  // the peer is gone, or was refused: its side tells the test
        }
        Code ignored;
        socket.shutdown(Tcp::socket::shutdown_both, ignored);
        const std::lock_guard lock(mutex);
        socket.close(ignored);
    }

    template <class Stream>
    void converse(Stream& stream, int number, SSL* ssl) {
        beast::flat_buffer buffer;
        while (true) {
            http::request_parser<http::buffer_body> parser;
            parser.body_limit(1ULL << 40);  // Boost 1.74 takes "none" for "nothing"
            http::read_header(stream, buffer, parser);
            Request request = read_body(stream, buffer, parser);
            request.connection = number;
            if (ssl) {
                request.tls_version = SSL_get_version(ssl);
                if (X509* peer = SSL_get1_peer_certificate(ssl)) {
                    char text[256];
                    X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, text, sizeof text);
                    request.peer_subject = text;
                    X509_free(peer);
                }
            }
            Answer answer;
            {
                const std::lock_guard lock(handling);
                answer = handler(request);
            }
            if (answer.end == End::DropBeforeAnswer) return;
            if (answer.end == End::Stall) {
                std::unique_lock lock(mutex);
                stopped.wait(lock, [this] { return stop; });
                return;
            }
            send(stream, answer);
            if (answer.end != End::Normal) return;
        }
    }

    template <class Stream>
    static Request read_body(Stream& stream, beast::flat_buffer& buffer,
                             http::request_parser<http::buffer_body>& parser) {
        Request request;
        request.target = std::string(parser.get().target());
        for (const auto& field : parser.get())
            request.headers[lower(std::string(field.name_string()))] = std::string(field.value());
        std::vector<char> block(kBlock);
        Sha256 sha;
        while (!parser.is_done()) {
            parser.get().body().data = block.data();
            parser.get().body().size = block.size();
            Code code;
            http::read(stream, buffer, parser, code);
            if (code && code != http::error::need_buffer) throw boost::system::system_error(code);
            const std::string_view piece(block.data(), block.size() - parser.get().body().size);
            sha.update(piece);
            request.body_bytes += piece.size();
            if (request.body_bytes <= kKeptBody) request.body.append(piece);
        }
        if (request.body_bytes > kKeptBody) request.body.clear();
        request.body_sha256 = sha.hex_digest();
        return request;
    }

    template <class Stream>
    static void send(Stream& stream, const Answer& answer) {
        const std::uint64_t size = answer.generated > 0 ? answer.generated : answer.body.size();
        std::string head = "HTTP/1.1 " + std::to_string(answer.status) +
                           " Scripted\r\nContent-Type: " + answer.content_type +
                           "\r\nContent-Length: " + std::to_string(size) + "\r\n";
        if (!answer.date.empty()) head += "Date: " + answer.date + "\r\n";
        head += "\r\n";
        asio::write(stream, asio::buffer(head));
        const std::uint64_t end = answer.end == End::CutBody ? size / 2 : size;
        if (answer.generated == 0) {
            asio::write(stream, asio::buffer(answer.body.data(), static_cast<std::size_t>(end)));
            return;
        }
        std::vector<unsigned char> block(kBlock);
        for (std::uint64_t at = 0; at < end;) {
            const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, end - at));
            for (std::size_t i = 0; i < n; ++i) block[i] = static_cast<unsigned char>((at + i) % 251);
            asio::write(stream, asio::buffer(block.data(), n));
            at += n;
        }
    }
};

ScriptedServer::ScriptedServer(Handler handler, std::optional<Tls> tls) : state_(std::make_unique<State>()) {
    State& s = *state_;
    s.handler = std::move(handler);
    if (tls) {
        s.tls.emplace(asio::ssl::context::tls_server);
        SSL_CTX* context = s.tls->native_handle();
        s.tls->use_certificate_chain_file(tls->certificate.string());
        s.tls->use_private_key_file(tls->key.string(), asio::ssl::context::pem);
        if (tls->only_tls12) SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
        if (tls->client_certificate) {
            s.tls->load_verify_file(tls->ca.string());
            s.tls->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
        }
    }
    const Tcp::endpoint end(asio::ip::address_v4::loopback(), 0);
    s.acceptor.open(end.protocol());
    s.acceptor.bind(end);
    s.acceptor.listen();
    s.acceptor_thread = std::thread([&s] { s.accept(); });
}

ScriptedServer::~ScriptedServer() {
    State& s = *state_;
    {
        const std::lock_guard lock(s.mutex);
        s.stop = true;
        Code ignored;
        for (Tcp::socket& socket : s.sockets) {
            if (socket.is_open()) socket.shutdown(Tcp::socket::shutdown_both, ignored);
        }
        ::shutdown(s.acceptor.native_handle(), SHUT_RDWR);  // wakes accept()
    }
    s.stopped.notify_all();
    s.acceptor_thread.join();
    for (std::thread& thread : s.threads) thread.join();
}

int ScriptedServer::port() const { return state_->acceptor.local_endpoint().port(); }
int ScriptedServer::connections() const { return state_->accepted; }
std::string ScriptedServer::url() const {
    return std::string(state_->tls ? "https" : "http") + "://127.0.0.1:" + std::to_string(port());
}

}  // namespace cardionode::test
