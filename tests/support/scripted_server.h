// An HTTP/1.1 server on 127.0.0.1 that answers as a test wants, over TLS or plain, with faults on the wire.
//
// One thread a connection; the handler is called by one thread at a time. Errors: throws std::runtime_error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace cardionode::test {

class ScriptedServer {
public:
    struct Request {
        std::string target;
        std::map<std::string, std::string> headers;  ///< names in lower case
        std::string body;                            ///< empty when larger than 6 MiB
        std::uint64_t body_bytes = 0;
        std::string body_sha256;
        int connection = 0;                     ///< from 1
        std::string tls_version, peer_subject;  ///< over TLS
    };
    enum class End {
        Normal,
        DropBeforeAnswer,  ///< closes without a byte
        CutBody,           ///< half of the body, then closes
        CloseSilently,     ///< says keep-alive and closes after the answer
        Stall,             ///< keeps the connection and says nothing
    };
    struct Answer {
        int status = 200;
        std::string body;
        std::string content_type = "application/protobuf";
        std::uint64_t generated = 0;  ///< instead of body: so many bytes, made while sending: byte i is i modulo 251
        End end = End::Normal;
        std::string date;  ///< header; empty: none
    };
    using Handler = std::function<Answer(const Request&)>;
    struct Tls {
        std::filesystem::path ca, certificate, key;  ///< ca: of clients
        bool client_certificate = true;
        bool only_tls12 = false;
    };

    explicit ScriptedServer(Handler handler, std::optional<Tls> tls = std::nullopt);
    ~ScriptedServer();
    ScriptedServer(const ScriptedServer&) = delete;
    ScriptedServer& operator=(const ScriptedServer&) = delete;

    std::string url() const;  ///< by address
    int port() const;
    int connections() const;  ///< accepted so far

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cardionode::test
