#include "scp/dicom/tls.h"

#include <array>
#include <ctime>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "conf/base/files.h"
#include "conf/base/free_by.h"

namespace cardionode {
namespace {

using Moment = std::chrono::system_clock::time_point;

constexpr auto kCiphers12 =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr auto kCiphers13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
/// OpenSSL's scale: 112 bits, so RSA of 2048 bits and no SHA-1. Debian's default, but not everybody's.
constexpr int kSecurityLevel = 2;
constexpr std::size_t kReadBufferBytes = 64 * 1024;  // several records by one recv

using Bio = std::unique_ptr<BIO, FreeBy<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, FreeBy<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, FreeBy<EVP_PKEY_free>>;
using RevocationList = std::unique_ptr<X509_CRL, FreeBy<X509_CRL_free>>;

/// OpenSSL's words for the oldest entry of its queue, which is emptied.
std::string openssl_words() {
    const unsigned long code = ERR_get_error();
    ERR_clear_error();
    const char* words = code == 0 ? nullptr : ERR_reason_error_string(code);
    return words ? words : "not accepted";
}

Bio reader_of(const std::string& text) {
    return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(std::min<std::size_t>(text.size(), 64U << 20))));
}

/// A service cannot ask for a passphrase.
int no_passphrase(char*, int, int, void*) { return -1; }

std::vector<Certificate> certificates_in(const std::string& text) {
    const Bio bio = reader_of(text);
    std::vector<Certificate> found;
    while (X509* one = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr)) found.emplace_back(one);
    ERR_clear_error();  // the end of the file is an error for OpenSSL
    return found;
}

/// PEM, as OpenSSL makes them, or one in DER, as Windows' authorities publish them.
std::vector<RevocationList> revocation_lists_in(const std::string& text) {
    std::vector<RevocationList> found;
    Bio bio = reader_of(text);
    while (X509_CRL* one = PEM_read_bio_X509_CRL(bio.get(), nullptr, no_passphrase, nullptr)) found.emplace_back(one);
    if (found.empty()) {
        bio = reader_of(text);
        if (X509_CRL* one = d2i_X509_CRL_bio(bio.get(), nullptr)) found.emplace_back(one);
    }
    ERR_clear_error();
    return found;
}

Moment moment_of(const ASN1_TIME* time) {
    std::tm parts{};
    if (!time || ASN1_TIME_to_tm(time, &parts) != 1) return Moment::max();
    return std::chrono::system_clock::from_time_t(::timegm(&parts));
}

std::string day_of(const ASN1_TIME* time) {
    std::tm parts{};
    if (!time || ASN1_TIME_to_tm(time, &parts) != 1) return "an unknown day";
    return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

bool over(const ASN1_TIME* end) { return end && X509_cmp_current_time(end) < 0; }

/// Fills one SSL_CTX from files and collects what is wrong with them.
class Loader {
public:
    Loader(SSL_CTX* context, std::string section) : context_(context), section_(std::move(section)) {}

    void load_own(const TlsFiles& files) {
        if (files.certificate.empty()) return;
        const bool certificate = load_certificate(files.certificate);
        const bool key = load_key(files.key);
        if (certificate && key && SSL_CTX_check_private_key(context_) != 1) {
            ERR_clear_error();
            problem("key", files.key, "does not belong to the certificate");
        }
    }

    /// @param for_clients  a server names the CAs to its clients, so that they show the right certificate
    void load_ca(const std::filesystem::path& file, bool for_clients) {
        if (file.empty()) return;
        const auto text = read("ca", file);
        if (!text) return;
        const std::vector<Certificate> all = certificates_in(*text);
        if (all.empty()) return problem("ca", file, "holds no certificate in PEM");
        bool one_is_valid = false;
        for (const Certificate& one : all) {
            one_is_valid = one_is_valid || !over(X509_get0_notAfter(one.get()));
            if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), one.get()) != 1)
                return problem("ca", file, openssl_words());
            if (for_clients && SSL_CTX_add_client_CA(context_, one.get()) != 1)
                return problem("ca", file, openssl_words());
        }
        if (!one_is_valid) problem("ca", file, "expired on " + day_of(X509_get0_notAfter(all.front().get())));
    }

    void load_crl(const std::filesystem::path& file) {
        if (file.empty()) return;
        const auto text = read("crl", file);
        if (!text) return;
        const std::vector<RevocationList> all = revocation_lists_in(*text);
        if (all.empty()) return problem("crl", file, "holds no revocation list in PEM or DER");
        for (const RevocationList& one : all) {
            const ASN1_TIME* next = X509_CRL_get0_nextUpdate(one.get());
            // With an old list every peer would be refused, each with the same riddle for its administrator.
            if (over(next)) problem("crl", file, "a newer list was due on " + day_of(next));
            note_end(next);
            if (X509_STORE_add_crl(SSL_CTX_get_cert_store(context_), one.get()) != 1)
                return problem("crl", file, openssl_words());
        }
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context_), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    }

    Moment valid_until() const { return valid_until_; }
    Result<void> result() const {
        if (problems_.empty()) return {};
        return config_error(fmt::format("{}", fmt::join(problems_, "\n")));
    }

