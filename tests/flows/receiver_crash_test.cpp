// kill -9 of the receiver, or of one of its processes, while a scanner sends: what was answered is there afterwards.
#include <csignal>

#include "tests/flows/flow.h"

namespace cardionode::test {
namespace {

NodeOptions patient_options(const Orthanc& pacs) {
    NodeOptions options = options_with(quick_bundle(), {destination(pacs)});
    options.series_quiet_seconds = 6;  // longer than a restart, so that the study stays one revision
    options.study_quiet_seconds = 6;
    return options;
}

/// Sends until the connection breaks. @return those that were answered with success
std::vector<Instance> send_until_broken(Scanner& scanner, const std::vector<Instance>& instances,
                                        const std::function<void(std::size_t answered)>& after_each) {
    std::vector<Instance> acknowledged;
    for (const Instance& instance : instances) {
        const auto status = scanner.store(instance);
        if (!status) break;
        EXPECT_EQ(*status, 0);
        acknowledged.push_back(instance);
        after_each(acknowledged.size());
    }
    return acknowledged;
}

TEST(ReceiverCrash, InTheMiddleOfReceivingLosesNothingThatWasAnswered) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    Node node(patient_options(pacs));
    node.start();
    const auto instances = cta();
    std::vector<Instance> acknowledged;
    {
        Scanner scanner(node.port(), instances);
        acknowledged = send_until_broken(scanner, instances, [&](std::size_t answered) {
            if (answered == 70) node.receiver().kill_hard();
        });
    }
    ASSERT_GE(acknowledged.size(), 70U);
    ASSERT_LT(acknowledged.size(), instances.size());
    node.start_receiver();
    ASSERT_TRUE(eventually(seconds(20),
                           [&] {
                               const auto studies = node.studies();
                               return !studies.empty() && studies[0].instances >= static_cast<int>(acknowledged.size());
                           }))
        << "acknowledged: " << acknowledged.size();
    expect_kept(node, acknowledged);
    send_accepted(node, instances);  // as a scanner does that was cut off
    const auto studies = node.wait_until_settled(1, seconds(180));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    EXPECT_EQ(studies[0].instances, 164);
    EXPECT_EQ(studies[0].conflicts, 0);
    EXPECT_EQ(studies[0].revision, 1);
    expect_kept(node, instances);
    expect_results_once(node, pacs, study_uid_of(instances));
}

TEST(ReceiverCrash, OfAnyChildLosesNothingAndTheNodeGoesOn) {
    // One of the children serves the association, one keeps the queue: each is killed in the middle of a study.
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    Node node(patient_options(pacs));
    node.start();
    const auto instances = cta();
    Scanner scanner(node.port(), instances);
    ASSERT_TRUE(scanner.accepted());
    EXPECT_EQ(scanner.store(instances[0]), 0);
    const auto children = children_of(node.receiver().pid());
    if (children.empty()) GTEST_SKIP() << "this receiver is one process";
    std::set<std::string> sent;
    std::vector<Instance> acknowledged = {instances[0]};
    std::size_t next = 1;
    for (const pid_t child : children) {
        Scanner another(node.port(), instances);
        for (int i = 0; i < 10 && next < instances.size(); ++i, ++next) {
            if (another.store(instances[next]) == 0) acknowledged.push_back(instances[next]);
        }
        ::kill(child, SIGKILL);
        for (int i = 0; i < 10 && next < instances.size(); ++i, ++next) {
            if (another.store(instances[next]) == 0) acknowledged.push_back(instances[next]);
        }
        ASSERT_TRUE(eventually(seconds(20), [&] { return Scanner(node.port(), {}).echo() == 0; }))
            << "the receiver takes associations again";
    }
    EXPECT_GT(acknowledged.size(), 10U);
    send_accepted(node, instances);
    const auto studies = node.wait_until_settled(1, seconds(180));
    EXPECT_EQ(studies[0].instances, 164);
    EXPECT_EQ(studies[0].conflicts, 0);
    expect_kept(node, instances);
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    expect_results_once(node, pacs, study_uid_of(instances));
}

TEST(ReceiverCrash, InTheMiddleOfAnInstanceLeavesNoHalfOne) {
    Node node(options_with(quick_bundle(), {}));
    node.start_receiver();
    const auto instances = cta();
    {
        Scanner scanner(node.port(), instances);
        ASSERT_EQ(scanner.store(instances[0]), 0);
        scanner.begin_store(instances[1], 10'000);
        node.receiver().kill_hard();
    }
    node.start_receiver();
    ASSERT_TRUE(eventually(seconds(20), [&] {
        const auto studies = node.studies();
        return studies.size() == 1 && studies[0].instances == 1;
    }));
    expect_kept(node, {instances[0]});
    EXPECT_EQ(send_all(node.port(), {instances[1]}).at(instances[1].sop_instance_uid), 0);
}

}  // namespace
}  // namespace cardionode::test
