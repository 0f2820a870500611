// A whole node for flows: its settings, folders and programs, started and broken as a test wishes.
//
// Thread safety: one object belongs to one thread. Errors: throws std::runtime_error, which fails the test.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "scp/queue/queue.h"
#include "tests/support/pacs.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {

struct NodeOptions {
    std::filesystem::path bundle;
    int series_quiet_seconds = 1;
    int study_quiet_seconds = 1;
    int lease_seconds = 5;
    int retry_first_seconds = 1;
    int max_attempts = 5;
    struct Destination {
        std::string name;
        std::string ae_title;
        int port = 0;
        /// Off, unless the PACS of the test knows where to report: otherwise no study would be done.
        std::string commitment = "off";
    };
    std::vector<Destination> destinations;
    int port = 0;                      ///< of the receiver; 0: a free one
    std::string more_series_settings;  ///< lines under `series:`, indented by two
};

/// The destination that a PACS of this test is.
inline NodeOptions::Destination destination(const Orthanc& pacs, const std::string& name = "pacs1") {
    return {name, pacs.ae_title(), pacs.port()};
}

/// Owns a temporary folder with settings, spool, work, queue and logs. When a test has failed, the destructor prints
/// the ends of the logs.
class Node {
public:
    explicit Node(NodeOptions options);
    ~Node();
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    const std::filesystem::path& folder() const { return folder_.path(); }
    std::filesystem::path settings_file() const { return folder() / "node.yaml"; }
    std::filesystem::path spool() const { return folder() / "spool"; }
    std::filesystem::path work() const { return folder() / "work"; }
    int port() const { return port_; }

    void start_receiver();  ///< returns when it answers a C-ECHO
    void start_pipeline();
    void start() {
        start_receiver();
        start_pipeline();
    }
    Process& receiver() { return *receiver_; }
    Process& pipeline() { return *pipeline_; }
    std::string receiver_log() const;
    std::string pipeline_log() const;

    /// Opens the queue of the running node.
    Queue queue() const;
    std::vector<StudyRow> studies() const;
    /// Waits until `count` studies are there and all of them are done or set aside. @return them, newest first
    std::vector<StudyRow> wait_until_settled(int count, std::chrono::seconds longest) const;
    /// Waits for one line of the pipeline's log that holds `text`, written after the byte `from` of the log.
    bool wait_for_pipeline_log(const std::string& text, std::chrono::seconds longest, std::size_t from = 0) const;

    /// `cardionode <words> --config <settings>`.
    Finished command(std::vector<std::string> words) const;

private:
    void write_settings() const;

    NodeOptions options_;
    TemporaryFolder folder_;
    int port_ = 0;
    std::optional<Process> receiver_;
    std::optional<Process> pipeline_;
};

}  // namespace cardionode::test
