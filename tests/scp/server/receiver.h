// The real program cardionode-scp for tests, and a peer that sends any bytes.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "scp/queue/queue.h"
#include "tests/scp/server/raw_pdu.h"
#include "tests/support/process.h"
#include "tests/support/scanner.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {

/// Processes beside those of connections: the indexer, which is the first, and the reporter.
inline constexpr std::size_t kHelpers = 2;

/// A receiver with its own folders. Prints its log when a test has failed.
class Receiver {
public:
    /// @param scp_settings  lines under `scp:`, each indented by two, beside the port
    /// @param spool         instead of a folder of its own
    explicit Receiver(std::string scp_settings = {}, std::filesystem::path spool = {});
    ~Receiver();

    /// Returns when it listens. @param port  where to look for that; 0: the plain one
    void start(const std::map<std::string, std::string>& environment = {}, int port = 0);
    Finished run_to_end();  ///< for a start that must fail
    void write_settings() const;
    /// Other lines under `scp:` for the next start or SIGHUP; the file is written at once.
    void change_settings(std::string scp_settings);
    /// SIGHUP; returns when the receiver has said what came of it. @return that line of the log
    std::string reload();
    void more_settings(const std::string& lines) { scp_settings_ += lines; }  ///< behind those of the constructor

    std::filesystem::path folder() const { return folder_.path(); }
    std::filesystem::path spool() const { return spool_; }
    int port() const { return port_; }
    Process& process() { return *process_; }
    std::string log() const;
    bool wait_for_log(const std::string& text, std::chrono::seconds longest = std::chrono::seconds(20)) const;
    /// Process ids of the receiver's children.
    std::vector<pid_t> children() const;

    Queue queue() const;
    /// SHA-256 of the data set of every instance in the queue, conflicts too; each file is compared with it.
    std::multiset<std::string> stored() const;
    bool wait_for_stored(std::size_t count, std::chrono::seconds longest = std::chrono::seconds(60)) const;
    std::size_t files_in(const std::string& folder) const;

private:
    TemporaryFolder folder_;
    std::string scp_settings_;
    std::filesystem::path spool_;
    int port_ = 0;
    std::optional<Process> process_;
};

std::string sha256_of(const Instance& instance);

/// A TCP connection that sends what it is told.
class RawPeer {
public:
    /// @param from  address of this machine to come from
    explicit RawPeer(int port, const std::string& from = "127.0.0.1");
    ~RawPeer();
    RawPeer(const RawPeer&) = delete;
    RawPeer& operator=(const RawPeer&) = delete;

    void send(const std::string& bytes);
    /// Everything until the peer closes or `longest` is over.
    std::string receive_all(std::chrono::milliseconds longest = std::chrono::seconds(3));
    /// One PDU with its header; empty: closed, or not within `longest`.
    std::string receive_pdu(std::chrono::milliseconds longest = std::chrono::seconds(5));
    bool closed_within(std::chrono::milliseconds longest);
    void close_half();  ///< says that nothing more comes, and still reads (FIN)
    void reset();       ///< ends the connection with a reset (RST); nothing can be sent or received then

private:
    int fd_ = -1;
};

/// Associates as CT1 and has its C-ECHO answered with success.
bool echo_works(int port);

}  // namespace cardionode::test
