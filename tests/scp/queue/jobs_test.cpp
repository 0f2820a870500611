#include "scp/queue/session.h"
#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::ElementsAre;
using testing::HasSubstr;

class Claims : public QueueTest {};
class Outbox : public QueueTest {};
class Retry : public QueueTest {};

namespace {
const std::string kPacs = "pacs";
}

TEST_F(Claims, AnEmptyQueueGivesNothing) { EXPECT_EQ(must(queue.claim_study("w", kLease)), std::nullopt); }

TEST_F(Claims, TheLongestWaitingStudyIsGivenOnceWithItsInstances) {
    const std::string first = add_ready_study("1", 3);
    clock.advance(seconds(1));
    const std::string second = add_ready_study("2", 2);
    const ClaimedStudy claimed = claim();
    EXPECT_EQ(claimed.study_key, first);
    EXPECT_EQ(claimed.study_instance_uid, "1.2.1");
    EXPECT_EQ(claimed.revision, 1);
    EXPECT_EQ(claimed.attempt, 1);
    EXPECT_EQ(claimed.instances.size(), 3U);
    EXPECT_TRUE(claimed.replaces.empty());
    EXPECT_EQ(state(first), StudyState::Processing);
    EXPECT_EQ(claim().study_key, second);
    EXPECT_EQ(must(queue.claim_study("w", kLease)), std::nullopt);
}

TEST_F(Claims, AHeartbeatKeepsTheStudyASilentWorkerLosesIt) {
    add_ready_study("1");
    const ClaimedStudy first = claim("first");
    clock.advance(seconds(119));
    EXPECT_TRUE(must(queue.renew_study(first, kLease)));
    clock.advance(seconds(119));
    EXPECT_EQ(must(queue.claim_study("second", kLease)), std::nullopt);
    clock.advance(seconds(1));
    const ClaimedStudy second = claim("second");
    EXPECT_EQ(second.attempt, 2);
    EXPECT_NE(second.lease_token, first.lease_token);
    EXPECT_FALSE(must(queue.renew_study(first, kLease)));
}

TEST_F(Claims, ALostLeaseStoresNothing) {
    const std::string key = add_ready_study("1");
    const ClaimedStudy lost = claim("first");
    clock.advance(kLease);
    const ClaimedStudy holder = claim("second");
    const OutputFile output = make_output("9.1");
    EXPECT_FALSE(must(queue.finish_study(lost, {"from the dead", "{}"}, {&output, 1}, {&kPacs, 1})));
    EXPECT_FALSE(must(queue.fail_study(lost, bug_error("from the dead"), {})));
    EXPECT_FALSE(must(queue.release_study(lost)));
    EXPECT_EQ(state(key), StudyState::Processing);
    EXPECT_EQ(row(key).outcome, "");
    EXPECT_TRUE(must(queue.outputs_of(key)).empty());
    EXPECT_TRUE(must(queue.finish_study(holder, {"alive", "{}"}, {&output, 1}, {&kPacs, 1})));
    EXPECT_FALSE(must(queue.finish_study(holder, {"twice", "{}"}, {&output, 1}, {&kPacs, 1})));
    EXPECT_EQ(row(key).outcome, "alive");
}

TEST_F(Claims, ALeaseThatRanOutButThatNobodyTookIsStillHeld) {
    const std::string key = add_ready_study("1");
    const ClaimedStudy claimed = claim();
    clock.advance(hours(1));
    EXPECT_TRUE(must(queue.finish_study(claimed, {"late but alone", "{}"}, {}, {})));
    EXPECT_EQ(state(key), StudyState::Done);
}

TEST_F(Claims, AStudyThatSilencesItsWorkersIsSetAside) {
    const std::string key = add_ready_study("1");
    const std::string other = add_ready_study("2");
    for (int i = 1; i <= 3; ++i) {
        auto claimed = must(queue.claim_study("w", kLease, 3));
        ASSERT_TRUE(claimed);
        EXPECT_EQ(claimed->study_key, key);
        auto second = must(queue.claim_study("w", kLease, 3));
        if (second) must(queue.finish_study(*second, {}, {}, {}));
        clock.advance(kLease);
    }
    EXPECT_EQ(must(queue.claim_study("w", kLease, 3)), std::nullopt);
    EXPECT_EQ(state(key), StudyState::SetAside);
    EXPECT_THAT(row(key).last_error, HasSubstr("went silent"));
    EXPECT_EQ(state(other), StudyState::Done);
}

