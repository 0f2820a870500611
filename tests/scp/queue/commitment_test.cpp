// Storage commitment by a destination: a study is done when its outputs are kept, and nothing is lost or asked in
// storms before that.
#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

constexpr auto kAe = "PACS1";
constexpr auto kClass = "1.2.840.10008.5.1.4.1.1.66.4";

class CommitmentTest : public QueueTest {
protected:
    /// A study whose outputs "9.1", "9.2" ... were sent to "pacs" and are to be committed.
    std::string add_sent_study(int outputs = 2, const std::string& study = "1") {
        std::vector<OutputFile> files;
        const std::string root = study == "1" ? "9." : "9." + study + ".";
        for (int o = 1; o <= outputs; ++o) files.push_back(make_output(root + std::to_string(o)));
        const std::string key = add_sending_study(study, files, {"pacs"});
        for (int o = 0; o < outputs; ++o) must(queue.output_sent(claim_output("pacs"), "", /*commit=*/true));
        return key;
    }
    std::optional<CommitmentAsk> ask() {
        return must(queue.ask_commitment("pacs", kAe, "1.9." + std::to_string(++transactions_), minutes(10), policy_));
    }
    AnswerOutcome answer(const std::string& transaction, const std::vector<std::string>& kept,
                         const std::vector<std::pair<std::string, int>>& failed = {}, const std::string& ae = kAe) {
        CommitmentAnswer answer;
        answer.transaction_uid = transaction;
        for (const auto& uid : kept) answer.committed.push_back({kClass, uid});
        for (const auto& [uid, reason] : failed)
            answer.failed.push_back({kClass, uid, static_cast<std::uint16_t>(reason)});
        return must(queue.commitment_answered(ae, answer));
    }
    std::vector<std::string> commitments(const std::string& key) {
        std::vector<std::string> out;
        for (const OutputRow& output : must(queue.outputs_of(key))) out.push_back(output.commitment);
        return out;
    }

    RetryPolicy policy_{.first = seconds(10), .longest = hours(1), .max_attempts = 0, .give_up_after = hours(72)};
    int transactions_ = 0;
};

}  // namespace

TEST_F(CommitmentTest, AStudyIsDoneWhenItsOutputsAreKeptNotWhenTheyAreSent) {
    const std::string key = add_sent_study();
    EXPECT_EQ(state(key), StudyState::Sending);
    EXPECT_EQ(row(key).outputs_sent, 2);
    EXPECT_EQ(row(key).outputs_uncommitted, 2);
    const auto asked = ask();
    ASSERT_TRUE(asked);
    EXPECT_EQ(asked->study_key, key);
    EXPECT_THAT(asked->outputs, ElementsAre(InstanceReference{kClass, "9.1"}, InstanceReference{kClass, "9.2"}));
    EXPECT_EQ(ask(), std::nullopt) << "asked once, then the answer is waited for";
    EXPECT_EQ(state(key), StudyState::Sending);
    EXPECT_EQ(answer("1.9.1", {"9.1", "9.2"}), AnswerOutcome::Taken);
    EXPECT_EQ(state(key), StudyState::Done);
    EXPECT_THAT(commitments(key), ElementsAre("committed", "committed"));
    EXPECT_EQ(row(key).outputs_uncommitted, 0);
    EXPECT_EQ(answer("1.9.1", {"9.1", "9.2"}), AnswerOutcome::Taken) << "said twice is said once";
    EXPECT_EQ(state(key), StudyState::Done);
}

TEST_F(CommitmentTest, NothingIsAskedForWhileAnOutputOfTheStudyIsOnItsWay) {
    const std::string key = add_sending_study("1", {make_output("9.1"), make_output("9.2")}, {"pacs"});
    must(queue.output_sent(claim_output("pacs"), "", true));
    EXPECT_EQ(ask(), std::nullopt);
    const auto second = claim_output("pacs");
    EXPECT_EQ(ask(), std::nullopt);
    must(queue.output_failed(second, reject_error("not understood"), policy_));
    const auto asked = ask();
    ASSERT_TRUE(asked) << "what was set aside keeps the others from nothing";
    EXPECT_THAT(asked->outputs, ElementsAre(InstanceReference{kClass, "9.1"}));
    answer(asked->transaction_uid, {"9.1"});
    EXPECT_EQ(state(key), StudyState::SetAside) << "one output was never delivered";
}

TEST_F(CommitmentTest, OnlyTheDestinationThatWasAskedMayAnswer) {
    const std::string key = add_sent_study();
    ASSERT_TRUE(ask());
    EXPECT_EQ(answer("1.9.1", {"9.1", "9.2"}, {}, "OTHER"), AnswerOutcome::Unknown);
    EXPECT_EQ(answer("1.2.3.4", {"9.1", "9.2"}), AnswerOutcome::Unknown);
    EXPECT_EQ(state(key), StudyState::Sending);
}

