// The notify protocol of systemd (sd_notify(3)): readiness, status line and watchdog over a datagram socket.
//
// Without NOTIFY_SOCKET in the environment every call does nothing.
// Thread safety: one object belongs to one thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace cardionode {

class ServiceManager {
public:
    /// Reads NOTIFY_SOCKET and WATCHDOG_USEC.
    static ServiceManager from_environment();
    void ready(std::string_view status_line);
    void stopping(std::string_view status_line);
    /// Call it often: sends a sign of life when half of the watchdog's time is over.
    void alive();

private:
    void send(const std::string& text) const;
    std::string socket_;
    std::optional<std::chrono::microseconds> watchdog_;
    std::chrono::steady_clock::time_point last_sign_{};
};

}  // namespace cardionode
