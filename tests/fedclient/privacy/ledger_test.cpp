#include "fedclient/privacy/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using ::testing::HasSubstr;

// Computed by other code with lgamma and log-sum-exp, to four digits.
TEST(Epsilon, AgreesWithTheAccountantsTestVectors) {
    EXPECT_NEAR(epsilon_of(256.0 / 60000, 1.1, 14062, 1e-5), 2.597, 0.0005);
    EXPECT_NEAR(epsilon_of(1, 4, 30, 1e-3), 5.303, 0.0005);
    EXPECT_NEAR(epsilon_of(0.05, 1.0, 600, 1e-3), 6.856, 0.0005);
    EXPECT_NEAR(epsilon_of(0.05, 2.0, 600, 1e-3), 2.199, 0.0005);
    EXPECT_NEAR(epsilon_of(0.05, 0.6, 600, 1e-3), 27.73, 0.005);
}

TEST(Epsilon, GrowsWithStepsAndRateAndShrinksWithNoise) {
    EXPECT_LT(epsilon_of(0.1, 2, 10, 1e-3), epsilon_of(0.1, 2, 20, 1e-3));
    EXPECT_LT(epsilon_of(0.1, 2, 10, 1e-3), epsilon_of(0.2, 2, 10, 1e-3));
    EXPECT_LT(epsilon_of(0.1, 2, 10, 1e-3), epsilon_of(0.1, 1, 10, 1e-3));
    EXPECT_NEAR(epsilon_of(1, 2, 10, 1e-3), epsilon_of(1 - 1e-12, 2, 10, 1e-3), 1e-6);
}

TEST(Epsilon, IsInfiniteWithoutNoiseAndNothingWithoutSteps) {
    EXPECT_TRUE(std::isinf(epsilon_of(1, 0, 1, 1e-3)));
    EXPECT_TRUE(std::isinf(epsilon_of(1, std::nan(""), 1, 1e-3)));
    EXPECT_TRUE(std::isinf(epsilon_of(2, 1, 1, 1e-3)));
    EXPECT_TRUE(std::isinf(epsilon_of(1, 1, 1, 0)));
    EXPECT_EQ(epsilon_of(1, 1, 0, 1e-3), 0);
    EXPECT_EQ(epsilon_of(0, 1, 5, 1e-3), 0);
}

