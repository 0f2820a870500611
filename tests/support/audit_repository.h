// An audit repository for tests: takes syslog over TCP, TLS or UDP on loopback, and can be away.
//
// Thread: one, ended by the destructor. Thread safety: all methods from any thread.
#pragma once

#include <atomic>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace cardionode::test {

class Repository {
public:
    struct Tls {
        std::filesystem::path certificate, key;
        std::filesystem::path client_ca;  ///< empty: asks for no certificate
    };
    /// @param close_after  closes a connection after so many messages without reading the rest; 0: never
    explicit Repository(int port, const std::string& transport = "tcp", const Tls& tls = {}, int close_after = 0);
    ~Repository();
    Repository(const Repository&) = delete;
    Repository& operator=(const Repository&) = delete;

    std::vector<std::string> messages() const;
    /// How many hold this text.
    int count(const std::string& text) const;
    /// false: fewer came within 20 s
    bool wait_for(std::size_t messages) const;

private:
    void serve_stream();
    void serve_datagrams();
    void one_connection(int fd);
    void take(std::string& buffer);

    int fd_ = -1;
    Tls tls_;
    int close_after_;
    std::atomic<bool> stop_{false};
    mutable std::mutex mutex_;
    std::vector<std::string> messages_;
    std::thread thread_;
};

/// A CA, and a certificate of it for 127.0.0.1 and localhost (OpenSSL's program). Files: ca.pem, ca.key, NAME.pem,
/// NAME.key
void make_ca(const std::filesystem::path& folder);
void make_certificate(const std::filesystem::path& folder, const std::string& name);

}  // namespace cardionode::test
