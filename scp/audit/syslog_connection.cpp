#include "scp/audit/syslog_connection.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace cardionode {
namespace {

using Steady = std::chrono::steady_clock;
constexpr int kFirstWordMs = 500;

template <class T, void (*Free)(T*)>
struct Freed {
    void operator()(T* pointer) const noexcept { Free(pointer); }
};
using SslPtr = std::unique_ptr<SSL, Freed<SSL, SSL_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, Freed<SSL_CTX, SSL_CTX_free>>;

std::string last_tls_error() {
    char text[256] = "closed, or no answer in time";
    if (const unsigned long code = ::ERR_get_error(); code != 0) ::ERR_error_string_n(code, text, sizeof text);
    ::ERR_clear_error();
    return text;
}

Result<FileDescriptor> connect_to(const addrinfo& info, Steady::time_point until) {
    FileDescriptor socket(::socket(info.ai_family, info.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, info.ai_protocol));
    if (!socket.valid()) return retry_error(std::strerror(errno));
    if (::connect(socket.get(), info.ai_addr, info.ai_addrlen) != 0) {
        if (errno != EINPROGRESS) return retry_error(std::strerror(errno));
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Steady::now());
        pollfd item{socket.get(), POLLOUT, 0};
        if (left.count() <= 0 || ::poll(&item, 1, static_cast<int>(left.count())) <= 0)
            return retry_error("no answer in time");
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
            return retry_error(std::strerror(error));
    }
    return socket;
}

/// From here on each read and write ends after `longest`.
Result<void> make_blocking(int socket, std::chrono::milliseconds longest) {
    const int flags = ::fcntl(socket, F_GETFL);
    const timeval time{longest.count() / 1000, longest.count() % 1000 * 1000};
    if (flags < 0 || ::fcntl(socket, F_SETFL, flags & ~O_NONBLOCK) != 0 ||
        ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) != 0 ||
        ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) != 0)
        return retry_error(std::strerror(errno));
    return {};
}

Result<ContextPtr> make_context(const AuditSettings& settings) {
    ContextPtr context(::SSL_CTX_new(::TLS_client_method()));
    if (!context) return retry_error(last_tls_error());
    ::SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
    ::SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    ::SSL_CTX_clear_mode(context.get(), SSL_MODE_AUTO_RETRY);  // a session ticket is no message to wait for
    const auto unusable = [](std::string_view key, const std::filesystem::path& file) {
        return config_error(fmt::format("audit.{}: {}: {}", key, file.string(), last_tls_error()));
    };
    if (::SSL_CTX_load_verify_locations(context.get(), settings.ca_file.c_str(), nullptr) != 1)
        return unusable("ca_file", settings.ca_file);
    if (!settings.certificate_file.empty()) {
        if (::SSL_CTX_use_certificate_chain_file(context.get(), settings.certificate_file.c_str()) != 1)
            return unusable("certificate_file", settings.certificate_file);
        if (::SSL_CTX_use_PrivateKey_file(context.get(), settings.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
            ::SSL_CTX_check_private_key(context.get()) != 1)
            return unusable("key_file", settings.key_file);
    }
    return context;
}

}  // namespace

struct SyslogConnection::Tls {
    ContextPtr context;
    SslPtr ssl;

    Result<void> shake_hands(const std::string& host, int socket) {
        ssl.reset(::SSL_new(context.get()));
        if (!ssl || ::SSL_set_fd(ssl.get(), socket) != 1) return retry_error(last_tls_error());
        unsigned char bytes[16];
        const bool numeric =
            ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
        const bool named = numeric ? ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl.get()), host.c_str()) == 1
                                   : ::SSL_set1_host(ssl.get(), host.c_str()) == 1 &&
                                         ::SSL_set_tlsext_host_name(ssl.get(), host.c_str()) == 1;
        if (!named) return retry_error(last_tls_error());
        if (::SSL_connect(ssl.get()) == 1) return {};
        const long verdict = ::SSL_get_verify_result(ssl.get());
        const std::string why = verdict == X509_V_OK ? last_tls_error() : ::X509_verify_cert_error_string(verdict);
        ::ERR_clear_error();
        return retry_error(fmt::format("TLS: {}", why));
    }
};

SyslogConnection::SyslogConnection(FileDescriptor socket, bool datagrams)
    : socket_(std::move(socket)), datagrams_(datagrams) {}