class LedgerFile : public ::testing::Test {
protected:
    static LedgerEntry night(int n, double z = 4) {
        return {"heart", "message-" + std::to_string(n), n, z, "2026-11-28T01:00:00.000Z"};
    }
    std::filesystem::path file() const { return folder / "ledger"; }
    std::string text() const {
        std::ifstream in(file(), std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    void put(const std::string& bytes) const { std::ofstream(file(), std::ios::binary) << bytes; }
    Ledger open() const {
        auto ledger = Ledger::open(file());
        EXPECT_TRUE(ledger.ok()) << ledger.error().message;
        return std::move(ledger).value();
    }
    cardionode::test::TemporaryFolder folder;
};

TEST_F(LedgerFile, SumsItsNightsAsTheAccountantDoes) {
    Ledger ledger = open();
    EXPECT_EQ(ledger.spent(1e-3), 0);
    for (int n = 1; n <= 30; ++n) ASSERT_TRUE(ledger.book(night(n), 0, 1e-3).ok());
    EXPECT_NEAR(ledger.spent(1e-3), 5.303, 0.0005);
    ASSERT_TRUE(ledger.book(night(31, 1), 0, 1e-3).ok());
    EXPECT_GT(ledger.spent(1e-3), 6);
    ASSERT_TRUE(ledger.book(night(32, 0), 0, 1e-3).ok());
    EXPECT_TRUE(std::isinf(ledger.spent(1e-3)));
}

TEST_F(LedgerFile, IsOnDiskWhenBookReturns) {
    Ledger ledger = open();
    LedgerEntry odd = night(1, 0.1);
    odd.model_id = "a \"model\"\n\xff";
    odd.content = "00ff";
    ASSERT_TRUE(ledger.book(odd, 0, 1e-3).ok());
    ASSERT_TRUE(ledger.book(night(2), 0, 1e-3).ok());
    const Ledger again = open();
    ASSERT_EQ(again.entries().size(), 2u);
    EXPECT_EQ(again.entries()[0].noise_multiplier, 0.1);
    EXPECT_EQ(again.entries()[0].content, "00ff");
    EXPECT_EQ(again.entries()[1].message_id, "message-2");
    EXPECT_EQ(again.entries()[1].round, 2);
    EXPECT_EQ(again.entries()[1].at, "2026-11-28T01:00:00.000Z");
    EXPECT_EQ(again.spent(1e-3), ledger.spent(1e-3));
}

TEST_F(LedgerFile, MessageIsBookedOnceHoweverOftenItIsSent) {
    Ledger ledger = open();
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(ledger.book(night(1), 0, 1e-3).ok());
    EXPECT_EQ(ledger.entries().size(), 1u);
    Ledger again = open();
    ASSERT_TRUE(again.book(night(1), 0, 1e-3).ok());
    EXPECT_EQ(open().entries().size(), 1u);
}

TEST_F(LedgerFile, OtherBytesOrLessNoiseUnderTheSameMessageAreBookedAgain) {
    Ledger ledger = open();
    LedgerEntry entry = night(1);
    entry.content = "aa";
    ASSERT_TRUE(ledger.book(entry, 0, 1e-3).ok());
    entry.content = "bb";
    ASSERT_TRUE(ledger.book(entry, 0, 1e-3).ok());
    entry.noise_multiplier = 2;
    ASSERT_TRUE(ledger.book(entry, 0, 1e-3).ok());
    EXPECT_EQ(ledger.entries().size(), 3u);
}

TEST_F(LedgerFile, BudgetStopsTheNightThatWouldExceedIt) {
    Ledger ledger = open();
    int nights = 0;
    while (ledger.book(night(nights + 1), 3, 1e-3).ok()) ASSERT_LT(++nights, 100);
    EXPECT_GT(nights, 5);
    EXPECT_LE(ledger.spent(1e-3), 3);
    EXPECT_GT(epsilon_of(1, 4, nights + 1, 1e-3), 3);
    const auto refused = ledger.book(night(nights + 1), 3, 1e-3);
    EXPECT_EQ(refused.error().kind, ErrorKind::Reject);
    EXPECT_THAT(refused.error().message, HasSubstr("budget of 3 does not suffice"));
    EXPECT_EQ(static_cast<int>(open().entries().size()), nights);
    // What is booked already may be sent again.
    EXPECT_TRUE(ledger.book(night(nights), 3, 1e-3).ok());
}

TEST_F(LedgerFile, BudgetCannotHoldWithoutNoise) {
    Ledger ledger = open();
    const auto refused = ledger.book(night(1, 0), 1000, 1e-3);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message, HasSubstr("without noise has no bound"));
    EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(LedgerFile, NonsenseIsNotBooked) {
    Ledger ledger = open();
    EXPECT_EQ(ledger.book(night(1, -1), 0, 1e-3).error().kind, ErrorKind::Bug);
    EXPECT_EQ(ledger.book(night(1, std::nan("")), 0, 1e-3).error().kind, ErrorKind::Bug);
    EXPECT_EQ(ledger.book({}, 0, 1e-3).error().kind, ErrorKind::Bug);
    EXPECT_EQ(ledger.book(night(1), -1, 1e-3).error().kind, ErrorKind::Config);
    EXPECT_EQ(ledger.book(night(1), 1, 1).error().kind, ErrorKind::Config);
    EXPECT_TRUE(ledger.entries().empty());
}

TEST_F(LedgerFile, NightThatCannotBeWrittenIsNotBooked) {
    Ledger ledger = Ledger::open(folder / "none" / "ledger").value();
    const auto failed = ledger.book(night(1), 0, 1e-3);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().kind, ErrorKind::Config);
    EXPECT_TRUE(ledger.entries().empty());
}

TEST_F(LedgerFile, CutOrChangedAnywhereIsAnErrorThatSaysWhatToDo) {
    {
        Ledger ledger = open();
        for (int n = 1; n <= 3; ++n) ASSERT_TRUE(ledger.book(night(n), 0, 1e-3).ok());
    }
    const std::string whole = text();
    for (std::size_t length = 0; length < whole.size(); ++length) {
        if (length > 0 && whole[length - 1] == '\n') continue;  // whole lines: a loss of the last ones cannot be seen
        put(whole.substr(0, length));
        const auto cut = Ledger::open(file());
        ASSERT_FALSE(cut.ok()) << length;
        ASSERT_EQ(cut.error().kind, ErrorKind::Config) << length;
        ASSERT_THAT(cut.error().message, HasSubstr("Restore the file from a backup")) << length;
    }
    for (std::size_t at = 0; at < whole.size(); ++at) {
        std::string changed = whole;
        changed[at] = changed[at] == '4' ? '9' : '4';
        put(changed);
        ASSERT_FALSE(Ledger::open(file()).ok()) << at;
    }
    const auto second = whole.find('\n', whole.find('\n') + 1) + 1;
    put(whole.substr(0, whole.find('\n') + 1) + whole.substr(second));
    const auto lost = Ledger::open(file());
    ASSERT_FALSE(lost.ok());
    EXPECT_THAT(lost.error().message, HasSubstr("ledger:2: the line was changed, or one before it is missing"));
}

// A crash before the rename leaves the old ledger and a temporary file, which is not a ledger: the night was not
// booked, and so was not sent either. After the rename the night stands there, sent or not.
TEST_F(LedgerFile, PowerCutInTheMiddleLeavesTheOldLedger) {
    {
        Ledger ledger = open();
        ASSERT_TRUE(ledger.book(night(1), 0, 1e-3).ok());
    }
    std::ofstream(folder / ".ledger.Xa81bQ") << text().substr(0, 60);
    Ledger ledger = open();
    EXPECT_EQ(ledger.entries().size(), 1u);
    ASSERT_TRUE(ledger.book(night(2), 0, 1e-3).ok());
    EXPECT_EQ(open().entries().size(), 2u);
}

}  // namespace
}  // namespace cardionode::fed