private:
    void problem(std::string_view key, const std::filesystem::path& file, std::string_view what) {
        problems_.push_back(fmt::format("{}.{}: {}: {}", section_, key, file.string(), what));
    }

    std::optional<std::string> read(std::string_view key, const std::filesystem::path& file) {
        auto text = read_file(file);
        if (text) return std::move(text).value();
        problems_.push_back(fmt::format("{}.{}: {}", section_, key, text.error().message));
        return std::nullopt;
    }

    void note_end(const ASN1_TIME* end) { valid_until_ = std::min(valid_until_, moment_of(end)); }

    bool load_certificate(const std::filesystem::path& file) {
        const auto text = read("certificate", file);
        if (!text) return false;
        const std::vector<Certificate> all = certificates_in(*text);
        if (all.empty()) {
            problem("certificate", file, "holds no certificate in PEM");
            return false;
        }
        X509* own = all.front().get();
        if (over(X509_get0_notAfter(own)))
            problem("certificate", file, "expired on " + day_of(X509_get0_notAfter(own)));
        if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0)
            problem("certificate", file, "is not valid before " + day_of(X509_get0_notBefore(own)));
        note_end(X509_get0_notAfter(own));
        if (SSL_CTX_use_certificate(context_, own) != 1) {
            problem("certificate", file, openssl_words());
            return false;
        }
        for (std::size_t i = 1; i < all.size(); ++i) {
            if (SSL_CTX_add1_chain_cert(context_, all[i].get()) == 1) continue;
            problem("certificate", file, openssl_words());
            return false;
        }
        return true;
    }

    bool load_key(const std::filesystem::path& file) {
        const auto text = read("key", file);
        if (!text) return false;
        const Bio bio = reader_of(*text);
        const PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
        ERR_clear_error();
        if (!key) {
            const bool locked = text->find("ENCRYPTED") != std::string::npos;
            problem("key", file,
                    locked ? "has a passphrase, which a service cannot type" : "holds no private key in PEM");
            return false;
        }
        // A key that does not fit the certificate is refused here already.
        if (SSL_CTX_use_PrivateKey(context_, key.get()) == 1) return true;
        const bool other = ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH ||
                           ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_TYPE_MISMATCH;
        const std::string words = openssl_words();
        problem("key", file, other ? "does not belong to the certificate" : words);
        return false;
    }

    SSL_CTX* context_;
    std::string section_;
    std::vector<std::string> problems_;
    Moment valid_until_ = Moment::max();
};

