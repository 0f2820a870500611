// TLS for DICOM associations, both sides: which versions, ciphers and certificates are taken (OpenSSL inside).
//
// TLS 1.3, and 1.2 with ECDHE and an AEAD cipher; nothing older (BCP 195: RFC 8996, RFC 9325; the BCP 195 profiles of
// PS3.15 Annex B). No resumption, so that each connection's certificate is looked at, against the revocation list of
// now; no renegotiation, no compression. An own profile, not DCMTK's: 3.6.7 has none this strict, and both sides and
// every DCMTK get the same.
//
// A context is made from files before anything comes from the network; connections of forked children use their copy.
// Thread safety: a context may be used by several threads once it is made; a session belongs to one thread.
// Errors: Config, a line for each problem: "scp.tls.key: /etc/x/key.pem: does not belong to the certificate".
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"

struct ssl_st;
struct ssl_ctx_st;

namespace cardionode {

class TlsContext {
public:
    /// Who accepts connections. The files are checked: there, readable, of one key, within their time.
    static Result<TlsContext> for_server(const ScpTlsSettings& settings);
    /// Who connects to `host`: the peer's certificate must come from the CA and carry the name or be the pinned one.
    static Result<TlsContext> for_client(const DestinationTlsSettings& settings, const std::string& host,
                                         std::string_view destination_name);
    /// The earliest end of our certificate and of the revocation lists; the far future where there are none.
    std::chrono::system_clock::time_point valid_until() const { return valid_until_; }

private:
    friend class TlsSession;
    struct Free {
        void operator()(ssl_ctx_st* context) const noexcept;
    };
    TlsContext() = default;
    std::unique_ptr<ssl_ctx_st, Free> context_;
    bool server_ = false;
    std::string server_name_;  ///< sent as SNI; empty: an address
    std::string pinned_;       ///< SHA-256 that the peer's certificate must have
    std::chrono::system_clock::time_point valid_until_ = std::chrono::system_clock::time_point::max();
};

/// Config: all problems of all TLS files that the settings name. For `cardionode check`.
Result<void> check_tls_files(const NodeSettings& settings);

/// Why a handshake failed.
struct TlsFailure {
    /// A fixed word: no_certificate, unknown_ca, certificate_expired, certificate_not_yet_valid, certificate_revoked,
    /// certificate_not_accepted, revocation_list_unusable, other_name, other_certificate, old_version,
    /// no_common_cipher, not_tls, refused_by_peer, handshake_failed; after the handshake refused_by_peer or broken.
    std::string_view reason;
    std::string detail;       ///< OpenSSL's fixed words for it; nothing that the peer wrote
    std::string certificate;  ///< SHA-256 of the certificate that was looked at; empty: none came so far
};

/// TLS over one connected, non-blocking socket that somebody else owns.
class TlsSession {
public:
    /// Retry: no memory.
    static Result<TlsSession> create(const TlsContext& context, int socket);
    TlsSession(TlsSession&&) noexcept;
    TlsSession& operator=(TlsSession&&) noexcept;
    ~TlsSession();

    enum class Step {
        Done,
        WantRead,   ///< again when the socket is readable
        WantWrite,  ///< again when it is writable
        Closed,     ///< the peer closed or reset the connection
        Failed,     ///< see failure(); the peer was told
    };
    struct Moved {
        Step step = Step::Closed;
        std::size_t bytes = 0;  ///< with Done
    };
    Step handshake();
    Moved read(std::span<std::byte> into);
    Moved write(std::span<const std::byte> bytes);
    /// Tells the peer that nothing more comes, if that can be said at once.
    void say_goodbye();

    const TlsFailure& failure() const;
    /// SHA-256 of the peer's certificate, 64 hex digits; empty: it showed none.
    const std::string& peer_certificate() const;
    std::string_view version() const;  ///< "TLSv1.3"
    std::string_view cipher() const;
    ssl_st* native() const { return ssl_.get(); }

private:
    struct State;
    struct Free {
        void operator()(ssl_st* ssl) const noexcept;
    };
    TlsSession() = default;
    static int note_certificate(int good, void* store);
    Step step_after(int result, bool in_handshake);

    std::unique_ptr<State> state_;  ///< OpenSSL's callback knows its address
    std::unique_ptr<ssl_st, Free> ssl_;
};

}  // namespace cardionode