TEST_F(Claims, AStudyGivenBackIsNotCountedAsATry) {
    add_ready_study("1");
    EXPECT_TRUE(must(queue.release_study(claim())));
    EXPECT_EQ(claim().attempt, 1);
}

TEST_F(Claims, ARestartedWorkerTakesItsWorkBackAtOnceAndOnlyItsOwn) {
    const std::string mine = add_ready_study("1");
    claim("gpu1");
    const std::string others = add_ready_study("2");
    claim("gpu2");
    EXPECT_EQ(must(queue.take_over("gpu1")), 1);
    EXPECT_EQ(claim("gpu1").study_key, mine);
    EXPECT_EQ(must(queue.claim_study("gpu1", kLease)), std::nullopt);
    EXPECT_EQ(state(others), StudyState::Processing);
}

TEST_F(Claims, ARetryErrorPausesAndDoublesThePauseUntilTheLastTry) {
    const std::string key = add_ready_study("1");
    const RetryPolicy policy{.first = seconds(30), .longest = seconds(100), .max_attempts = 5};
    const std::vector<Milliseconds> pauses = {seconds(30), seconds(60), seconds(100), seconds(100)};
    for (const Milliseconds pause : pauses) {
        must(queue.fail_study(claim(), retry_error("GPU memory full"), policy));
        const StudyRow study = row(key);
        EXPECT_EQ(study.state, StudyState::Ready);
        EXPECT_EQ(study.last_error, "GPU memory full");
        ASSERT_TRUE(study.next_try);
        const Milliseconds wait = *study.next_try - clock.now();
        EXPECT_GE(wait, pause * 8 / 10 - Milliseconds(1));
        EXPECT_LE(wait, pause * 12 / 10);
        clock.advance(wait - Milliseconds(1));
        EXPECT_EQ(must(queue.claim_study("w", kLease)), std::nullopt);
        clock.advance(Milliseconds(1));
    }
    must(queue.fail_study(claim(), retry_error("GPU memory full"), policy));
    EXPECT_EQ(state(key), StudyState::SetAside);
    EXPECT_THAT(row(key).outcome, HasSubstr("GPU memory full (given up after 5 tries)"));
}

TEST_F(Claims, AFailingStudyDoesNotHoldUpOthers) {
    const std::string bad = add_ready_study("1");
    must(queue.fail_study(claim(), retry_error("later"), {}));
    const std::string good = add_ready_study("2");
    EXPECT_EQ(claim().study_key, good);
    EXPECT_EQ(state(bad), StudyState::Ready);
}

TEST_F(Claims, RejectConfigAndBugAreSetAsideAtOnceWithTheReason) {
    int n = 0;
    for (const ErrorKind kind : {ErrorKind::Reject, ErrorKind::Config, ErrorKind::Bug}) {
        const std::string key = add_ready_study(std::to_string(++n));
        must(queue.fail_study(claim(), {kind, "12 slices, 40 are needed"}, {}));
        EXPECT_EQ(state(key), StudyState::SetAside);
        EXPECT_EQ(row(key).outcome, "12 slices, 40 are needed");
        EXPECT_EQ(row(key).last_error, "12 slices, 40 are needed");
    }
    EXPECT_EQ(must(queue.claim_study("w", kLease)), std::nullopt);
}

TEST_F(Claims, GivesUpAfterThePolicysTime) {
    const std::string key = add_ready_study("1");
    const RetryPolicy policy{.first = seconds(1), .longest = seconds(1), .max_attempts = 0, .give_up_after = hours(1)};
    must(queue.fail_study(claim(), retry_error("x"), policy));
    EXPECT_EQ(state(key), StudyState::Ready);
    clock.advance(hours(1));
    must(queue.fail_study(claim(), retry_error("x"), policy));
    EXPECT_EQ(state(key), StudyState::SetAside);
}

TEST(RetryPause, StaysWithinItsBoundsAndIsSpread) {
    const RetryPolicy policy{.first = seconds(10), .longest = hours(1)};
    EXPECT_EQ(pause_for(policy, 1, 1.0), seconds(10));
    EXPECT_EQ(pause_for(policy, 4, 1.0), seconds(80));
    EXPECT_EQ(pause_for(policy, 1, 0.8), seconds(8));
    EXPECT_EQ(pause_for(policy, 1, 1.2), seconds(12));
    EXPECT_EQ(pause_for(policy, 1000, 1.0), hours(1)) << "no overflow";
}