TEST_F(CommitmentTest, AnInstanceThatTheDestinationDoesNotHaveIsSentAgainUnderTheSameUid) {
    const std::string key = add_sent_study();
    ASSERT_TRUE(ask());
    answer("1.9.1", {"9.1"}, {{"9.2", 0x0112}});
    EXPECT_THAT(output_states(key), ElementsAre("sent", "waiting"));
    EXPECT_THAT(row(key).last_error, HasSubstr("no such instance (0x0112)"));
    EXPECT_EQ(must(queue.claim_output("s", kLease, "pacs")), std::nullopt) << "a pause comes first";
    clock.advance(minutes(1));
    const ClaimedOutput again = claim_output("pacs");
    EXPECT_EQ(again.output.sop_instance_uid, "9.2");
    must(queue.output_sent(again, "", true));
    const auto second = ask();
    ASSERT_TRUE(second);
    EXPECT_EQ(second->attempt, 2);
    EXPECT_THAT(second->outputs, ElementsAre(InstanceReference{kClass, "9.2"}))
        << "what is kept is not asked for again";
    answer(second->transaction_uid, {"9.2"});
    EXPECT_EQ(state(key), StudyState::Done);
}

TEST_F(CommitmentTest, ADestinationThatNeverHasItIsAskedAtGrowingPausesAndThenGivenUp) {
    const std::string key = add_sent_study(1);
    int rounds = 0;
    while (state(key) == StudyState::Sending && rounds < 1000) {
        clock.advance(minutes(5));
        if (auto asked = ask()) {
            ++rounds;
            answer(asked->transaction_uid, {}, {{"9.1", 0x0112}});
        }
        if (auto again = must(queue.claim_output("s", kLease, "pacs"))) must(queue.output_sent(*again, "", true));
    }
    EXPECT_EQ(state(key), StudyState::SetAside);
    EXPECT_GT(rounds, 60);
    EXPECT_LT(rounds, 110) << "72 hours at pauses of at most an hour";
    EXPECT_THAT(row(key).last_error, HasSubstr("given up"));
}

TEST_F(CommitmentTest, FailuresForGoodAreSetAsideAndOthersAskedAgain) {
    const std::string key = add_sent_study(4);
    ASSERT_TRUE(ask());
    answer("1.9.1", {}, {{"9.1", 0x0119}, {"9.2", 0x0122}, {"9.3", 0x0110}});  // and 9.4 is left out
    EXPECT_THAT(output_states(key), ElementsAre("set_aside", "set_aside", "sent", "sent"));
    EXPECT_THAT(commitments(key), ElementsAre("none", "none", "wanted", "wanted"));
    EXPECT_EQ(ask(), std::nullopt);
    clock.advance(minutes(1));
    const auto again = ask();
    ASSERT_TRUE(again);
    EXPECT_EQ(again->outputs.size(), 2U);
    answer(again->transaction_uid, {"9.3", "9.4"});
    EXPECT_EQ(state(key), StudyState::SetAside);
    must(queue.retry(key));
    EXPECT_THAT(output_states(key), ElementsAre("waiting", "waiting", "sent", "sent"));
}

TEST_F(CommitmentTest, SilenceIsFollowedByAnotherRequestAndALateAnswerStillCounts) {
    const std::string key = add_sent_study();
    ASSERT_TRUE(ask());
    clock.advance(minutes(9));
    EXPECT_EQ(ask(), std::nullopt);
    clock.advance(minutes(2));
    EXPECT_EQ(ask(), std::nullopt) << "the silence is noted, and a pause begins";
    EXPECT_THAT(events(key), Contains("not_committed"));
    EXPECT_THAT(row(key).last_error, HasSubstr("no answer"));
    clock.advance(minutes(1));
    const auto again = ask();
    ASSERT_TRUE(again);
    EXPECT_EQ(again->attempt, 2);
    EXPECT_NE(again->transaction_uid, "1.9.1");
    EXPECT_EQ(answer("1.9.1", {"9.1", "9.2"}), AnswerOutcome::Taken) << "of the first request";
    EXPECT_EQ(state(key), StudyState::Done);
    EXPECT_EQ(answer(again->transaction_uid, {}, {{"9.1", 0x0112}}), AnswerOutcome::Taken);
    EXPECT_EQ(state(key), StudyState::Done) << "a promise is not taken back";
}

TEST_F(CommitmentTest, AFailureOfAnOlderRequestChangesNothing) {
    const std::string key = add_sent_study(1);
    ASSERT_TRUE(ask());
    clock.advance(minutes(11));
    ASSERT_EQ(ask(), std::nullopt);
    clock.advance(minutes(1));
    const auto again = ask();
    ASSERT_TRUE(again);
    answer("1.9.1", {}, {{"9.1", 0x0112}});
    EXPECT_THAT(output_states(key), ElementsAre("sent"));
    EXPECT_THAT(commitments(key), ElementsAre("asked"));
    answer(again->transaction_uid, {"9.1"});
    EXPECT_EQ(state(key), StudyState::Done);
}

