#include "scp/dicom/byte_stream.h"
#include "scp/dicom/tls.h"

namespace cardionode {
namespace {

using SteadyTime = ByteStream::SteadyTime;

class TlsStream : public ByteStream {
public:
    TlsStream(std::unique_ptr<ByteStream> tcp, TlsSession session)
        : tcp_(std::move(tcp)), session_(std::move(session)) {}
    ~TlsStream() override { session_.say_goodbye(); }

    Result<void> handshake(SteadyTime until) {
        while (true) {
            const TlsSession::Step step = session_.handshake();
            if (step == TlsSession::Step::Done) return {};
            if (auto going_on = go_on(step, until, "the TLS handshake"); !going_on) return going_on;
        }
    }
    ReadSome read_some(std::span<std::byte> into, SteadyTime until) override {
        while (true) {
            const TlsSession::Moved moved = session_.read(into);
            if (moved.step == TlsSession::Step::Done) return {End::Bytes, moved.bytes};
            if (moved.step == TlsSession::Step::Closed || moved.step == TlsSession::Step::Failed)
                return {End::Closed, 0};
            if (!tcp_->wait(moved.step == TlsSession::Step::WantWrite, until)) return {End::TimedOut, 0};
        }
    }
    Result<void> write(std::span<const std::byte> bytes, SteadyTime until) override {
        while (!bytes.empty()) {
            const TlsSession::Moved moved = session_.write(bytes);
            if (moved.step == TlsSession::Step::Done) bytes = bytes.subspan(moved.bytes);
            else if (auto going_on = go_on(moved.step, until, "the connection"); !going_on) return going_on;
        }
        return {};
    }
    bool wait(bool writable, SteadyTime until) override { return tcp_->wait(writable, until); }
    int socket() const override { return tcp_->socket(); }

private:
    /// Waits for what the session needs. Retry: closed, failed or too late; a wrong certificate may be put right.
    Result<void> go_on(TlsSession::Step step, SteadyTime until, const std::string& what) {
        if (step == TlsSession::Step::Failed) {
            const TlsFailure& failure = session_.failure();
            return retry_error(what + " failed: " + std::string(failure.reason) + " (" + failure.detail + ")");
        }
        if (step == TlsSession::Step::Closed) return retry_error("the peer closed during " + what);
        if (!tcp_->wait(step == TlsSession::Step::WantWrite, until)) return retry_error(what + " takes too long");
        return {};
    }
    std::unique_ptr<ByteStream> tcp_;
    TlsSession session_;  // ends before its socket closes
};

}  // namespace

Dial dial_tls(const DestinationTlsSettings& settings, const std::string& name) {
    return
        [settings, name](const std::string& host, int port, SteadyTime until) -> Result<std::unique_ptr<ByteStream>> {
            auto context = TlsContext::for_client(settings, host, name);
            // The files were good at the start; what is wrong now may be a renewal that is under way.
            if (!context) return retry_error(context.error().message);
            auto tcp = dial_tcp(host, port, until);
            if (!tcp) return std::move(tcp).error();
            auto session = TlsSession::create(*context, (*tcp)->socket());
            if (!session) return std::move(session).error();
            auto stream = std::make_unique<TlsStream>(std::move(tcp).value(), std::move(session).value());
            if (auto secured = stream->handshake(until); !secured) return std::move(secured).error();
            return std::unique_ptr<ByteStream>(std::move(stream));
        };
}

}  // namespace cardionode
