// Storage commitment for scanners: what was asked is remembered until it is reported.
#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::ElementsAre;

namespace {

constexpr auto kCt = "1.2.840.10008.5.1.4.1.1.2";

class OwedTest : public QueueTest {
protected:
    static CommitmentRequest request(const std::string& transaction, const std::vector<std::string>& uids,
                                     const std::string& ae = "CT1") {
        CommitmentRequest request{ae, "CARDIONODE", transaction, {}};
        for (const auto& uid : uids) request.references.push_back({kCt, uid});
        return request;
    }
    std::optional<OwedCommitment> claim_owed() { return must(queue.claim_owed_commitment(kLease)); }

    RetryPolicy policy_{.first = seconds(10), .longest = hours(1), .max_attempts = 0, .give_up_after = hours(72)};
};

}  // namespace

TEST_F(OwedTest, ARequestSurvivesARestartAndIsReportedOnce) {
    const auto asked = request("1.1", {"1.2.3", "1.2.4"});
    const OwedCommitment held = must(queue.owe_commitment(asked, seconds(30)));
    EXPECT_FALSE(held.duplicate);
    EXPECT_EQ(claim_owed(), std::nullopt) << "its association is open";
    clock.advance(seconds(31));  // the process of the association was killed
    queue = open();
    const auto owed = claim_owed();
    ASSERT_TRUE(owed);
    EXPECT_EQ(owed->request.calling_ae_title, "CT1");
    EXPECT_EQ(owed->request.called_ae_title, "CARDIONODE");
    EXPECT_EQ(owed->request.transaction_uid, "1.1");
    EXPECT_EQ(owed->request.references, asked.references);
    EXPECT_EQ(claim_owed(), std::nullopt);
    EXPECT_FALSE(must(queue.hold_owed_commitment(held, seconds(30)))) << "its lease went to another";
    EXPECT_FALSE(must(queue.commitment_reported(held)));
    EXPECT_TRUE(must(queue.commitment_reported(*owed)));
    clock.advance(hours(1));
    EXPECT_EQ(claim_owed(), std::nullopt);
}

TEST_F(OwedTest, WhoHoldsItKeepsItAndMayGiveItBack) {
    const OwedCommitment held = must(queue.owe_commitment(request("1.1", {"1.2.3"}), seconds(30)));
    clock.advance(seconds(20));
    EXPECT_TRUE(must(queue.hold_owed_commitment(held, seconds(30))));
    clock.advance(seconds(20));
    EXPECT_EQ(claim_owed(), std::nullopt);
    EXPECT_TRUE(must(queue.release_owed_commitment(held)));
    const auto owed = claim_owed();
    ASSERT_TRUE(owed);
    EXPECT_EQ(owed->attempt, 0);
}

TEST_F(OwedTest, AReportThatFailsIsTriedAtGrowingPausesForThreeDays) {
    must(queue.release_owed_commitment(must(queue.owe_commitment(request("1.1", {"1.2.3"}), seconds(30)))));
    int tries = 0;
    const Moment begun = clock.now();
    while (clock.now() - begun < hours(80)) {
        if (const auto owed = claim_owed()) {
            EXPECT_EQ(owed->attempt, tries++);
            must(queue.commitment_not_reported(*owed, retry_error("away"), policy_));
            EXPECT_EQ(claim_owed(), std::nullopt) << "no storm";
        }
        clock.advance(minutes(5));
    }
    EXPECT_GT(tries, 60);
    EXPECT_LT(tries, 110);
}

TEST_F(OwedTest, TheSameRequestAgainIsTheSameAndOwedOnceMore) {
    const OwedCommitment first = must(queue.owe_commitment(request("1.1", {"1.2.3"}), seconds(30)));
    const OwedCommitment again = must(queue.owe_commitment(request("1.1", {"1.2.3"}), seconds(30)));
    EXPECT_EQ(first.id, again.id);
    EXPECT_FALSE(again.duplicate);
    EXPECT_TRUE(must(queue.commitment_reported(again)));
    const OwedCommitment third = must(queue.owe_commitment(request("1.1", {"1.2.3"}), seconds(30)));
    EXPECT_EQ(third.id, first.id) << "the scanner seems not to have got the report";
    EXPECT_TRUE(must(queue.commitment_reported(third)));
}

TEST_F(OwedTest, ATransactionForOtherInstancesIsADuplicateOfItsPeerOnly) {
    must(queue.owe_commitment(request("1.1", {"1.2.3"}), seconds(30)));
    const OwedCommitment other = must(queue.owe_commitment(request("1.1", {"1.2.4"}), seconds(30)));
    EXPECT_TRUE(other.duplicate);
    EXPECT_THAT(other.request.references, ElementsAre(InstanceReference{kCt, "1.2.4"}));
    EXPECT_FALSE(must(queue.owe_commitment(request("1.1", {"1.2.4"}, "CT2"), seconds(30))).duplicate);
}

TEST_F(OwedTest, OnePeerCannotFillTheQueueAndAFinishedRequestIsForgottenAfterAWeek) {
    int taken = 0;
    for (int i = 0; i < 600; ++i)
        taken += queue.owe_commitment(request("1.1." + std::to_string(i), {"1.2.3"}), seconds(30)).ok() ? 1 : 0;
    EXPECT_EQ(taken, 500);
    const auto refused = queue.owe_commitment(request("1.7", {"1.2.3"}), seconds(30));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Retry);
    EXPECT_TRUE(queue.owe_commitment(request("1.7", {"1.2.3"}, "CT2"), seconds(30)).ok());

    const OwedCommitment one = must(queue.owe_commitment(request("1.1.0", {"1.2.3"}), seconds(30)));
    must(queue.commitment_reported(one));
    clock.advance(hours(24 * 8));
    ASSERT_TRUE(claim_owed());
    EXPECT_NE(must(queue.owe_commitment(request("1.1.0", {"1.2.3"}), seconds(30))).id, one.id);
}

TEST_F(OwedTest, OnlyWhatIsInUseUnderItsClassCountsAsStored) {
    const std::string key = add_series("1", "1", 2);
    const std::vector<InstanceReference> asked = {
        {kCt, "1.2.1.1.1"}, {kCt, "1.2.1.1.77"}, {"1.2.840.10008.5.1.4.1.1.4", "1.2.1.1.2"}};
    const auto checked = must(queue.check_stored(asked));
    EXPECT_EQ(checked.at(0).reason, 0);
    EXPECT_EQ(checked.at(1).reason, 0x0112);
    EXPECT_EQ(checked.at(2).reason, 0x0119);
}
