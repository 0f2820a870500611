#include "pipeline/measure/uncertainty.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

using namespace cardionode;

TEST(Uncertainty, AHingeErrorTiltsThePlaneAsGeometrySays) {
    // Three points on a circle of 25 mm: one that is e off tilts the plane by atan(e / 18.75) (facts, section 3).
    Hinges hinges;
    for (int h = 0; h < 3; ++h) {
        hinges.at[h] = {{12.5 * std::cos(h * 2 * M_PI / 3), 12.5 * std::sin(h * 2 * M_PI / 3), 0}};
    }
    Hinges off = hinges;
    off.at[0].lps_mm[2] += 2.6;
    EXPECT_NEAR(std::acos(off.plane({0, 0, 1}).normal[2]), std::atan(2.6 / 18.75), 1e-9);
    hinges.axis_sd_mm = {1, 1, 1};
    EXPECT_NEAR(hinges.height_sd({{0, 0, 20}}), 1 / std::sqrt(3.0), 1e-9);  // the mean of three
    EXPECT_NEAR(hinges.height_sd({{12.5, 0, 9}}), 1, 1e-9);                 // at a hinge point: its own error
    EXPECT_GT(hinges.height_sd({{25, 0, 9}}), 1.2);                         // outside of them it grows
}

TEST(Uncertainty, MovedPointsHaveTheErrorThatWasAskedForAndAreAlwaysTheSame) {
    Hinges hinges;
    hinges.axis_sd_mm.fill(axis_sd(2.6));
    const auto samples = moved(hinges, 4000, 7);
    std::vector<double> away;
    for (const Hinges& s : samples) away.push_back(distance_mm(s.at[1], hinges.at[1]));
    std::nth_element(away.begin(), away.begin() + 2000, away.end());
    EXPECT_NEAR(away[2000], 2.6, 0.1);
    EXPECT_EQ(moved(hinges, 4000, 7)[3999].at[2].lps_mm, samples[3999].at[2].lps_mm);
}
