// One TCP or TLS connection and one exchange on it, with a limit on the time of each step. Private to fedclient/net.
#pragma once

#include <memory>
#include <string>

#include "fedclient/net/http_session.h"
#include "fedclient/net/tls_client.h"

namespace cardionode::fed {

struct HttpTarget {
    bool tls = true;
    std::string host, port, prefix;  ///< prefix: without / at its end

    /// Config: neither https://host[:port] nor http://host[:port].
    static Result<HttpTarget> parse(const std::string& url);
    std::string authority() const;  ///< for the Host header
};

class HttpConnection {
public:
    /// @param context  none for plain http. Both must outlive the connection.
    static Result<std::unique_ptr<HttpConnection>> open(const HttpTarget& target, const HttpOptions& options,
                                                        SSL_CTX* context);
    ~HttpConnection();
    HttpConnection(const HttpConnection&) = delete;
    HttpConnection& operator=(const HttpConnection&) = delete;

    struct Answer {
        HttpAnswer answer;
        std::string date;  ///< header
        bool keep_alive = false;
    };
    /// How far an exchange came.
    struct Progress {
        bool sent = false;      ///< some bytes of the request left
        bool answered = false;  ///< some bytes of an answer came
        std::uint64_t body_sent = 0, body_received = 0;
    };
    Result<Answer> exchange(const HttpTarget& target, const HttpRequest& request, const AnswerSink* sink,
                            Progress& progress);
    /// Nothing has come in between exchanges: a peer that has closed says so by something to read.
    bool quiet() const;

private:
    struct State;
    explicit HttpConnection(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode::fed
