#include "models/train/statistics.h"

#include <gtest/gtest.h>

namespace cardionode::train {
namespace {

TEST(SignFlip, FiveGainsOfOneSignAreTheRarestPattern) {
    const SignFlip test = sign_flip_test({0.1, 0.3, 2, 0.7, 5});
    EXPECT_DOUBLE_EQ(test.mean, 1.62);
    EXPECT_DOUBLE_EQ(test.one_sided, 1.0 / 32);
    EXPECT_DOUBLE_EQ(test.two_sided, 2.0 / 32);
    const SignFlip losses = sign_flip_test({-0.1, -0.3, -2, -0.7, -5});
    EXPECT_DOUBLE_EQ(losses.one_sided, 1);
    EXPECT_DOUBLE_EQ(losses.two_sided, 2.0 / 32);
}

TEST(SignFlip, CountsThePatternsByHand) {
    // Sums of +-1 +-2 +-4 are the odd numbers from -7 to 7; seen: -1 + 2 + 4 = 5, reached by 5 and 7.
    const SignFlip test = sign_flip_test({-1, 2, 4});
    EXPECT_DOUBLE_EQ(test.one_sided, 2.0 / 8);
    EXPECT_DOUBLE_EQ(test.two_sided, 4.0 / 8);
}

TEST(SignFlip, RoundingDoesNotLoseThePatternThatWasSeen) {
    const SignFlip test = sign_flip_test({0.1, 0.2, 0.3, 0.1 + 0.2, 1e-17});
    EXPECT_GE(test.one_sided, 1.0 / 32);
    EXPECT_DOUBLE_EQ(sign_flip_test({0, 0, 0}).one_sided, 1);
}

TEST(SignFlip, RefusesWhatItCannotCount) {
    EXPECT_THROW(sign_flip_test({}), std::invalid_argument);
    EXPECT_THROW(sign_flip_test(std::vector<double>(21, 1.0)), std::invalid_argument);
}

}  // namespace
}  // namespace cardionode::train