SyslogConnection::SyslogConnection(SyslogConnection&&) noexcept = default;
SyslogConnection& SyslogConnection::operator=(SyslogConnection&&) noexcept = default;
SyslogConnection::~SyslogConnection() {
    if (tls_ && tls_->ssl) ::SSL_shutdown(tls_->ssl.get());
}

Result<SyslogConnection> SyslogConnection::open(const AuditSettings& settings, std::chrono::milliseconds longest) {
    const Steady::time_point until = Steady::now() + longest;
    const bool datagrams = settings.transport == "udp";
    const auto failed = [&](const Error& error) {
        return Error(error).in(fmt::format("audit repository {}:{}", settings.host, settings.port));
    };
    addrinfo hints{};
    hints.ai_socktype = datagrams ? SOCK_DGRAM : SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int code = ::getaddrinfo(settings.host.c_str(), std::to_string(settings.port).c_str(), &hints, &found);
        code != 0)
        return failed(retry_error(::gai_strerror(code)));
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all(found, ::freeaddrinfo);
    Error last = retry_error("no address");
    for (const addrinfo* info = all.get(); info; info = info->ai_next) {
        auto socket = connect_to(*info, until);
        if (!socket) {
            last = std::move(socket).error();
            continue;
        }
        SyslogConnection connection(std::move(socket).value(), datagrams);
        if (auto made = make_blocking(connection.socket_.get(), longest); !made) return failed(made.error());
        if (settings.transport != "tls") return connection;
        auto context = make_context(settings);
        if (!context) return failed(context.error());
        connection.tls_ = std::make_unique<Tls>();
        connection.tls_->context = std::move(context).value();
        if (auto done = connection.tls_->shake_hands(settings.host, connection.socket_.get()); !done)
            return failed(done.error());
        // TLS 1.3: a server refuses the node's certificate only after the handshake has ended here. Its first word
        // (a session ticket or an alert) tells; one that says nothing within this time has accepted.
        pollfd item{connection.socket_.get(), POLLIN, 0};
        if (::poll(&item, 1, kFirstWordMs) > 0)
            if (auto open = connection.still_open(); !open) return failed(open.error());
        return connection;
    }
    return failed(last);
}

Result<void> SyslogConnection::write(std::string_view bytes) {
    while (!bytes.empty()) {
        if (tls_) {
            const int n = ::SSL_write(tls_->ssl.get(), bytes.data(), static_cast<int>(bytes.size()));
            if (n > 0) {
                bytes.remove_prefix(static_cast<std::size_t>(n));
                continue;
            }
            // Without automatic retries a ticket or a key update that came in between asks for one more call.
            const int error = ::SSL_get_error(tls_->ssl.get(), n);
            if (error == SSL_ERROR_WANT_READ && errno != EAGAIN) continue;
            return retry_error(fmt::format("sending to the audit repository: {}", last_tls_error()));
        }
        const ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return retry_error(fmt::format("sending to the audit repository: {}", std::strerror(errno)));
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return {};
}

Result<void> SyslogConnection::send(std::string_view message) {
    if (datagrams_) return write(message);
    return write(fmt::format("{} {}", message.size(), message));
}

/// A peer that has closed says so by something to read. It has nothing else to say.
Result<void> SyslogConnection::still_open() {
    pollfd item{socket_.get(), POLLIN, 0};
    if (::poll(&item, 1, 0) == 0) return {};
    char bytes[256];
    if (!tls_) {
        const ssize_t n = ::recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) return {};
    } else {
        const int n = ::SSL_read(tls_->ssl.get(), bytes, sizeof bytes);
        if (n > 0 || ::SSL_get_error(tls_->ssl.get(), n) == SSL_ERROR_WANT_READ) return {};
        ::ERR_clear_error();
    }
    return retry_error("the audit repository closed the connection");
}

Result<void> SyslogConnection::all_arrived(std::chrono::milliseconds longest) {
    const Steady::time_point until = Steady::now() + longest;
    if (datagrams_) {  // that nobody listens is known at once on this machine; more is never known
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0)
            return retry_error(fmt::format("sending to the audit repository: {}", std::strerror(error)));
        return {};
    }
    while (true) {
        if (auto open = still_open(); !open) return open;
        int waiting = 0;
        if (::ioctl(socket_.get(), SIOCOUTQ, &waiting) != 0) return retry_error(std::strerror(errno));
        if (waiting == 0) return still_open();
        if (Steady::now() > until) return retry_error("the audit repository takes nothing");
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

}  // namespace cardionode
