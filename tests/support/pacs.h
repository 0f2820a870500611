// A PACS for tests: Debian's Orthanc on loopback with its own configuration and folder.
//
// Thread safety: one object belongs to one thread. Errors: throws std::runtime_error, which fails the test.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/process.h"

namespace cardionode::test {

/// Tests that need the PACS begin with: if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
class Orthanc {
public:
    static bool available();
    /// Writes the configuration; start() starts it. Ports are free ones and stay the same for this object.
    /// @param modalities  AE titles and ports on loopback that it may call, for reports of storage commitment
    explicit Orthanc(const std::filesystem::path& folder, const std::map<std::string, int>& modalities = {});

    void start();  ///< returns when it answers
    void stop();   ///< what it holds stays in its folder
    bool running() { return process_ && process_->running(); }

    std::string ae_title() const { return "PACS1"; }
    int port() const { return port_; }
    int http_port() const { return http_port_; }

    /// GET of its REST interface.
    nlohmann::json get(const std::string& path) const;
    std::string get_bytes(const std::string& path) const;
    nlohmann::json post(const std::string& path, const nlohmann::json& body) const;

    /// What one instance is.
    struct Held {
        std::string id;  ///< Orthanc's own
        std::string sop_instance_uid;
        std::string sop_class_uid;
        std::string series_instance_uid;
        std::string study_instance_uid;
        std::string modality;
        std::string series_description;
    };
    std::vector<Held> instances() const;
    /// Number of instances by modality.
    std::map<std::string, int> counts() const;
    /// The file as the PACS gives it back.
    void download(const Held& held, const std::filesystem::path& file) const;

private:
    std::filesystem::path folder_;
    int port_ = 0;
    int http_port_ = 0;
    std::optional<Process> process_;
};

/// GET over HTTP/1.0 from 127.0.0.1. none: nobody there, or no answer. @return status and body
std::optional<std::pair<int, std::string>> http_get(int port, const std::string& path);
std::optional<std::pair<int, std::string>> http_post(int port, const std::string& path, const std::string& body);

}  // namespace cardionode::test
