#include "scp/server/listener.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace cardionode {

Result<FileDescriptor> listen_on(const std::string& address, int port) {
    const auto failed = [&](std::string_view doing, int number) {
        std::string why = std::strerror(number);
        if (number == EACCES) why += " (ports under 1024 need a right of their own, see the unit file)";
        return config_error(fmt::format("{} {} port {}: {}", doing, address, port, why));
    };
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
    addrinfo* found = nullptr;
    if (const int code = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found); code != 0)
        return config_error(fmt::format("scp.bind_address: {}: {}", address, ::gai_strerror(code)));
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> info(found, ::freeaddrinfo);
    FileDescriptor socket(::socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid()) return failed("opening a socket for", errno);
    const int on = 1;
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return failed("setting up the socket of", errno);
    if (::bind(socket.get(), info->ai_addr, info->ai_addrlen) != 0) return failed("listening on", errno);
    if (::listen(socket.get(), SOMAXCONN) != 0) return failed("listening on", errno);
    return socket;
}

Accepted accept_from(int listener) {
    Accepted accepted;
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    accepted.socket = FileDescriptor(
        ::accept4(listener, reinterpret_cast<sockaddr*>(&address), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted.socket.valid()) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ECONNABORTED)
            accepted.error_number = errno;
        return accepted;
    }
    char host[NI_MAXHOST] = {};
    if (::getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, host, sizeof host, nullptr, 0,
                      NI_NUMERICHOST) == 0)
        accepted.peer_address = host;
    return accepted;
}

}  // namespace cardionode
