// A study that cannot be read stands beside good ones and harms none of them.
#include "tests/flows/flow.h"

namespace cardionode::test {
namespace {

TEST(BadStudy, IsSetAsideWithAReasonWhileItsNeighboursAreDone) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    Node node(options_with(quick_bundle(), {destination(pacs)}));
    node.start_receiver();
    const auto whole = cta();
    const auto first = as_other_study(whole, 1);
    const auto last = as_other_study(whole, 3);
    auto bad = as_other_study(whole, 2);
    bad.resize(12);  // too few slices for a heart
    send_accepted(node, first);
    send_accepted(node, bad);
    send_accepted(node, last);
    node.start_pipeline();
    const auto studies = node.wait_until_settled(3, seconds(240));
    int done = 0;
    for (const StudyRow& study : studies) {
        if (study.instances == 12) {
            EXPECT_EQ(study.state, StudyState::SetAside);
            EXPECT_NE(study.last_error.find("slices"), std::string::npos) << study.last_error;
            EXPECT_EQ(study.attempts, 1) << "a study that will never work is not tried again";
        } else {
            done += study.state == StudyState::Done ? 1 : 0;
        }
    }
    EXPECT_EQ(done, 2);
    expect_results_once(node, pacs, study_uid_of(first));
    expect_results_once(node, pacs, study_uid_of(last));
}

TEST(BadStudy, WithoutACtSaysSo) {
    Node node(options_with(quick_bundle(), {}));
    node.start();
    send_accepted(node, {make_report("2.25.299792458299792458")});
    const auto studies = node.wait_until_settled(1, seconds(60));
    EXPECT_EQ(studies[0].state, StudyState::SetAside);
    EXPECT_NE(studies[0].last_error.find("CT"), std::string::npos) << studies[0].last_error;
}

TEST(BadStudy, TruncatedDataIsRefusedAndTheNextIsTaken) {
    Node node(options_with(quick_bundle(), {}));
    node.start_receiver();
    const auto whole = cta();
    Instance cut = whole[0];
    cut.dataset.resize(cut.dataset.size() / 2);
    Scanner scanner(node.port(), {cut, whole[1]});
    const auto refused = scanner.store(cut);
    if (refused) {
        EXPECT_TRUE((*refused & 0xf000) == 0xa000 || (*refused & 0xf000) == 0xc000) << std::hex << *refused;
        EXPECT_EQ(scanner.store(whole[1]), 0) << "the association goes on";
    } else {
        EXPECT_EQ(Scanner(node.port(), {whole[1]}).store(whole[1]), 0);
    }
    EXPECT_TRUE(eventually(seconds(10), [&] { return node.studies().size() == 1; }));
    EXPECT_EQ(node.studies()[0].instances, 1) << "no file is left of the cut one";
}

}  // namespace
}  // namespace cardionode::test
