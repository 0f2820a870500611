#include "scp/dicom/byte_stream.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "conf/base/files.h"

namespace cardionode {
namespace {

using SteadyTime = ByteStream::SteadyTime;

/// false: the time is over.
bool wait_for(int fd, short events, SteadyTime until) {
    while (true) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        pollfd item{fd, events, 0};
        const int ready = ::poll(&item, 1, static_cast<int>(std::clamp<std::int64_t>(left.count() + 1, 0, 1'000'000)));
        if (ready > 0) return true;
        if (std::chrono::steady_clock::now() >= until) return false;
    }
}

class TcpStream : public ByteStream {
public:
    explicit TcpStream(FileDescriptor socket) : socket_(std::move(socket)) {}

    ReadSome read_some(std::span<std::byte> into, SteadyTime until) override {
        while (true) {
            const ssize_t n = ::recv(socket_.get(), into.data(), into.size(), 0);
            if (n > 0) return {End::Bytes, static_cast<std::size_t>(n)};
            if (n == 0) return {End::Closed, 0};
            if (errno == EINTR) continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK) return {End::Closed, 0};
            if (!wait_for(socket_.get(), POLLIN, until)) return {End::TimedOut, 0};
        }
    }

    Result<void> write(std::span<const std::byte> bytes, SteadyTime until) override {
        while (!bytes.empty()) {
            const ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n > 0) {
                bytes = bytes.subspan(static_cast<std::size_t>(n));
                continue;
            }
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
                return retry_error(std::string("the connection broke: ") + std::strerror(errno));
            if (!wait_for(socket_.get(), POLLOUT, until)) return retry_error("the peer does not read");
        }
        return {};
    }

    bool wait(bool writable, SteadyTime until) override {
        return wait_for(socket_.get(), writable ? POLLOUT : POLLIN, until);
    }
    int socket() const override { return socket_.get(); }

private:
    FileDescriptor socket_;
};

Result<FileDescriptor> connect_to(const addrinfo& address, SteadyTime until) {
    FileDescriptor socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid()) return retry_error(std::strerror(errno));
    const int on = 1;
    (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0) return socket;
    if (errno != EINPROGRESS) return retry_error(std::strerror(errno));
    if (!wait_for(socket.get(), POLLOUT, until)) return retry_error("no answer");
    int failure = 0;
    socklen_t size = sizeof failure;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &failure, &size) != 0) failure = errno;
    if (failure != 0) return retry_error(std::strerror(failure));
    return socket;
}

}  // namespace

Result<std::unique_ptr<ByteStream>> dial_tcp(const std::string& host, int port, SteadyTime until) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); code != 0)
        return retry_error(std::string("the host is unknown: ") + ::gai_strerror(code));
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, ::freeaddrinfo);
    Error last = retry_error("the host has no address");
    for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
        auto socket = connect_to(*address, until);
        if (socket) return std::unique_ptr<ByteStream>(std::make_unique<TcpStream>(std::move(socket).value()));
        last = std::move(socket).error();
    }
    return std::move(last).in("no connection");
}

}  // namespace cardionode
