// kill -9 of receiver and pipeline at once, with the study in each of its states: as far as the programs can tell, the
// machine lost its power.
#include "tests/flows/flow.h"

namespace cardionode::test {
namespace {

class PowerCut : public ::testing::TestWithParam<StudyState> {};

TEST_P(PowerCut, LosesNothingAndDeliversOnce) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const StudyState state = GetParam();
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    NodeOptions options = options_with(quick_bundle(), {destination(pacs)});
    if (state == StudyState::Receiving) options.series_quiet_seconds = options.study_quiet_seconds = 6;
    Node node(options);
    node.start_receiver();
    // No pipeline takes a study that shall be found ready; no PACS takes the outputs of one that shall be found
    // sending.
    if (state != StudyState::Ready) node.start_pipeline();
    if (state != StudyState::Sending) pacs.start();

    const auto instances = cta();
    std::vector<Instance> acknowledged = instances;
    if (state == StudyState::Receiving) acknowledged.resize(70);
    send_accepted(node, acknowledged);
    ASSERT_TRUE(eventually(seconds(120), [&] {
        const auto studies = node.studies();
        return studies.size() == 1 && studies[0].state == state;
    }));
    node.receiver().kill_hard();
    if (state != StudyState::Ready) node.pipeline().kill_hard();
    ASSERT_EQ(node.studies().at(0).state, state) << "killed in time";

    pacs.start();
    node.start();
    if (state == StudyState::Receiving) send_accepted(node, instances);  // as a scanner does that was cut off
    const auto studies = node.wait_until_settled(1, seconds(180));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    EXPECT_EQ(studies[0].instances, 164);
    EXPECT_EQ(studies[0].revision, 1);
    expect_kept(node, instances);
    expect_results_once(node, pacs, study_uid_of(instances));
}

INSTANTIATE_TEST_SUITE_P(WhileThe, PowerCut,
                         ::testing::Values(StudyState::Receiving, StudyState::Ready, StudyState::Processing,
                                           StudyState::Sending),
                         [](const auto& param) { return "study_is_" + std::string(to_string(param.param)); });

}  // namespace
}  // namespace cardionode::test