/// none: no memory, or an OpenSSL without what we demand.
SSL_CTX* new_context(bool server) {
    SSL_CTX* context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!context) return nullptr;
    SSL_CTX_set_security_level(context, kSecurityLevel);
    const bool good = SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
                      SSL_CTX_set_max_proto_version(context, 0) == 1 &&
                      SSL_CTX_set_cipher_list(context, kCiphers12) == 1 &&
                      SSL_CTX_set_ciphersuites(context, kCiphers13) == 1 && SSL_CTX_set_num_tickets(context, 0) == 1;
    if (!good) {
        SSL_CTX_free(context);
        return nullptr;
    }
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    // A hospital often hands out its issuing CA alone: what stands in the file is trusted, root or not.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
    return context;
}

}  // namespace

void TlsContext::Free::operator()(ssl_ctx_st* context) const noexcept { SSL_CTX_free(context); }

Result<TlsContext> TlsContext::for_server(const ScpTlsSettings& settings) {
    TlsContext made;
    made.server_ = true;
    made.context_.reset(new_context(true));
    if (!made.context_) return config_error("scp.tls: OpenSSL: " + openssl_words());
    SSL_CTX* context = made.context_.get();
    Loader loader(context, "scp.tls");
    loader.load_own(settings.files);
    loader.load_ca(settings.files.ca, true);
    loader.load_crl(settings.files.crl);
    if (auto loaded = loader.result(); !loaded) return std::move(loaded).error();
    made.valid_until_ = loader.valid_until();
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, kReadBufferBytes);
    const int required = settings.require_client_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
    SSL_CTX_set_verify(context, settings.files.ca.empty() ? SSL_VERIFY_NONE : SSL_VERIFY_PEER | required, nullptr);
    return made;
}

Result<TlsContext> TlsContext::for_client(const DestinationTlsSettings& settings, const std::string& host,
                                          std::string_view destination_name) {
    const std::string section = fmt::format("destinations ({}).tls", destination_name);
    TlsContext made;
    made.context_.reset(new_context(false));
    if (!made.context_) return config_error(section + ": OpenSSL: " + openssl_words());
    SSL_CTX* context = made.context_.get();
    Loader loader(context, section);
    loader.load_own(settings.files);
    loader.load_ca(settings.files.ca, false);
    loader.load_crl(settings.files.crl);
    if (auto loaded = loader.result(); !loaded) return std::move(loaded).error();
    made.valid_until_ = loader.valid_until();
    made.pinned_ = settings.certificate_sha256;
    const std::string& name = settings.host_name.empty() ? host : settings.host_name;
    std::array<unsigned char, 16> bytes{};
    const bool address =
        ::inet_pton(AF_INET, name.c_str(), bytes.data()) == 1 || ::inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1;
    if (!address) made.server_name_ = name;
    if (made.pinned_.empty()) {
        X509_VERIFY_PARAM* wanted = SSL_CTX_get0_param(context);
        X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        const int set = address ? X509_VERIFY_PARAM_set1_ip_asc(wanted, name.c_str())
                                : X509_VERIFY_PARAM_set1_host(wanted, name.c_str(), name.size());
        if (set != 1) return config_error(fmt::format("{}.host_name: {}: {}", section, name, openssl_words()));
    }
    // Neither partial writes nor reading ahead: DCMTK expects whole writes, and looks at the socket before it reads.
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    return made;
}

Result<void> check_tls_files(const NodeSettings& settings) {
    std::vector<std::string> problems;
    if (settings.scp.tls.port != 0) {
        if (auto made = TlsContext::for_server(settings.scp.tls); !made) problems.push_back(made.error().message);
    }
    for (const DestinationSettings& destination : settings.destinations) {
        if (!destination.tls) continue;
        auto made = TlsContext::for_client(*destination.tls, destination.host, destination.name);
        if (!made) problems.push_back(made.error().message);
    }
    if (problems.empty()) return {};
    return config_error(fmt::format("{}", fmt::join(problems, "\n")));
}

}  // namespace cardionode
