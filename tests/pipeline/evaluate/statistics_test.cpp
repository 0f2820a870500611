#include "pipeline/evaluate/statistics.h"

#include <cmath>

#include <gtest/gtest.h>

using namespace cardionode;

TEST(Quantile, InterpolatesBetweenOrderStatistics) {
    EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
    EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.25), 1.75);
    EXPECT_DOUBLE_EQ(quantile({7}, 0.95), 7);
    EXPECT_DOUBLE_EQ(quantile({1, 2, 3}, 1), 3);
    EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

TEST(Quantile, CountsAMissAsInfinitelyFar) {
    EXPECT_DOUBLE_EQ(quantile({1, 2, kMissed}, 0.5), 2);
    EXPECT_EQ(quantile({1, kMissed}, 0.5), kMissed);           // half of the points: no finite median
    EXPECT_EQ(quantile({1, kMissed, kMissed}, 0.5), kMissed);  // and no NaN from infinity minus infinity
    EXPECT_DOUBLE_EQ(quantile({1, 2, kMissed}, 0), 1);
}

TEST(ShareWithin, IsOfAllPointsMissesIncluded) {
    EXPECT_DOUBLE_EQ(share_within({1, 2, 4, kMissed}, 2), 0.5);
    EXPECT_TRUE(std::isnan(share_within({}, 2)));
}

TEST(Distribution, TellsTheMeanOfTheFoundOnesBesideTheMisses) {
    const Distribution d = distribution_of({{1, 3}, {kMissed, 5}}, 1);
    EXPECT_EQ(d.count, 4);
    EXPECT_EQ(d.infinite, 1);
    EXPECT_DOUBLE_EQ(d.mean, 3);
    EXPECT_DOUBLE_EQ(d.median, 4);
    EXPECT_EQ(d.max, kMissed);
}

TEST(BootstrapMedian, IsTheSameForTheSameSeedAndHoldsTheMedian) {
    std::vector<std::vector<double>> cases;
    for (int n = 0; n < 101; ++n) cases.push_back({static_cast<double>(n)});
    const auto a = bootstrap_median(cases, 7), b = bootstrap_median(cases, 7), c = bootstrap_median(cases, 8);
    ASSERT_TRUE(a && b && c);
    EXPECT_DOUBLE_EQ(a->low, b->low);
    EXPECT_DOUBLE_EQ(a->high, b->high);
    EXPECT_TRUE(a->low != c->low || a->high != c->high);
    // Order statistics of 0..100 about the median, binomial(101, 1/2) at 95 %: 40 to 60.
    EXPECT_NEAR(a->low, 40, 2.5);
    EXPECT_NEAR(a->high, 60, 2.5);
}

TEST(BootstrapMedian, DrawsWholeCases) {
    // Two cases that are one value each, a hundred times: an interval over points would be narrow about 0.5.
    const std::vector<double> zeros(100, 0.0), ones(100, 1.0);
    const auto interval = bootstrap_median({zeros, ones}, 1);
    ASSERT_TRUE(interval);
    EXPECT_DOUBLE_EQ(interval->low, 0);
    EXPECT_DOUBLE_EQ(interval->high, 1);
}

TEST(BootstrapMedian, NeedsTwoCases) {
    EXPECT_FALSE(bootstrap_median({{1, 2, 3}}, 1));
    EXPECT_FALSE(bootstrap_median({{1}, {}}, 1));
}
