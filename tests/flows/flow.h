// What the flows share: the quick bundle, and what a study's results in the PACS must look like.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/support/node.h"
#include "tests/support/pacs.h"
#include "tests/support/scanner.h"
#include "tests/support/shared_data.h"

namespace cardionode::test {

using std::chrono::seconds;

/// A network of a few thousand weights: its findings mean nothing, but it takes the whole way in seconds.
inline std::filesystem::path quick_bundle() {
    return std::filesystem::path(CARDIONODE_SOURCE_DIR) / "tests/data/quick_bundle";
}
/// The bundle that the node ships: the one that conf/node.yaml names.
std::filesystem::path shipped_bundle();

inline NodeOptions options_with(const std::filesystem::path& bundle,
                                const std::vector<NodeOptions::Destination>& destinations) {
    NodeOptions options;
    options.bundle = bundle;
    options.destinations = destinations;
    return options;
}

/// Sends all; every answer must be success.
inline void send_accepted(const Node& node, const std::vector<Instance>& instances) {
    const auto answers = send_all(node.port(), instances);
    ASSERT_EQ(answers.size(), instances.size()) << "not every instance was answered";
    for (const auto& [uid, status] : answers) ASSERT_EQ(status, 0);
}

inline std::string study_uid_of(const std::vector<Instance>& instances) {
    const std::string text(instances.at(0).dataset.begin(), instances.at(0).dataset.end());
    const std::string tag("\x20\x00\x0d\x00UI", 6);
    const auto at = text.find(tag) + 8;
    const auto size = static_cast<unsigned char>(text.at(at - 2));
    std::string uid = text.substr(at, size);
    if (uid.back() == '\0') uid.pop_back();
    return uid;
}

/// The PACS holds exactly what the node says it sent for this study, each once: SEG, two SR a revision (landmarks,
/// volumes), key images.
void expect_results_once(const Node& node, const Orthanc& pacs, const std::string& study_uid);

/// Children of a process, by /proc.
std::vector<pid_t> children_of(pid_t parent);

/// Every instance is in the queue, and its file in the spool holds exactly the bytes that were sent.
void expect_kept(const Node& node, const std::vector<Instance>& instances);

}  // namespace cardionode::test
