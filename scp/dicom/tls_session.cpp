#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "scp/dicom/tls.h"

namespace cardionode {
namespace {

constexpr std::string_view kRefusedByPeer = "refused_by_peer";
constexpr int kFirstAlert = SSL_AD_REASON_OFFSET, kLastAlert = SSL_AD_REASON_OFFSET + 255;

std::string fingerprint_of(const X509* certificate) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    if (!certificate || X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) return {};
    std::string text;
    for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
}

std::string_view word_of_verification(long result) {
    switch (result) {
        case X509_V_ERR_CERT_HAS_EXPIRED: return "certificate_expired";
        case X509_V_ERR_CERT_NOT_YET_VALID: return "certificate_not_yet_valid";
        case X509_V_ERR_CERT_REVOKED: return "certificate_revoked";
        case X509_V_ERR_UNABLE_TO_GET_CRL:
        case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
        case X509_V_ERR_CRL_HAS_EXPIRED:
        case X509_V_ERR_CRL_NOT_YET_VALID:
        case X509_V_ERR_CRL_SIGNATURE_FAILURE: return "revocation_list_unusable";
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH: return "other_name";
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_CERT_UNTRUSTED:
        case X509_V_ERR_CERT_SIGNATURE_FAILURE: return "unknown_ca";  // a CA of that name, but not this one
        default: return "certificate_not_accepted";
    }
}

std::string_view word_of_reason(int reason) {
    switch (reason) {
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return "no_certificate";
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_VERSION_TOO_LOW:
        case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION: return "old_version";
        case SSL_R_NO_SHARED_CIPHER:
        case SSL_R_NO_SUITABLE_KEY_SHARE:
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        case SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY: return "no_common_cipher";
        case SSL_R_HTTP_REQUEST:
        case SSL_R_HTTPS_PROXY_REQUEST:
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_UNEXPECTED_MESSAGE:
        case SSL_R_PACKET_LENGTH_TOO_LONG:
        case SSL_R_BAD_PACKET_LENGTH:
        case SSL_R_BAD_RECORD_TYPE: return "not_tls";
        default: return reason >= kFirstAlert && reason <= kLastAlert ? kRefusedByPeer : "handshake_failed";
    }
}

}  // namespace

struct TlsSession::State {
    bool server = false;
    std::string pinned;
    std::string certificate;
    TlsFailure failure;
};

void TlsSession::Free::operator()(ssl_st* ssl) const noexcept { SSL_free(ssl); }

TlsSession::TlsSession(TlsSession&&) noexcept = default;
TlsSession& TlsSession::operator=(TlsSession&&) noexcept = default;
TlsSession::~TlsSession() = default;

/// Called for each certificate of the chain: keeps the peer's own, which is gone after a failure.
int TlsSession::note_certificate(int good, void* store) {
    auto* context = static_cast<X509_STORE_CTX*>(store);
    const auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto* state = ssl ? static_cast<State*>(SSL_get_app_data(ssl)) : nullptr;
    if (state && state->certificate.empty()) state->certificate = fingerprint_of(X509_STORE_CTX_get0_cert(context));
    return good;
}

Result<TlsSession> TlsSession::create(const TlsContext& context, int socket) {
    TlsSession session;
    session.state_ = std::make_unique<State>();
    session.state_->server = context.server_;
    session.state_->pinned = context.pinned_;
    ERR_clear_error();
    session.ssl_.reset(SSL_new(context.context_.get()));
    SSL* ssl = session.ssl_.get();
    if (!ssl || SSL_set_fd(ssl, socket) != 1 || SSL_set_app_data(ssl, session.state_.get()) != 1)
        return retry_error("no memory for a TLS connection");
    if (!context.server_name_.empty() && SSL_set_tlsext_host_name(ssl, context.server_name_.c_str()) != 1)
        return retry_error("no memory for a TLS connection");
    SSL_set_verify(ssl, SSL_get_verify_mode(ssl),
                   [](int good, X509_STORE_CTX* store) { return note_certificate(good, store); });
    if (context.server_) SSL_set_accept_state(ssl);
    else SSL_set_connect_state(ssl);
    return session;
}

TlsSession::Step TlsSession::step_after(int result, bool in_handshake) {
    const int error_number = errno;
    switch (SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_NONE: return Step::Done;
        case SSL_ERROR_WANT_READ: return Step::WantRead;
        case SSL_ERROR_WANT_WRITE: return Step::WantWrite;
        case SSL_ERROR_ZERO_RETURN: return Step::Closed;
        case SSL_ERROR_SYSCALL:
            ERR_clear_error();
            if (error_number == EINTR) return Step::WantRead;
            return Step::Closed;
        default: break;
    }
    const unsigned long code = ERR_peek_last_error();
    const int reason = ERR_GET_REASON(code);
    const char* words = ERR_reason_error_string(code);
    ERR_clear_error();
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) return Step::Closed;
    TlsFailure& failure = state_->failure;
    failure.certificate = state_->certificate;
    const long verification = SSL_get_verify_result(ssl_.get());
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verification != X509_V_OK) {
        failure.reason = word_of_verification(verification);
        failure.detail = X509_verify_cert_error_string(verification);
    } else {
        failure.reason = word_of_reason(reason);
        if (!in_handshake && failure.reason != kRefusedByPeer) failure.reason = "broken";
        failure.detail = words ? words : "";
    }
    return Step::Failed;
}

TlsSession::Step TlsSession::handshake() {
    ERR_clear_error();
    const Step step = step_after(SSL_do_handshake(ssl_.get()), true);
    if (step != Step::Done) return step;
    if (state_->pinned.empty() || state_->pinned == state_->certificate) return step;
    state_->failure = {"other_certificate", "not the certificate of the settings", state_->certificate};
    return Step::Failed;
}

TlsSession::Moved TlsSession::read(std::span<std::byte> into) {
    ERR_clear_error();
    std::size_t bytes = 0;
    const int result = SSL_read_ex(ssl_.get(), into.data(), into.size(), &bytes);
    return {step_after(result, false), bytes};
}

TlsSession::Moved TlsSession::write(std::span<const std::byte> bytes) {
    ERR_clear_error();
    std::size_t written = 0;
    const int result = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &written);
    return {step_after(result, false), written};
}

void TlsSession::say_goodbye() {
    ERR_clear_error();
    if (SSL_is_init_finished(ssl_.get())) (void)SSL_shutdown(ssl_.get());
    ERR_clear_error();
}

const TlsFailure& TlsSession::failure() const { return state_->failure; }
const std::string& TlsSession::peer_certificate() const { return state_->certificate; }
std::string_view TlsSession::version() const { return SSL_get_version(ssl_.get()); }
std::string_view TlsSession::cipher() const {
    const char* name = SSL_get_cipher_name(ssl_.get());
    return name ? name : "";
}

}  // namespace cardionode
