#include "tests/flows/flow.h"

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

void expect_results_once(const Orthanc& pacs, const std::string& study_uid, int revision) {
    std::map<std::string, int> by_class;
    std::map<std::string, int> by_series;
    std::set<std::string> sop_uids;
    for (const Orthanc::Held& held : pacs.instances()) {
        if (held.study_instance_uid != study_uid || held.modality == "CT") continue;
        EXPECT_TRUE(sop_uids.insert(held.sop_instance_uid).second) << "held twice";
        ++by_class[held.sop_class_uid];
        ++by_series[held.series_description];
    }
    int reports = by_class[kComprehensive3dSr] + by_class[kComprehensiveSr];
    EXPECT_EQ(reports, 2 * revision) << "one SR with landmarks, one with volumes";
    EXPECT_GE(by_class[kSegmentation], 1);
    EXPECT_GE(by_class[kSecondaryCapture], 1) << "key images";
    for (const auto& [sop_class, count] : by_class) {
        EXPECT_TRUE(sop_class == kSegmentation || sop_class == kComprehensive3dSr || sop_class == kComprehensiveSr ||
                    sop_class == kSecondaryCapture || count == 0)
            << sop_class;
    }
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
