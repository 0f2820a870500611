// kill -9 of the pipeline in each of its stages: the study runs again, and the PACS gets each result once.
#include "tests/flows/flow.h"

namespace cardionode::test {
namespace {

/// A stage, and the words in the pipeline's log with which it begins.
struct Stage {
    const char* name;
    const char* begins_with;
};
void PrintTo(const Stage& stage, std::ostream* out) { *out << stage.name; }

class PipelineCrash : public ::testing::TestWithParam<Stage> {};

TEST_P(PipelineCrash, RunsTheStudyAgainAndDeliversOnce) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    Node node(options_with(quick_bundle(), {destination(pacs)}));
    node.start();
    const auto instances = cta();
    send_accepted(node, instances);
    const std::string mark = GetParam().begins_with;
    ASSERT_TRUE(node.wait_for_pipeline_log(mark, seconds(120))) << "no " << mark << " in the log";
    node.pipeline().kill_hard();
    const auto killed_at = node.studies().at(0).state;
    node.start_pipeline();
    const auto studies = node.wait_until_settled(1, seconds(180));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    EXPECT_EQ(studies[0].revision, 1);
    EXPECT_EQ(studies[0].instances, 164);
    expect_kept(node, instances);
    expect_results_once(node, pacs, study_uid_of(instances));
    std::cout << "killed while the study was " << to_string(killed_at) << "\n";
}

INSTANTIATE_TEST_SUITE_P(During, PipelineCrash,
                         ::testing::Values(Stage{"claim", "study_claimed"}, Stage{"read", "stage=read"},
                                           Stage{"preprocess", "stage=preprocess"}, Stage{"infer", "stage=infer"},
                                           Stage{"postprocess", "stage=postprocess"}, Stage{"measure", "stage=measure"},
                                           Stage{"outputs", "stage=outputs"}, Stage{"check", "stage=check"},
                                           Stage{"finish", "stage=check seconds="}, Stage{"send", "stage=send"}),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(PipelineCrashTwice, OnceWhileComputingAndOnceWhileSending) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");  // away at first, so that the study waits in `sending`
    Node node(options_with(quick_bundle(), {destination(pacs)}));
    node.start();
    const auto instances = cta();
    send_accepted(node, instances);
    ASSERT_TRUE(eventually(seconds(120), [&] {
        const auto studies = node.studies();
        return studies.size() == 1 && studies[0].state == StudyState::Processing;
    }));
    node.pipeline().kill_hard();
    node.start_pipeline();
    ASSERT_TRUE(eventually(seconds(120), [&] { return node.studies().at(0).state == StudyState::Sending; }));
    node.pipeline().kill_hard();
    pacs.start();
    node.start_pipeline();
    const auto studies = node.wait_until_settled(1, seconds(120));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    expect_results_once(node, pacs, study_uid_of(instances));
}

}  // namespace
}  // namespace cardionode::test
