#include "conf/base/service_manager.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/base/files.h"

namespace cardionode {

ServiceManager ServiceManager::from_environment() {
    ServiceManager manager;
    if (const char* socket = std::getenv("NOTIFY_SOCKET")) manager.socket_ = socket;
    if (const char* text = std::getenv("WATCHDOG_USEC")) {
        long long microseconds = 0;
        const char* end = text + std::strlen(text);
        if (std::from_chars(text, end, microseconds).ptr == end && microseconds > 0)
            manager.watchdog_ = std::chrono::microseconds(microseconds);
    }
    return manager;
}

void ServiceManager::ready(std::string_view status_line) { send(fmt::format("READY=1\nSTATUS={}\n", status_line)); }

void ServiceManager::stopping(std::string_view status_line) {
    send(fmt::format("STOPPING=1\nSTATUS={}\n", status_line));
}

void ServiceManager::alive() {
    if (!watchdog_) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_sign_ < *watchdog_ / 2) return;
    last_sign_ = now;
    send("WATCHDOG=1\n");
}

void ServiceManager::send(const std::string& text) const {
    sockaddr_un address{};
    if (socket_.empty() || socket_.size() >= sizeof address.sun_path) return;
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // the abstract name space
    const FileDescriptor fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return;
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
    // A service manager that cannot be reached notices by its own watchdog; there is nobody else to tell.
    (void)::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                   length);
}

}  // namespace cardionode
