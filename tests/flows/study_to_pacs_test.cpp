// The way of a study: from the scanner through receiver, queue and pipeline to the PACS.
#include "tests/flows/flow.h"
#include "tests/support/free_port.h"

namespace cardionode::test {
namespace {

TEST(StudyToPacs, EachResultArrivesOnceAndTheStudyIsDone) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    Node node(options_with(quick_bundle(), {destination(pacs)}));
    node.start();
    const auto instances = cta();
    send_accepted(node, instances);
    const auto studies = node.wait_until_settled(1, seconds(180));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    EXPECT_EQ(studies[0].instances, 164);
    EXPECT_EQ(studies[0].outputs_sent, studies[0].outputs_total);
    EXPECT_EQ(static_cast<int>(pacs.instances().size()), studies[0].outputs_total);
    expect_kept(node, instances);
    expect_results_once(node, pacs, study_uid_of(instances));
    for (Process* program : {&node.pipeline(), &node.receiver()}) {
        EXPECT_EQ(program->stop(), (Ending{0, 0})) << "a polite end";
    }
}

TEST(StudyToPacs, AStudyIsDoneWhenThePacsHasCommittedItsResults) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    auto options = options_with(quick_bundle(), {});
    options.port = free_port();
    Orthanc pacs(folder / "pacs", {{"CARDIONODE", options.port}});
    pacs.start();
    options.destinations = {destination(pacs)};
    options.destinations[0].commitment = "required";
    Node node(options);
    node.start();
    const auto instances = cta();
    send_accepted(node, instances);
    const auto studies = node.wait_until_settled(1, seconds(180));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    EXPECT_EQ(studies[0].outputs_sent, studies[0].outputs_total);
    for (const OutputRow& output : *node.queue().outputs_of(studies[0].study_key))
        EXPECT_EQ(output.commitment, "committed");
    expect_results_once(node, pacs, study_uid_of(instances));
}

TEST(StudyToPacs, TheSameStudyAgainChangesNothing) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    Node node(options_with(quick_bundle(), {destination(pacs)}));
    node.start();
    const auto instances = cta();
    send_accepted(node, instances);
    (void)node.wait_until_settled(1, seconds(180));
    const auto before = pacs.instances().size();
    send_accepted(node, instances);
    pause_for(seconds(4));  // longer than the quiet times
    const auto studies = node.wait_until_settled(1, seconds(60));
    EXPECT_EQ(studies[0].revision, 1);
    EXPECT_EQ(studies[0].instances, 164);
    EXPECT_EQ(studies[0].conflicts, 0);
    EXPECT_EQ(pacs.instances().size(), before);
}

TEST(StudyToPacs, ALateImageMakesARevisionThatSaysWhatItReplaces) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    Node node(options_with(quick_bundle(), {destination(pacs)}));
    node.start();
    const auto instances = cta();
    send_accepted(node, {instances.begin(), instances.end() - 1});
    (void)node.wait_until_settled(1, seconds(180));
    send_accepted(node, {instances.back()});
    ASSERT_TRUE(eventually(seconds(30), [&] { return node.studies().at(0).revision == 2; }));
    const auto studies = node.wait_until_settled(1, seconds(180));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    EXPECT_EQ(studies[0].instances, 164);
    expect_results_once(node, pacs, study_uid_of(instances));
}

}  // namespace
}  // namespace cardionode::test
