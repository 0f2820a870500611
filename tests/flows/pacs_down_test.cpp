// A PACS that is away for a while, and one that never comes.
#include "tests/flows/flow.h"
#include "tests/support/free_port.h"

namespace cardionode::test {
namespace {

TEST(PacsDown, EverythingArrivesWhenItIsBack) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");  // not started yet
    Node node(options_with(quick_bundle(), {destination(pacs)}));
    node.start();
    const auto instances = cta();
    send_accepted(node, instances);
    ASSERT_TRUE(eventually(seconds(180), [&] {
        const auto studies = node.studies();
        return studies.size() == 1 && studies[0].state == StudyState::Sending;
    }));
    pause_for(seconds(3));  // some tries fail
    EXPECT_EQ(node.studies()[0].outputs_sent, 0);
    pacs.start();
    const auto studies = node.wait_until_settled(1, seconds(60));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    expect_results_once(node, pacs, study_uid_of(instances));
}

TEST(PacsDown, DelaysNoOtherPacs) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    Node node(options_with(quick_bundle(), {{"away", "AWAY", free_port()}, destination(pacs)}));
    node.start();
    const auto instances = cta();
    send_accepted(node, instances);
    ASSERT_TRUE(eventually(seconds(180), [&] {
        auto status = node.queue().status();
        if (!status.ok()) return false;
        for (const DestinationStatus& d : status->destinations) {
            if (d.destination == "pacs1" && d.sent > 0 && d.waiting == 0) return true;
        }
        return false;
    }));
    expect_results_once(node, pacs, study_uid_of(instances));
    const auto studies = node.studies();
    EXPECT_EQ(studies[0].state, StudyState::Sending) << "the other destination still waits";
}

TEST(PacsDown, TheOperatorSeesWhy) {
    Node node(options_with(quick_bundle(), {{"away", "AWAY", free_port()}}));
    node.start();
    send_accepted(node, cta());
    std::string error;
    ASSERT_TRUE(eventually(seconds(180), [&] {
        auto status = node.queue().status();
        if (!status.ok() || status->destinations.empty()) return false;
        error = status->destinations[0].last_error;
        return !error.empty();
    }));
    EXPECT_NE(error.find("refused"), std::string::npos) << error;
    EXPECT_TRUE(node.pipeline().running());
}

}  // namespace
}  // namespace cardionode::test
