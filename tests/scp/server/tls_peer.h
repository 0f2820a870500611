// A TLS client for tests, straight on OpenSSL: shows the certificate and speaks the versions and ciphers it is told.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "tests/support/authority.h"

namespace cardionode::test {

class TlsPeer {
public:
    struct Options {
        std::filesystem::path certificate, key;  ///< empty: none is shown
        std::filesystem::path ca;                ///< empty: any server will do
        int max_version = 0;                     ///< TLS1_1_VERSION; 0: the newest
        std::string ciphers;                     ///< OpenSSL's list, of TLS 1.2 and older; empty: the usual
    };
    static Options with(const Authority::Issued& shown, const std::filesystem::path& ca = {});

    /// Connects and shakes hands. Throws when nobody listens.
    TlsPeer(int port, const Options& options);
    ~TlsPeer();
    TlsPeer(const TlsPeer&) = delete;
    TlsPeer& operator=(const TlsPeer&) = delete;

    /// As the client sees it; with TLS 1.3 the server may still refuse the certificate.
    bool connected() const { return connected_; }
    const std::string& version() const { return version_; }
    /// SHA-256 of the server's certificate.
    const std::string& server_certificate() const { return server_certificate_; }

    bool send(const std::string& bytes);
    /// One PDU with its header; empty: closed, refused, or not within the time.
    std::string receive_pdu(std::chrono::seconds longest = std::chrono::seconds(5));

private:
    struct Handles;
    std::unique_ptr<Handles> handles_;
    bool connected_ = false;
    std::string version_;
    std::string server_certificate_;
};

/// Associates as CT1 and has its C-ECHO answered with success.
bool tls_echo_works(int port, const TlsPeer::Options& options, const std::string& calling = "CT1");

}  // namespace cardionode::test
