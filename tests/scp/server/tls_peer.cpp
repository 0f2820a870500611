#include "tests/scp/server/tls_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <stdexcept>

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "conf/base/files.h"
#include "tests/scp/server/receiver.h"

namespace cardionode::test {

struct TlsPeer::Handles {
    FileDescriptor socket;
    SSL_CTX* context = nullptr;
    SSL* ssl = nullptr;
    ~Handles() {
        SSL_free(ssl);
        SSL_CTX_free(context);
    }
};

TlsPeer::Options TlsPeer::with(const Authority::Issued& shown, const std::filesystem::path& ca) {
    Options options;
    options.certificate = shown.certificate;
    options.key = shown.key;
    options.ca = ca;
    return options;
}

TlsPeer::TlsPeer(int port, const Options& options) : handles_(std::make_unique<Handles>()) {
    Handles& h = *handles_;
    h.socket = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(h.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const timeval longest{20, 0};
    ::setsockopt(h.socket.get(), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(h.socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        throw std::runtime_error("connect");
    h.context = SSL_CTX_new(TLS_client_method());
    const auto must = [](bool good, const char* what) {
        if (!good) throw std::runtime_error(std::string("TLS peer: ") + what);
    };
    if (options.max_version != 0) {
        SSL_CTX_set_security_level(h.context, 0);  // otherwise this OpenSSL would not even offer what is to be refused
        must(SSL_CTX_set_min_proto_version(h.context, 0) == 1 &&
                 SSL_CTX_set_max_proto_version(h.context, options.max_version) == 1,
             "versions");
    }
    if (!options.ciphers.empty()) must(SSL_CTX_set_cipher_list(h.context, options.ciphers.c_str()) == 1, "ciphers");
    if (!options.certificate.empty())
        must(SSL_CTX_use_certificate_chain_file(h.context, options.certificate.c_str()) == 1 &&
                 SSL_CTX_use_PrivateKey_file(h.context, options.key.c_str(), SSL_FILETYPE_PEM) == 1,
             "certificate");
    if (!options.ca.empty()) {
        must(SSL_CTX_load_verify_locations(h.context, options.ca.c_str(), nullptr) == 1, "ca");
        SSL_CTX_set_verify(h.context, SSL_VERIFY_PEER, nullptr);
    }
    h.ssl = SSL_new(h.context);
    must(h.ssl && SSL_set_fd(h.ssl, h.socket.get()) == 1, "session");
    connected_ = SSL_connect(h.ssl) == 1;
    version_ = SSL_get_version(h.ssl);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    X509* certificate = SSL_get1_peer_certificate(h.ssl);
    if (certificate && X509_digest(certificate, EVP_sha256(), digest.data(), &size) == 1) {
        for (unsigned int i = 0; i < size; ++i) {
            std::array<char, 3> hex{};
            std::snprintf(hex.data(), hex.size(), "%02x", digest[i]);
            server_certificate_ += hex.data();
        }
    }
    X509_free(certificate);
}

TlsPeer::~TlsPeer() {
    if (connected_) (void)SSL_shutdown(handles_->ssl);
}

bool TlsPeer::send(const std::string& bytes) {
    return connected_ && SSL_write(handles_->ssl, bytes.data(), static_cast<int>(bytes.size())) > 0;
}

std::string TlsPeer::receive_pdu(std::chrono::seconds longest) {
    const timeval limit{longest.count(), 0};
    ::setsockopt(handles_->socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    std::string got;
    while (connected_) {
        std::size_t wanted = 6;
        if (got.size() >= 6) {
            for (std::size_t i = 2; i < 6; ++i)
                wanted += static_cast<std::size_t>(static_cast<unsigned char>(got[i])) << 8 * (5 - i);
            if (got.size() == wanted) return got;
        }
        std::string part(wanted - got.size(), '\0');
        const int n = SSL_read(handles_->ssl, part.data(), static_cast<int>(part.size()));
        if (n <= 0) return {};
        got.append(part, 0, static_cast<std::size_t>(n));
    }
    return {};
}

bool tls_echo_works(int port, const TlsPeer::Options& options, const std::string& calling) {
    TlsPeer peer(port, options);
    const std::string verification = "1.2.840.10008.1.1";
    peer.send(associate_request({{3, verification, {"1.2.840.10008.1.2"}}}, "CARDIONODE", calling));
    if (peer.receive_pdu().substr(0, 1) != "\2") return false;
    peer.send(data_pdu(3, 3, echo_command()));
    return response_of(peer.receive_pdu()).first == 0;
}

}  // namespace cardionode::test
