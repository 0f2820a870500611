#include "scp/server/connection.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace cardionode {

Result<Connection> Connection::create(FileDescriptor socket, std::size_t longest_pdu, std::function<bool()> stop,
                                      std::function<void()> progress) {
    const int on = 1;
    if (::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        return file_error("setting TCP_NODELAY of", "the connection", errno);
    // A peer whose machine is gone is noticed by the deadlines; keep-alive also ends half-open connections earlier.
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0)
        return file_error("setting SO_KEEPALIVE of", "the connection", errno);
    const int flags = ::fcntl(socket.get(), F_GETFL);
    if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0)
        return file_error("setting the mode of", "the connection", errno);
    return Connection(std::move(socket), longest_pdu, std::move(stop), std::move(progress));
}

Connection::Connection(FileDescriptor socket, std::size_t longest_pdu, std::function<bool()> stop,
                       std::function<void()> progress)
    : socket_(std::move(socket)),
      stop_(std::move(stop)),
      progress_(std::move(progress)),
      capacity_(std::max<std::size_t>(4 * (longest_pdu + kPduHeaderBytes), 1 << 19)),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(capacity_)) {}

/// Signals are blocked everywhere else, so that a wish to stop is seen here and cannot be missed.
Connection::Wait Connection::wait_for(short events, SteadyTime until) {
    sigset_t none;
    sigemptyset(&none);
    while (true) {
        if (stop_()) return Wait::Stopped;
        const auto left = until - std::chrono::steady_clock::now();
        if (left <= left.zero()) return Wait::TimedOut;
        const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
        const timespec time{static_cast<time_t>(nanoseconds / 1'000'000'000),
                            static_cast<long>(nanoseconds % 1'000'000'000)};
        pollfd item{socket_.get(), events, 0};
        if (::ppoll(&item, 1, &time, &none) > 0) return Wait::Ready;
    }
}

Connection::Moved Connection::receive(std::span<std::byte> into) {
    if (tls_) {
        const TlsSession::Moved moved = tls_->read(into);
        if (moved.step == TlsSession::Step::WantRead) return {0, POLLIN};
        if (moved.step == TlsSession::Step::WantWrite) return {0, POLLOUT};
        return {moved.step == TlsSession::Step::Done ? moved.bytes : 0, 0};
    }
    while (true) {
        const ssize_t n = ::recv(socket_.get(), into.data(), into.size(), 0);
        if (n > 0) return {static_cast<std::size_t>(n), 0};
        if (n < 0 && errno == EINTR) continue;
        return {0, n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? static_cast<short>(POLLIN) : short{0}};
    }
}

Connection::Moved Connection::transmit(std::span<const std::byte> bytes) {
    if (tls_) {
        const TlsSession::Moved moved = tls_->write(bytes);
        if (moved.step == TlsSession::Step::WantRead) return {0, POLLIN};
        if (moved.step == TlsSession::Step::WantWrite) return {0, POLLOUT};
        return {moved.step == TlsSession::Step::Done ? moved.bytes : 0, 0};
    }
    while (true) {
        const ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n > 0) return {static_cast<std::size_t>(n), 0};
        if (n < 0 && errno == EINTR) continue;
        return {0, n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? static_cast<short>(POLLOUT) : short{0}};
    }
}

Result<Handshake> Connection::secure(const TlsContext& context, SteadyTime until) {
    auto session = TlsSession::create(context, socket_.get());
    if (!session) return std::move(session).error();
    tls_ = std::move(session).value();
    while (true) {
        const TlsSession::Step step = tls_->handshake();
        if (step == TlsSession::Step::Done) return Handshake::Done;
        if (step == TlsSession::Step::Closed) return Handshake::Closed;
        if (step == TlsSession::Step::Failed) return Handshake::Refused;
        // Bytes that always come in time must not outrun the deadline of the whole.
        if (std::chrono::steady_clock::now() > until) return Handshake::TimedOut;
        const Wait wait = wait_for(step == TlsSession::Step::WantRead ? POLLIN : POLLOUT, until);
        if (wait == Wait::TimedOut) return Handshake::TimedOut;
        if (wait == Wait::Stopped) return Handshake::Stopped;
    }
}

/// Until `wanted` bytes are in the buffer.
ReadEnd Connection::fill(std::size_t wanted, SteadyTime until) {
    while (end_ - begin_ < wanted) {
        if (begin_ > 0 && (begin_ == end_ || begin_ + wanted > capacity_)) {
            std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
            end_ -= begin_;
            begin_ = 0;
        }
        const Moved moved = receive({buffer_.get() + end_, capacity_ - end_});
        if (moved.bytes > 0) {
            end_ += moved.bytes;
            progress_();
            // Bytes that always come in time must not outrun the deadline of the whole.
            if (end_ - begin_ < wanted && std::chrono::steady_clock::now() > until) return ReadEnd::TimedOut;
            continue;
        }
        if (moved.wait_for == 0) return ReadEnd::Closed;
        // A sender without TCP_NODELAY holds its next small packet back until this one is acknowledged, and the kernel
        // would take 40 ms for that. It forgets this option by itself, so it is set before each wait.
        const int on = 1;
        (void)::setsockopt(socket_.get(), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
        const Wait wait = wait_for(moved.wait_for, until);
        if (wait == Wait::TimedOut) return ReadEnd::TimedOut;
        if (wait == Wait::Stopped) return ReadEnd::Stopped;
    }
    return ReadEnd::Pdu;
}

ReadPdu Connection::read_pdu(SteadyTime first, std::chrono::milliseconds whole,
                             const std::function<bool(const PduHeader&)>& allowed, SteadyTime latest) {
    ReadPdu pdu;
    pdu.end = fill(1, first);
    if (pdu.end != ReadEnd::Pdu) return pdu;
    const SteadyTime until = std::min(std::chrono::steady_clock::now() + whole, latest);
    pdu.end = fill(kPduHeaderBytes, until);
    if (pdu.end != ReadEnd::Pdu) return pdu;
    pdu.header = parse_pdu_header(std::span<const std::byte, kPduHeaderBytes>(buffer_.get() + begin_, kPduHeaderBytes));
    if (!allowed(pdu.header) || pdu.header.length > capacity_ - kPduHeaderBytes) {
        pdu.end = ReadEnd::NotAllowed;
        return pdu;
    }
    pdu.end = fill(kPduHeaderBytes + pdu.header.length, until);
    if (pdu.end != ReadEnd::Pdu) return pdu;
    pdu.body = std::span<const std::byte>(buffer_.get() + begin_ + kPduHeaderBytes, pdu.header.length);
    begin_ += kPduHeaderBytes + pdu.header.length;
    return pdu;
}

bool Connection::write(std::span<const std::byte> bytes, std::chrono::milliseconds longest) {
    const SteadyTime until = std::chrono::steady_clock::now() + longest;
    while (!bytes.empty()) {
        const Moved moved = transmit(bytes);
        if (moved.bytes > 0) {
            bytes = bytes.subspan(moved.bytes);
            progress_();
            continue;
        }
        if (moved.wait_for == 0 || wait_for(moved.wait_for, until) != Wait::Ready) return false;
    }
    return true;
}

void Connection::close_after_answer(std::chrono::milliseconds longest) {
    const SteadyTime until = std::chrono::steady_clock::now() + longest;
    if (tls_) tls_->say_goodbye();
    if (::shutdown(socket_.get(), SHUT_WR) != 0) return;
    while (std::chrono::steady_clock::now() < until) {
        const ssize_t n = ::recv(socket_.get(), buffer_.get(), capacity_, 0);
        if (n > 0 || (n < 0 && errno == EINTR)) continue;
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return;
        if (wait_for(POLLIN, until) != Wait::Ready) return;
    }
}

}  // namespace cardionode