TEST_F(CommitmentTest, ARequestThatDoesNotArriveIsMadeAgainOneThatIsRefusedIsSetAside) {
    const std::string key = add_sent_study(1);
    auto asked = ask();
    must(queue.commitment_not_asked(*asked, retry_error("no connection: Connection refused")));
    EXPECT_THAT(row(key).last_error, HasSubstr("Connection refused"));
    EXPECT_TRUE(row(key).next_try.has_value());
    EXPECT_EQ(ask(), std::nullopt);
    clock.advance(minutes(1));
    asked = ask();
    ASSERT_TRUE(asked);
    must(queue.commitment_not_asked(*asked, reject_error("not authorised")));
    EXPECT_EQ(state(key), StudyState::SetAside);
    EXPECT_THAT(row(key).last_error, HasSubstr("not authorised"));
    must(queue.retry(key));
    must(queue.output_sent(claim_output("pacs"), "", true));
    asked = ask();
    ASSERT_TRUE(asked) << "after a retry it is sent and asked for anew";
    answer(asked->transaction_uid, {"9.1"});
    EXPECT_EQ(state(key), StudyState::Done);
}

TEST_F(CommitmentTest, WhereItIsNotOfferedOrNotWantedSentIsEnough) {
    const std::string key = add_sent_study();
    must(queue.commitment_not_offered(*ask(), "no presentation context was accepted"));
    EXPECT_EQ(state(key), StudyState::Done);
    EXPECT_THAT(commitments(key), ElementsAre("not_offered", "not_offered"));

    const std::string other = add_sent_study(1, "2");
    EXPECT_EQ(state(other), StudyState::Sending);
    must(queue.commitment_not_wanted("elsewhere"));
    EXPECT_EQ(state(other), StudyState::Sending);
    must(queue.commitment_not_wanted("pacs"));
    EXPECT_EQ(state(other), StudyState::Done);
}

TEST_F(CommitmentTest, EachDestinationKeepsItsOwn) {
    const std::string key = add_sending_study("1", {make_output("9.1")}, {"pacs", "archive"});
    must(queue.output_sent(claim_output("pacs"), "", true));
    must(queue.output_sent(claim_output("archive"), "", true));
    const auto asked = ask();
    const auto other = must(queue.ask_commitment("archive", "ARCHIVE", "1.8.1", minutes(10), policy_));
    ASSERT_TRUE(asked && other);
    answer(asked->transaction_uid, {"9.1"});
    EXPECT_EQ(state(key), StudyState::Sending);
    answer("1.8.1", {"9.1"}, {}, "ARCHIVE");
    EXPECT_EQ(state(key), StudyState::Done);
}

TEST_F(CommitmentTest, RetentionNeverTakesWhatIsNotCommitted) {
    const std::string key = add_sent_study();
    ASSERT_TRUE(ask());
    clock.advance(hours(10'000));
    EXPECT_THAT(must(queue.finished_studies(Milliseconds(0))), IsEmpty());
    EXPECT_EQ(must(queue.remove_study(key)), std::nullopt);
    answer("1.9.1", {"9.1", "9.2"});
    EXPECT_THAT(must(queue.finished_studies(Milliseconds(0))), ElementsAre(key));
    EXPECT_TRUE(must(queue.remove_study(key)).has_value());
    EXPECT_EQ(answer("1.9.1", {"9.1"}), AnswerOutcome::Unknown) << "gone with its study";
}

TEST_F(CommitmentTest, OutputsOfAnOutdatedRevisionAreNotAskedForAndTheNewOnesSayWhatTheyReplace) {
    const std::string key = add_sent_study();
    ASSERT_TRUE(ask());
    add(make_instance("1", "1", 99));
    EXPECT_EQ(row(key).revision, 2);
    clock.advance(hours(1));
    EXPECT_EQ(ask(), std::nullopt);
    must(queue.force_complete(key));
    const ClaimedStudy claimed = claim();
    EXPECT_EQ(claimed.replaces.size(), 2U);
    must(queue.finish_study(claimed, {"found", "{}"}, std::vector{make_output("8.1")},
                            std::vector<std::string>{"pacs"}));
    must(queue.output_sent(claim_output("pacs"), "", true));
    const auto asked = ask();
    ASSERT_TRUE(asked);
    EXPECT_THAT(asked->outputs, ElementsAre(InstanceReference{kClass, "8.1"}));
    answer("1.9.1", {"9.1", "9.2"});
    EXPECT_EQ(state(key), StudyState::Sending) << "news of the old revision is none of the new one";
    answer(asked->transaction_uid, {"8.1"});
    EXPECT_EQ(state(key), StudyState::Done);
}