TEST_F(Claims, FinishWithoutADestinationIsDoneAtOnceAndSaysSo) {
    const std::string key = add_ready_study("1");
    const OutputFile output = make_output("9.1");
    must(queue.finish_study(claim(), {"7 of 7 landmarks", "{}"}, {&output, 1}, {}));
    EXPECT_EQ(state(key), StudyState::Done);
    EXPECT_THAT(row(key).outcome, HasSubstr("no destination is set"));
    EXPECT_THAT(output_states(key), ElementsAre("kept"));
}

TEST_F(Claims, FinishRefusesOutputsThatShareAUid) {
    const std::string key = add_ready_study("1");
    const ClaimedStudy claimed = claim();
    const std::vector<OutputFile> twins = {make_output("9.1"), make_output("9.1", "SR")};
    EXPECT_EQ(queue.finish_study(claimed, {}, twins, {&kPacs, 1}).error().kind, ErrorKind::Bug);
    EXPECT_TRUE(must(queue.outputs_of(key)).empty()) << "half of it is stored";
    EXPECT_TRUE(must(queue.fail_study(claimed, bug_error("x"), {}))) << "the claim is still good";

    add_sending_study("2", {make_output("9.7")}, {kPacs});
    add_ready_study("3");
    const OutputFile stolen = make_output("9.7");
    EXPECT_EQ(queue.finish_study(claim(), {}, {&stolen, 1}, {&kPacs, 1}).error().kind, ErrorKind::Bug);
}

TEST_F(Outbox, OneRowPerOutputAndDestinationInOrder) {
    const std::string key = add_sending_study("1", {make_output("9.1"), make_output("9.2", "SR")}, {"pacs", "archive"});
    EXPECT_EQ(state(key), StudyState::Sending);
    EXPECT_EQ(row(key).outputs_total, 4);
    const std::string other = add_sending_study("2", {make_output("8.1")}, {"pacs"});
    std::vector<std::string> order;
    while (auto output = must(queue.claim_output("s", kLease))) {
        order.push_back(output->output.sop_instance_uid + ">" + output->destination);
        EXPECT_EQ(output->attempt, 1);
        EXPECT_TRUE(must(queue.output_sent(*output, "")));
    }
    EXPECT_THAT(order, ElementsAre("9.1>pacs", "9.1>archive", "9.2>pacs", "9.2>archive", "8.1>pacs"));
    EXPECT_EQ(state(key), StudyState::Done);
    EXPECT_EQ(state(other), StudyState::Done);
    EXPECT_EQ(row(key).outputs_sent, 4);
}

TEST_F(Outbox, TheLastOutputSentMakesTheStudyDone) {
    const std::string key = add_sending_study("1", {make_output("9.1"), make_output("9.2")}, {kPacs});
    must(queue.output_sent(claim_output(), ""));
    EXPECT_EQ(state(key), StudyState::Sending);
    must(queue.output_sent(claim_output(), "0x0111: already there"));
    EXPECT_EQ(state(key), StudyState::Done);
    EXPECT_EQ(must(queue.outputs_of(key)).at(1).note, "0x0111: already there");
}

TEST_F(Outbox, ABlockedOutputDelaysNoOther) {
    const std::string key = add_sending_study("1", {make_output("9.1"), make_output("9.2")}, {"dead", "alive"});
    const RetryPolicy policy{.first = seconds(10), .max_attempts = 0};
    must(queue.output_failed(claim_output("dead"), retry_error("connection refused"), policy));
    must(queue.output_failed(claim_output("dead"), reject_error("0x0122: SOP class not supported"), policy));
    must(queue.output_sent(claim_output(), ""));
    must(queue.output_sent(claim_output(), ""));
    EXPECT_EQ(must(queue.claim_output("s", kLease)), std::nullopt);
    EXPECT_EQ(state(key), StudyState::Sending) << "one still waits for its next try";
    EXPECT_EQ(row(key).outputs_set_aside, 1);
    EXPECT_THAT(row(key).last_error, HasSubstr("SEG to dead: connection refused"));
    ASSERT_TRUE(row(key).next_try);
    clock.advance(*row(key).next_try - clock.now());
    must(queue.output_sent(claim_output(), ""));
    EXPECT_EQ(state(key), StudyState::SetAside) << "everything is settled, one output needs a person";
}

