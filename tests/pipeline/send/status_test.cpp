#include "pipeline/send/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace cardionode;

TEST(StoreStatus, SuccessWarningsAndDuplicatesAreSent) {
    EXPECT_EQ(judge_store_status(0x0000).outcome, SendOutcome::Sent);
    EXPECT_TRUE(judge_store_status(0x0000).words.empty());
    EXPECT_EQ(judge_store_status(0x0111).outcome, SendOutcome::Sent);
    EXPECT_EQ(judge_store_status(0x0111).words, "already there (status 0x0111)");
    for (const int status : {0xB000, 0xB006, 0xB007, 0x0001, 0x0107, 0x0116}) {
        const auto verdict = judge_store_status(static_cast<std::uint16_t>(status));
        EXPECT_EQ(verdict.outcome, SendOutcome::Sent) << status;
        EXPECT_THAT(verdict.words, testing::HasSubstr("warning")) << status;
    }
}

TEST(StoreStatus, OutOfResourcesIsTriedAgain) {
    for (const int status : {0xA700, 0xA701, 0xA7FF, 0x0110, 0x0213}) {
        EXPECT_EQ(judge_store_status(static_cast<std::uint16_t>(status)).outcome, SendOutcome::Retry) << status;
    }
}

TEST(StoreStatus, RefusalsOfTheObjectAreSetAside) {
    for (const int status : {0xA800, 0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0122, 0x0124, 0x0117, 0x0211}) {
        EXPECT_EQ(judge_store_status(static_cast<std::uint16_t>(status)).outcome, SendOutcome::Park) << status;
    }
}

TEST(StoreStatus, AnUnknownStatusIsTriedAgainAndNamed) {
    const auto verdict = judge_store_status(0x1234);
    EXPECT_EQ(verdict.outcome, SendOutcome::Retry);
    EXPECT_THAT(verdict.words, testing::HasSubstr("0x1234"));
}

TEST(Rejection, OnlyAPermanentOneIsSetAside) {
    EXPECT_EQ(judge_rejection(1, 1, 7).outcome, SendOutcome::Park);
    EXPECT_THAT(judge_rejection(1, 1, 7).words, testing::HasSubstr("called AE title"));
    EXPECT_THAT(judge_rejection(1, 1, 3).words, testing::HasSubstr("calling AE title"));
    EXPECT_EQ(judge_rejection(2, 3, 2).outcome, SendOutcome::Retry);
    EXPECT_THAT(judge_rejection(2, 3, 2).words, testing::HasSubstr("local limit"));
}
