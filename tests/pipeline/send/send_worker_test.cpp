#include "pipeline/send/send_worker.h"

#include <chrono>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pipeline/send/sending_fixture.h"
#include "tests/support/free_port.h"
#include "tests/support/process.h"

using namespace cardionode;
using namespace cardionode::test;
using namespace std::chrono_literals;

TEST_F(Sending, AllOutputsOfAStudyMakeItDone) {
    finish_study({"pacs1"}, 3);
    Peer pacs(Manner::Answer);
    auto sender = worker("pacs1", pacs.port());
    for (int o = 0; o < 3; ++o) EXPECT_TRUE(*sender.send_next());
    EXPECT_FALSE(*sender.send_next());
    EXPECT_EQ(pacs.stored(), 3);
    EXPECT_EQ(study().state, StudyState::Done);
}

TEST_F(Sending, AFailureWaitsAndThenTheSameInstanceIsSentAgain) {
    finish_study({"pacs1"}, 1);
    Peer pacs(Manner::RejectForNow);
    auto sender = worker("pacs1", pacs.port());
    EXPECT_TRUE(*sender.send_next());
    EXPECT_FALSE(*sender.send_next()) << "the pause must pass first";
    EXPECT_EQ(outputs()[0].state, "waiting");
    EXPECT_THAT(outputs()[0].last_error, testing::HasSubstr("pacs1 (PACS at 127.0.0.1:"));
    pacs.set_manner(Manner::Answer);
    clock_.advance(60s);
    EXPECT_TRUE(*sender.send_next());
    EXPECT_EQ(pacs.stored(), 1);
    EXPECT_EQ(study().state, StudyState::Done);
}

TEST_F(Sending, ARefusedOutputIsSetAsideAndTheOthersGoOn) {
    finish_study({"pacs1"}, 2);
    Peer pacs(Manner::NoContext);
    auto sender = worker("pacs1", pacs.port());
    EXPECT_TRUE(*sender.send_next());
    pacs.set_manner(Manner::Answer);
    EXPECT_TRUE(*sender.send_next());
    clock_.advance(1h);
    EXPECT_FALSE(*sender.send_next()) << "no storm: what was set aside stays so";
    EXPECT_EQ(pacs.stored(), 1);
    EXPECT_EQ(study().outputs_set_aside, 1);
    EXPECT_EQ(study().outputs_sent, 1);
}

TEST_F(Sending, ADestinationThatIsDownDelaysNoOther) {
    finish_study({"dead", "alive"}, 4);
    Peer dead(Manner::SayNothing), alive(Manner::Answer);
    auto to_dead = worker("dead", dead.port());
    auto to_alive = worker("alive", alive.port());
    std::jthread first([&](const std::stop_token& stop) { to_dead.run(stop); });
    std::jthread second([&](const std::stop_token& stop) { to_alive.run(stop); });
    EXPECT_TRUE(eventually(5s, [&] { return alive.stored() == 4; }));
    EXPECT_EQ(dead.stored(), 0);
    EXPECT_NE(study().state, StudyState::Done);
}

TEST_F(Sending, AfterACrashBetweenAnswerAndReportTheSameInstanceIsSentOnceMore) {
    finish_study({"pacs1"}, 1);
    {
        // What a killed sender leaves behind: a claim that nobody reports.
        auto queue = Queue::open(database_, clock_);
        ASSERT_TRUE(*queue->claim_output("sender-pacs1", 120s, "pacs1"));
    }
    Peer pacs(Manner::Answer, 0x0111);
    auto sender = worker("pacs1", pacs.port());  // takes over at once, without waiting for the lease
    EXPECT_TRUE(*sender.send_next());
    EXPECT_EQ(outputs()[0].note, "already there (status 0x0111)");
    EXPECT_EQ(study().state, StudyState::Done);
}

TEST_F(Sending, AMissingFileIsSetAside) {
    finish_study({"pacs1"}, 1);
    std::filesystem::remove(folder_ / "out1_0");
    Peer pacs(Manner::Answer);
    EXPECT_TRUE(*worker("pacs1", pacs.port()).send_next());
    EXPECT_EQ(outputs()[0].state, "set_aside");
    EXPECT_THAT(outputs()[0].last_error, testing::HasSubstr("cannot be read"));
}

TEST(LeaseKeeper, RenewsUntilReleasedAndTellsALoss) {
    TemporaryFolder folder;
    auto keeper = LeaseKeeper::start(folder / "queue.db", 10ms);
    ASSERT_TRUE(keeper) << keeper.error().message;
    std::atomic<int> calls{0};
    (*keeper)->hold([&](Queue&) -> Result<bool> {
        ++calls;
        return true;
    });
    EXPECT_TRUE(eventually(5s, [&] { return calls >= 3; }));
    EXPECT_FALSE((*keeper)->lost());
    (*keeper)->release();
    const int after = calls;
    std::this_thread::sleep_for(50ms);
    EXPECT_EQ(calls, after);

    (*keeper)->hold([](Queue&) -> Result<bool> { return retry_error("database is busy"); });
    std::this_thread::sleep_for(50ms);
    EXPECT_FALSE((*keeper)->lost()) << "a busy queue is no loss";
    (*keeper)->hold([](Queue&) -> Result<bool> { return false; });
    EXPECT_TRUE(eventually(5s, [&] { return (*keeper)->lost(); }));
    (*keeper)->hold([](Queue&) -> Result<bool> { return true; });
    EXPECT_FALSE((*keeper)->lost());
}
