// Real studies that a node in a hospital meets and should not choke on. Each ends in a stated outcome, and a good study
// behind it is done.
#include "tests/flows/flow.h"

namespace cardionode::test {
namespace {

class StrangeStudy : public ::testing::Test {
protected:
    void SetUp() override {
        if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
        pacs_ = std::make_unique<Orthanc>(folder_ / "pacs");
        pacs_->start();
        start_with("");
    }
    void start_with(const std::string& series_settings) {
        NodeOptions options = options_with(quick_bundle(), {destination(*pacs_)});
        options.more_series_settings = series_settings;
        node_ = std::make_unique<Node>(options);
        node_->start();
    }
    /// Sends what the node accepts. @return how many were answered with success
    int send(const std::filesystem::path& data) {
        int taken = 0;
        for (const auto& [uid, status] : send_all(node_->port(), read_instances(data))) taken += status == 0 ? 1 : 0;
        return taken;
    }
    void expect_queue_not_stalled(int studies_before) {
        send_accepted(*node_, cta());
        const auto studies = node_->wait_until_settled(studies_before + 1, seconds(180));
        EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
        expect_results_once(*node_, *pacs_, study_uid_of(cta()));
    }
    TemporaryFolder folder_;
    std::unique_ptr<Orthanc> pacs_;
    std::unique_ptr<Node> node_;
};

TEST_F(StrangeStudy, WithEmptyUidsIsRefusedAtTheDoor) {
    const auto data = shared("data/empty_uids");
    CARDIONODE_NEEDS(data);
    const auto instances = read_instances(data);
    Scanner scanner(node_->port(), instances);
    ASSERT_TRUE(scanner.accepted());
    for (const Instance& instance : instances) {
        const auto status = scanner.store(instance);
        ASSERT_TRUE(status.has_value()) << "an answer, not a closed connection";
        EXPECT_TRUE((*status & 0xff00) == 0xa900 || (*status & 0xf000) == 0xc000) << std::hex << *status;
    }
    EXPECT_TRUE(node_->studies().empty());
    expect_queue_not_stalled(0);
}

TEST_F(StrangeStudy, OfATiltedHeadIsSetAsideWithAReason) {
    const auto data = shared("data/geometry_tilt");
    CARDIONODE_NEEDS(data);
    EXPECT_EQ(send(data), 28);
    const auto studies = node_->wait_until_settled(1, seconds(120));
    EXPECT_EQ(studies[0].state, StudyState::SetAside);
    EXPECT_NE(studies[0].last_error.find("slices"), std::string::npos) << studies[0].last_error;
    expect_queue_not_stalled(1);
}

TEST_F(StrangeStudy, OfThickSlicesIsSetAsideWithAReason) {
    const auto data = shared("data/chest_acrin");  // 3.75 mm, 3.0 mm is the rule
    CARDIONODE_NEEDS(data);
    EXPECT_EQ(send(data), 135);
    const auto studies = node_->wait_until_settled(1, seconds(120));
    EXPECT_EQ(studies[0].state, StudyState::SetAside);
    EXPECT_NE(studies[0].last_error.find("thick"), std::string::npos) << studies[0].last_error;
    expect_queue_not_stalled(1);
}

TEST_F(StrangeStudy, OfANativeChestInJpegLsIsReadWhereTheRulesAllowIt) {
    const auto data = shared("data/chest_acrin");
    CARDIONODE_NEEDS(data);
    start_with("  max_slice_thickness_mm: 4.0\n");
    EXPECT_EQ(send(data), 135);
    const auto studies = node_->wait_until_settled(1, seconds(400));
    EXPECT_EQ(studies[0].state, StudyState::Done) << studies[0].last_error;
    EXPECT_GT(studies[0].outputs_sent, 0);
    expect_queue_not_stalled(1);
}

TEST_F(StrangeStudy, WithARadiotherapyPlanInJpeg2000EndsInAnOutcome) {
    const auto data = shared("data/chest_heart_rtstruct");
    CARDIONODE_NEEDS(data);
    EXPECT_GE(send(data), 98);  // the slices and the RTSTRUCT; an RTPLAN is no class of this node
    const auto studies = node_->wait_until_settled(1, seconds(400));
    if (studies[0].state == StudyState::SetAside) {
        EXPECT_FALSE(studies[0].last_error.empty());
        std::cout << "set aside: " << studies[0].last_error << "\n";
    } else {
        EXPECT_GT(studies[0].outputs_sent, 0);
    }
    expect_queue_not_stalled(1);
}

}  // namespace
}  // namespace cardionode::test
