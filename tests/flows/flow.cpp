#include "tests/flows/flow.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "conf/base/node_settings.h"

namespace cardionode::test {
namespace {

constexpr auto kSegmentation = "1.2.840.10008.5.1.4.1.1.66.4";
constexpr auto kComprehensive3dSr = "1.2.840.10008.5.1.4.1.1.88.34";
constexpr auto kComprehensiveSr = "1.2.840.10008.5.1.4.1.1.88.33";
constexpr auto kSecondaryCapture = "1.2.840.10008.5.1.4.1.1.7";

}  // namespace

std::filesystem::path shipped_bundle() {
    const std::filesystem::path source = CARDIONODE_SOURCE_DIR;
    auto settings = load_node_settings(source / "conf/node.yaml");
    if (!settings) throw std::runtime_error(settings.error().message);
    return source / "models/bundles" / settings->pipeline.bundle.filename();
}

void expect_results_once(const Node& node, const Orthanc& pacs, const std::string& study_uid) {
    Queue queue = node.queue();
    const auto studies = node.studies();
    const auto study = std::find_if(studies.begin(), studies.end(),
                                    [&](const StudyRow& row) { return row.study_instance_uid == study_uid; });
    ASSERT_NE(study, studies.end());
    const auto outputs = queue.outputs_of(study->study_key);
    ASSERT_TRUE(outputs.ok()) << outputs.error().message;
    std::multiset<std::string> sent;
    std::map<std::string, int> newest;  // outputs of the newest revision by class
    for (const OutputRow& row : *outputs) {
        if (row.state != "sent" || row.destination != "pacs1") continue;
        sent.insert(row.output.sop_instance_uid);
        if (row.revision == study->revision) ++newest[row.output.sop_class_uid];
    }

    std::multiset<std::string> held_uids;
    std::set<std::string> classes;
    for (const Orthanc::Held& held : pacs.instances()) {
        if (held.study_instance_uid != study_uid || held.modality == "CT") continue;
        held_uids.insert(held.sop_instance_uid);
        classes.insert(held.sop_class_uid);
    }
    EXPECT_EQ(held_uids, sent) << "the PACS holds what the node sent, each once, and nothing else";
    EXPECT_EQ(newest[kComprehensive3dSr] + newest[kComprehensiveSr], 2) << "one SR with landmarks, one with volumes";
    EXPECT_GE(newest[kSegmentation], 1);
    EXPECT_GE(newest[kSecondaryCapture], 1) << "key images";
    for (const std::string& sop_class : classes) EXPECT_TRUE(newest.contains(sop_class)) << sop_class;
}

std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> children;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const pid_t pid = std::atoi(entry.path().filename().c_str());
        if (pid <= 0) continue;
        std::ifstream stat(entry.path() / "stat");
        std::string line;
        std::getline(stat, line);
        const auto after_name = line.rfind(')');
        if (after_name == std::string::npos || after_name + 4 > line.size()) continue;
        if (std::atoi(line.c_str() + after_name + 4) == parent) children.push_back(pid);
    }
    return children;
}

void expect_kept(const Node& node, const std::vector<Instance>& instances) {
    Queue queue = node.queue();
    int wrong = 0;
    for (const Instance& instance : instances) {
        const auto row = queue.find_instance(instance.sop_instance_uid);
        ASSERT_TRUE(row.ok()) << row.error().message;
        if (!row->has_value()) {
            ++wrong;
            continue;
        }
        const Instance kept = read_instance(node.spool() / (*row)->file);
        if (kept.dataset != instance.dataset || kept.transfer_syntax_uid != instance.transfer_syntax_uid) ++wrong;
    }
    EXPECT_EQ(wrong, 0) << "instances that were acknowledged are missing or changed";
}

}  // namespace cardionode::test
