#include "tests/support/audit_repository.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include "tests/support/process.h"

namespace cardionode::test {

Repository::Repository(int port, const std::string& transport, const Tls& tls, int close_after)
    : tls_(tls), close_after_(close_after) {
    fd_ = ::socket(AF_INET, (transport == "udp" ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) throw std::runtime_error("bind");
    if (transport != "udp" && ::listen(fd_, 8) != 0) throw std::runtime_error("listen");
    thread_ = std::thread([this, transport] {
        if (transport == "udp") serve_datagrams();
        else serve_stream();
    });
}

Repository::~Repository() {
    stop_ = true;
    thread_.join();
    ::close(fd_);
}

std::vector<std::string> Repository::messages() const {
    const std::scoped_lock lock(mutex_);
    return messages_;
}

int Repository::count(const std::string& text) const {
    const auto all = messages();
    return static_cast<int>(
        std::ranges::count_if(all, [&](const std::string& m) { return m.find(text) != std::string::npos; }));
}

bool Repository::wait_for(std::size_t number) const {
    return eventually(std::chrono::seconds(20), [&] { return messages().size() >= number; });
}

void Repository::serve_datagrams() {
    while (!stop_) {
        pollfd item{fd_, POLLIN, 0};
        if (::poll(&item, 1, 20) <= 0) continue;
        std::string buffer(65536, '\0');
        const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), 0);
        if (n <= 0) continue;
        buffer.resize(static_cast<std::size_t>(n));
        const std::scoped_lock lock(mutex_);
        messages_.push_back(buffer);
    }
}

void Repository::serve_stream() {
    while (!stop_) {
        pollfd item{fd_, POLLIN, 0};
        if (::poll(&item, 1, 20) <= 0) continue;
        const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd >= 0) one_connection(fd);
    }
}

/// Octet counting: "LENGTH SP MESSAGE" (RFC 5425 4.3).
void Repository::take(std::string& buffer) {
    while (true) {
        const auto space = buffer.find(' ');
        if (space == std::string::npos) return;
        const std::size_t length = std::stoul(buffer.substr(0, space));
        if (buffer.size() < space + 1 + length) return;
        {
            const std::scoped_lock lock(mutex_);
            messages_.push_back(buffer.substr(space + 1, length));
        }
        buffer.erase(0, space + 1 + length);
    }
}

void Repository::one_connection(int fd) {
    const timeval time{0, 20'000};
    SSL_CTX* context = nullptr;
    SSL* ssl = nullptr;
    bool up = true;
    if (!tls_.certificate.empty()) {
        context = ::SSL_CTX_new(::TLS_server_method());
        ::SSL_CTX_use_certificate_chain_file(context, tls_.certificate.c_str());
        ::SSL_CTX_use_PrivateKey_file(context, tls_.key.c_str(), SSL_FILETYPE_PEM);
        if (!tls_.client_ca.empty()) {
            ::SSL_CTX_load_verify_locations(context, tls_.client_ca.c_str(), nullptr);
            ::SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
        }
        ssl = ::SSL_new(context);
        ::SSL_set_fd(ssl, fd);
        up = ::SSL_accept(ssl) == 1;
    }
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    std::string buffer;
    const std::size_t before = messages().size();
    while (up && !stop_) {
        char bytes[65536];
        const int n = ssl ? ::SSL_read(ssl, bytes, sizeof bytes)
                          : static_cast<int>(::recv(fd, bytes, close_after_ > 0 ? 64 : sizeof bytes, 0));
        if (n <= 0) {
            const bool silent = ssl ? ::SSL_get_error(ssl, n) == SSL_ERROR_WANT_READ : n < 0 && errno == EAGAIN;
            if (silent) continue;
            break;
        }
        buffer.append(bytes, static_cast<std::size_t>(n));
        take(buffer);
        if (close_after_ > 0 && messages().size() >= before + static_cast<std::size_t>(close_after_)) break;
    }
    if (ssl && up) ::SSL_shutdown(ssl);
    ::SSL_free(ssl);
    ::SSL_CTX_free(context);
    ::close(fd);
}

namespace {
void openssl(std::vector<std::string> words) {
    words.insert(words.begin(), "openssl");
    const Finished done = run(words);
    if (!done.ok()) throw std::runtime_error(done.errors);
}
}  // namespace

void make_ca(const std::filesystem::path& folder) {
    openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             "/CN=Test CA", "-keyout", (folder / "ca.key").string(), "-out", (folder / "ca.pem").string()});
}

void make_certificate(const std::filesystem::path& folder, const std::string& name) {
    openssl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name, "-keyout",
             (folder / (name + ".key")).string(), "-out", (folder / (name + ".csr")).string()});
    std::ofstream(folder / (name + ".ext")) << "subjectAltName=IP:127.0.0.1,DNS:localhost\n";
    openssl({"x509", "-req", "-days", "2", "-in", (folder / (name + ".csr")).string(), "-CA",
             (folder / "ca.pem").string(), "-CAkey", (folder / "ca.key").string(), "-CAcreateserial", "-extfile",
             (folder / (name + ".ext")).string(), "-out", (folder / (name + ".pem")).string()});
}

}  // namespace cardionode::test