TEST_F(Outbox, GivesUpAfterThePolicysTimeAndRetryStartsItAnew) {
    const std::string key = add_sending_study("1", {make_output("9.1")}, {kPacs});
    const RetryPolicy policy{.first = seconds(10), .max_attempts = 0, .give_up_after = hours(72)};
    clock.advance(hours(71));
    must(queue.output_failed(claim_output(), retry_error("no answer"), policy));
    clock.advance(hours(1));
    must(queue.output_failed(claim_output(), retry_error("no answer"), policy));
    EXPECT_EQ(state(key), StudyState::SetAside);
    must(queue.retry(key));
    EXPECT_EQ(state(key), StudyState::Sending) << "the result is there, nothing is computed again";
    const ClaimedOutput again = claim_output();
    EXPECT_EQ(again.attempt, 1);
    must(queue.output_failed(again, retry_error("no answer"), policy));
    EXPECT_EQ(state(key), StudyState::Sending);
}

TEST_F(Outbox, ALostLeaseIsGivenToAnotherAndStoresNothing) {
    const std::string key = add_sending_study("1", {make_output("9.1")}, {kPacs});
    const ClaimedOutput lost = claim_output();
    clock.advance(seconds(119));
    EXPECT_TRUE(must(queue.renew_output(lost, kLease)));
    clock.advance(kLease);
    const ClaimedOutput holder = claim_output();
    EXPECT_EQ(holder.attempt, 2);
    EXPECT_FALSE(must(queue.renew_output(lost, kLease)));
    EXPECT_FALSE(must(queue.output_sent(lost, "")));
    EXPECT_FALSE(must(queue.output_failed(lost, bug_error("x"), {})));
    EXPECT_FALSE(must(queue.release_output(lost)));
    EXPECT_EQ(state(key), StudyState::Sending);
    EXPECT_TRUE(must(queue.release_output(holder)));
    EXPECT_EQ(claim_output().attempt, 2);
}

TEST_F(Outbox, AnOutputThatSilencesItsSenderIsSetAsideInTheEnd) {
    const std::string key = add_sending_study("1", {make_output("9.1")}, {kPacs});
    int tries = 0;
    while (must(queue.claim_output("s", kLease)) && tries < 100) {
        ++tries;
        clock.advance(kLease);
    }
    EXPECT_EQ(tries, 10);
    EXPECT_EQ(state(key), StudyState::SetAside);
}

TEST_F(Retry, PutsAStudyThatWasSetAsideBackWithFreshTries) {
    const std::string key = add_ready_study("1");
    must(queue.fail_study(claim(), reject_error("no contrast agent"), {}));
    must(queue.retry(key));
    EXPECT_EQ(state(key), StudyState::Ready);
    EXPECT_EQ(row(key).last_error, "");
    EXPECT_EQ(claim().attempt, 1);
    EXPECT_EQ(row(key).revision, 1);
}

TEST_F(Retry, EndsThePauseOfAWaitingStudy) {
    const std::string key = add_ready_study("1");
    must(queue.fail_study(claim(), retry_error("x"), {}));
    EXPECT_EQ(must(queue.claim_study("w", kLease)), std::nullopt);
    must(queue.retry(key));
    EXPECT_EQ(claim().study_key, key);
}

TEST_F(Retry, RefusesWhatDoesNotFit) {
    const std::string key = add_series("1", "1", 1);
    EXPECT_THAT(queue.retry(key).error().message, HasSubstr("still being received"));
    must(queue.force_complete(key));
    const ClaimedStudy claimed = claim();
    EXPECT_THAT(queue.retry(key).error().message, HasSubstr("busy"));
    must(queue.finish_study(claimed, {}, {}, {}));
    EXPECT_THAT(queue.retry(key).error().message, HasSubstr("done"));
    EXPECT_EQ(queue.retry("S0000").error().kind, ErrorKind::Reject);
    EXPECT_EQ(state(key), StudyState::Done);
}

TEST_F(Retry, SentOutputsAreNotSentAgain) {
    const std::string key = add_sending_study("1", {make_output("9.1"), make_output("9.2")}, {kPacs});
    must(queue.output_sent(claim_output(), ""));
    must(queue.output_failed(claim_output(), reject_error("0xA900"), {}));
    EXPECT_EQ(state(key), StudyState::SetAside);
    must(queue.retry(key));
    EXPECT_EQ(claim_output().output.sop_instance_uid, "9.2");
    EXPECT_EQ(must(queue.claim_output("s", kLease)), std::nullopt);
}
