// HTTP/1.1 to one server over TLS 1.3: the only way on which the federated client talks to the world.
//
// Outbound only. The server must show a certificate of the private CA that names it, and its public key must be one of
// the pins (the current one and the next, so that the server can change its key without a visit to each hospital); the
// hospital shows its own certificate. Plain http is refused unless every address of the host is this machine. Proxy
// settings of the environment are not looked at. One connection is kept alive; one that the server closed meanwhile (5
// s at uvicorn) is replaced without a word. Bodies are streamed both ways with one bounded buffer. Thread safety: one
// object belongs to one thread. Memory: under 1 MiB beside what the caller keeps. Errors: Retry for the network and
// cancelling; Config for certificates, pins, keys, addresses; what a BodySource or AnswerSink reports comes back as it
// is. No exception leaves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "conf/base/result.h"
#include "fedclient/net/backoff.h"

namespace cardionode::fed {

struct HttpOptions {
    std::string url;                                      ///< https://host:port[/prefix], or http:// to this machine
    std::filesystem::path ca, certificate, key;           ///< PEM; the key must not be accessible to others (mode 0600)
    std::vector<std::string> pins;                        ///< SHA-256 of SubjectPublicKeyInfo: 64 hex digits each
    Milliseconds connect_time{10'000};                    ///< name, connection, handshake: each
    Milliseconds transfer_time{30'000};                   ///< for each piece of a body, either way
    Milliseconds answer_time{60'000};                     ///< from the request's end to the answer's head
    std::uint64_t largest_plain_answer = 16ULL << 20;     ///< bytes of an answer without sink
    std::uint64_t largest_stream_answer = 1024ULL << 20;  ///< bytes of an answer with sink
    Surroundings surroundings;
};

/// Bytes of a request: read in order, and again from 0 when the request is repeated.
struct BodySource {
    std::uint64_t size = 0;
    std::function<Result<void>(std::uint64_t offset, std::span<std::byte> target)> read;  ///< fills all of target

    static BodySource of(std::string bytes);
};

/// Takes the body of an answer with status 200. start is called before the first byte, also when a request is repeated.
struct AnswerSink {
    std::function<Result<void>()> start;
    std::function<Result<void>(std::span<const std::byte>)> take;
};

struct HttpRequest {
    std::string path;  ///< below the prefix of the URL; begins with /
    std::vector<std::pair<std::string, std::string>> headers;
    BodySource body;
    /// A kept connection that breaks before the first byte of an answer: send again at once? false where the server
    /// must not act twice: then a new connection is made first, so that no stale one can lose it.
    bool repeatable = true;
};

struct HttpAnswer {
    int status = 0;
    std::string content_type;
    std::string body;  ///< empty where a sink took it; cut at 64 KiB unless the status is 200
};

struct HttpTotals {
    std::uint64_t bytes_sent = 0, bytes_received = 0;  ///< of bodies
    std::int64_t calls = 0;
    std::int64_t connects = 0;  ///< the first one too
};

class HttpSession {
public:
    /// Reads and checks all files; connects nowhere yet.
    static Result<HttpSession> create(HttpOptions options);
    HttpSession(HttpSession&&) noexcept;
    HttpSession& operator=(HttpSession&&) noexcept;
    ~HttpSession();

    /// One POST; any status is a success. After an error the next call connects anew.
    Result<HttpAnswer> post(const HttpRequest& request, const AnswerSink* sink = nullptr);
    /// Whether the last post() that failed may have reached the server.
    bool may_have_arrived() const;
    void close();

    HttpTotals totals() const;
    /// Own clock minus the server's Date header, seconds (whole ones: the header has no more). None before an answer.
    std::optional<double> clock_skew_seconds() const;
    const HttpOptions& options() const;

private:
    struct State;
    explicit HttpSession(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Config: the file can be read or written by others than its owner and group.
Result<void> check_key_file(const std::filesystem::path& file);

}  // namespace cardionode::fed
