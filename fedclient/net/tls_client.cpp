#include "fedclient/net/tls_client.h"

#include <algorithm>
#include <cctype>
#include <cerrno>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"

namespace cardionode::fed {
namespace {

constexpr auto kCiphers = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
/// OpenSSL's scale: 112 bits, so RSA of 2048 bits and no SHA-1.
constexpr int kSecurityLevel = 2;

using Certificate = std::unique_ptr<X509, FreeBy<X509_free>>;

std::string openssl_words() {
    const unsigned long code = ERR_get_error();
    ERR_clear_error();
    const char* words = code == 0 ? nullptr : ERR_reason_error_string(code);
    return words ? words : "not accepted";
}

/// A service cannot ask for a passphrase.
int no_passphrase(char*, int, int, void*) { return -1; }

Error unusable(std::string_view what, const std::filesystem::path& file) {
    return config_error(fmt::format("{} {}: {}", what, file.string(), openssl_words()));
}

Result<void> check_readable(std::string_view what, const std::filesystem::path& file) {
    if (auto text = read_file(file); !text) return config_error(fmt::format("{} {}", what, text.error().message));
    return {};
}

bool is_pin(const std::string& pin) {
    return pin.size() == 64 && std::all_of(pin.begin(), pin.end(), [](unsigned char c) { return std::isxdigit(c); });
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

/// The peer's alert says that our certificate, or the lack of one, is the matter.
bool about_own_certificate(int reason) {
    constexpr int kReasons[] = {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED,
                                SSL_R_SSLV3_ALERT_BAD_CERTIFICATE,
                                SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED,
                                SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED,
                                SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,
                                SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE,
                                SSL_R_TLSV1_ALERT_UNKNOWN_CA,
                                SSL_R_TLSV1_ALERT_ACCESS_DENIED};
    return std::find(std::begin(kReasons), std::end(kReasons), reason) != std::end(kReasons);
}

}  // namespace

Result<void> check_key_file(const std::filesystem::path& file) {
    struct stat info {};
    if (::stat(file.c_str(), &info) != 0) return config_error(file_error("key file", file, errno).message);
    if ((info.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        return config_error(
            fmt::format("key file {}: others may read or write it; set its mode to 0600", file.string()));
    return {};
}

Result<TlsContextPtr> make_tls_context(const HttpOptions& options) {
    for (const std::string& pin : options.pins) {
        if (!is_pin(pin))
            return config_error(
                fmt::format("pin {}: expected the SHA-256 of the server's SubjectPublicKeyInfo, 64 hex digits", pin));
    }
    if (options.ca.empty()) return config_error("https needs the file of the consortium's CA");
    if (options.certificate.empty() != options.key.empty())
        return config_error("a client certificate needs its key, and a key its certificate");
    TlsContextPtr context(SSL_CTX_new(TLS_client_method()));
    if (!context) return retry_error(fmt::format("TLS: {}", openssl_words()));
    SSL_CTX* c = context.get();
    SSL_CTX_set_security_level(c, kSecurityLevel);
    if (SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) != 1 || SSL_CTX_set_ciphersuites(c, kCiphers) != 1)
        return config_error("this OpenSSL has no TLS 1.3");
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_default_passwd_cb(c, no_passphrase);
    // A consortium may hand out its issuing CA alone: what stands in the file is trusted, root or not.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(c), X509_V_FLAG_PARTIAL_CHAIN);
    if (auto there = check_readable("CA", options.ca); !there) return std::move(there).error();
    if (SSL_CTX_load_verify_locations(c, options.ca.c_str(), nullptr) != 1) return unusable("CA", options.ca);
    if (!options.certificate.empty()) {
        if (auto there = check_readable("certificate", options.certificate); !there) return std::move(there).error();
        if (auto there = check_readable("key", options.key); !there) return std::move(there).error();
        if (auto own = check_key_file(options.key); !own) return std::move(own).error();
        if (SSL_CTX_use_certificate_chain_file(c, options.certificate.c_str()) != 1)
            return unusable("certificate", options.certificate);
        if (X509_cmp_current_time(X509_get0_notAfter(SSL_CTX_get0_certificate(c))) < 0)
            return config_error(fmt::format("certificate {}: has expired", options.certificate.string()));
        if (SSL_CTX_use_PrivateKey_file(c, options.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
            SSL_CTX_check_private_key(c) != 1)
            return unusable("key", options.key);
    }
    return context;
}

bool expect_host(SSL* ssl, const std::string& host) {
    unsigned char bytes[16];
    if (::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1;
    return SSL_set1_host(ssl, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
}

Result<void> check_pins(SSL* ssl, const std::vector<std::string>& pins) {
    if (pins.empty()) return {};
    const Certificate shown(SSL_get1_peer_certificate(ssl));
    unsigned char* der = nullptr;
    const int size = shown ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(shown.get()), &der) : -1;
    if (size <= 0) return retry_error("TLS: the server showed no certificate");
    const std::string found =
        sha256_hex(std::string_view(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size)));
    OPENSSL_free(der);
    if (std::any_of(pins.begin(), pins.end(), [&](const std::string& pin) { return lower(pin) == found; })) return {};
    return config_error(
        fmt::format("TLS: the server's public key {} is none of the pinned ones: somebody stands in between, or "
                    "the consortium has changed its key without telling",
                    found));
}

Error tls_failure(SSL* ssl, int openssl_reason, const std::string& words) {
    ERR_clear_error();
    if (const long verdict = SSL_get_verify_result(ssl); verdict != X509_V_OK)
        return config_error(fmt::format("TLS: the server's certificate: {}", X509_verify_cert_error_string(verdict)));
    if (about_own_certificate(openssl_reason))
        return config_error(fmt::format("TLS: the server does not accept this hospital's certificate: {}", words));
    return retry_error(fmt::format("TLS: {}", words));
}

}  // namespace cardionode::fed
