#include "pipeline/send/tls_transport.h"

#include <cerrno>
#include <chrono>
#include <utility>

#include <dcmtk/dcmnet/cond.h>
#include <dcmtk/dcmtls/tlstrans.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/ssl.h>
#include <poll.h>

namespace cardionode {
namespace {

constexpr unsigned short kOwnCode = 0xFFFE;  // nobody asks for it: failure() has the reason

/// Waits until `events` or the deadline. false: the deadline.
bool wait_for(int socket, short events, std::chrono::steady_clock::time_point until) {
    while (true) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        if (left.count() <= 0) return false;
        pollfd item{socket, events, 0};
        if (::poll(&item, 1, static_cast<int>(left.count())) > 0) return true;
    }
}

/// Elsewhere DCMTK reads and writes, with the socket's own time-outs.
class NonBlocking {
public:
    explicit NonBlocking(int socket) : socket_(socket), flags_(::fcntl(socket, F_GETFL)) {
        (void)::fcntl(socket_, F_SETFL, flags_ | O_NONBLOCK);
    }
    ~NonBlocking() { (void)::fcntl(socket_, F_SETFL, flags_); }
    NonBlocking(const NonBlocking&) = delete;
    NonBlocking& operator=(const NonBlocking&) = delete;

private:
    int socket_;
    int flags_;
};

/// DCMTK closes and frees the connection; both hold a reference to OpenSSL's object.
SSL* shared(const TlsSession& session) {
    SSL_up_ref(session.native());
    return session.native();
}

class SecureConnection : public DcmTLSConnection {
public:
    SecureConnection(DcmNativeSocketType socket, TlsSession session, int handshake_seconds, std::string& failure)
        : DcmTLSConnection(socket, shared(session)),
          session_(std::move(session)),
          handshake_seconds_(handshake_seconds),
          failure_(&failure) {}

    OFCondition clientSideHandshake() override {
        const NonBlocking mode(getSocket());
        const bool done = shake_hands(getSocket());
        return done ? EC_Normal : makeOFCondition(OFM_dcmnet, kOwnCode, OF_error, "TLS handshake failed");
    }

    /// As DCMTK's, and keeps the reason: with TLS 1.3 a server refuses our certificate only after our handshake.
    ssize_t read(void* buffer, std::size_t size) override {
        const TlsSession::Moved moved = session_.read({static_cast<std::byte*>(buffer), size});
        if (moved.step == TlsSession::Step::Done) return static_cast<ssize_t>(moved.bytes);
        if (moved.step == TlsSession::Step::Closed) return 0;
        if (moved.step == TlsSession::Step::Failed) note_failure();
        errno = moved.step == TlsSession::Step::Failed ? EIO : EAGAIN;
        return -1;
    }

    ssize_t write(void* buffer, std::size_t size) override {
        const TlsSession::Moved moved = session_.write({static_cast<const std::byte*>(buffer), size});
        if (moved.step == TlsSession::Step::Done) return static_cast<ssize_t>(moved.bytes);
        const int error_number = errno;
        if (moved.step == TlsSession::Step::Closed) {  // what it said before it closed may still wait to be read
            const NonBlocking mode(getSocket());
            std::byte unused{};
            if (session_.read({&unused, 1}).step == TlsSession::Step::Failed) note_failure();
        }
        errno = error_number;
        return -1;
    }

private:
    bool shake_hands(int socket) {
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(handshake_seconds_);
        while (true) {
            const TlsSession::Step step = session_.handshake();
            switch (step) {
                case TlsSession::Step::Done: return true;
                case TlsSession::Step::Failed: note_failure(); return false;
                case TlsSession::Step::Closed:
                    *failure_ = "the peer closed the connection during the handshake";
                    return false;
                case TlsSession::Step::WantRead:
                case TlsSession::Step::WantWrite: break;
            }
            const short events = step == TlsSession::Step::WantRead ? POLLIN : POLLOUT;
            if (wait_for(socket, events, until)) continue;
            *failure_ = fmt::format("no handshake within {} s", handshake_seconds_);
            return false;
        }
    }

    void note_failure() {
        const TlsFailure& failure = session_.failure();
        *failure_ = fmt::format("{} ({})", failure.reason, failure.detail);
        if (!failure.certificate.empty()) *failure_ += ", certificate " + failure.certificate;
    }

    TlsSession session_;
    int handshake_seconds_;
    std::string* failure_;
};

}  // namespace

Result<std::unique_ptr<TlsTransport>> TlsTransport::create(const DestinationSettings& destination,
                                                           int handshake_seconds) {
    auto context = TlsContext::for_client(destination.tls.value(), destination.host, destination.name);
    if (!context) return std::move(context).error();
    return std::unique_ptr<TlsTransport>(new TlsTransport(std::move(context).value(), handshake_seconds));
}

DcmTransportConnection* TlsTransport::createConnection(DcmNativeSocketType socket, OFBool use_secure_layer) {
    failure_.clear();
    if (!use_secure_layer) return nullptr;  // never plain by mistake
    auto session = TlsSession::create(context_, socket);
    if (!session) return nullptr;
    return new SecureConnection(socket, std::move(session).value(), handshake_seconds_, failure_);
}

}  // namespace cardionode
