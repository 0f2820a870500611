// A small HTTP/1.1 server for one handler: plain on loopback, or TLS 1.3 with client certificates. Boost stays inside.
//
// As uvicorn does, an idle kept connection is closed after 5 s. A body of up to 64 MiB is read whole. Threads:
// `threads` workers, which run the handler too; ended by the destructor, which closes every connection. Thread safety:
// the handler is called from several threads at once. Errors: Config for a port that is taken and for PEM files.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "conf/base/result.h"
#include "conf/base/time.h"

namespace cardionode::fed {

struct HttpQuestion {
    std::string method, target;
    std::map<std::string, std::string> headers;  ///< names in lower case
    std::string body;
    std::string client_name;  ///< common name of the client's certificate; empty: none
};

struct HttpReply {
    int status = 200;
    std::string content_type = "application/protobuf";
    std::string body;
    // What faults.h orders.
    bool drop = false;            ///< close the connection instead of answering
    bool cut = false;             ///< half of the body, then close
    bool close_silently = false;  ///< answer as if the connection were kept, then close it
    double delay_seconds = 0;
};

struct HttpServerOptions {
    std::string bind_address = "127.0.0.1";
    int port = 0;  ///< 0: a free one
    std::filesystem::path certificate, key, client_ca, client_crl;
    int threads = 3;
    double idle_seconds = 5;
    const Clock* clock = nullptr;  ///< of the Date header; none: the system's
};

class HttpServer {
public:
    using Handler = std::function<HttpReply(const HttpQuestion&)>;
    static Result<std::unique_ptr<HttpServer>> start(const HttpServerOptions& options, Handler handler);
    ~HttpServer();
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;
    int port() const;

private:
    struct State;
    explicit HttpServer(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cardionode::fed
