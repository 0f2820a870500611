// A small HTTP/1.1 responder for /metrics and /health (Boost.Beast inside).
//
// It answers GET and HEAD, one request a connection, without any state. At most kMaxConnections are open, each for at
// most kTime; headers end at 8 KiB, a body is not read. It belongs into a process or thread of its own: nothing that
// peers send to it, or keep from sending, delays anybody else.
// Thread safety: run() belongs into one thread; the handler is called there.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "conf/base/files.h"
#include "conf/base/result.h"

namespace cardionode {

struct HttpAnswer {
    int status = 200;  ///< 200, 404 or 503
    std::string body;
    std::string content_type = "text/plain; charset=utf-8";
};

/// The health of a program. Empty: well. Otherwise what is wrong, for people.
struct Health {
    std::string why_not_live = {};
    std::string why_not_ready = {};
};

class Responder {
public:
    static constexpr int kMaxConnections = 16;
    static constexpr std::chrono::seconds kTime{5};
    using Handler = std::function<HttpAnswer(std::string_view path)>;

    /// A listening socket. Config: the port is in use or forbidden, or the address is not one of this machine.
    static Result<FileDescriptor> listen(const std::string& address, int port);
    /// Answers what comes to the socket. It may have been opened before a fork; the responder may not.
    static Result<Responder> create(FileDescriptor listener, Handler handler);
    Responder(Responder&&) noexcept;
    Responder& operator=(Responder&&) noexcept;
    ~Responder();

    /// Until `stop` says true; it is asked five times a second.
    void run(const std::function<bool()>& stop);

private:
    struct State;
    explicit Responder(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// /metrics, /health/live (is it running?), /health/ready (can it work?), /health (both); 404 for anything else.
Responder::Handler observe(std::function<std::string()> metrics, std::function<Health()> health);

}  // namespace cardionode
