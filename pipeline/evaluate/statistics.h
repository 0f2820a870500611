// Order statistics in which a miss counts.
//
// A landmark that was not found has an infinite error. It stays in every share and every quantile; only a mean cannot
// hold it, so a mean is given over the found ones, with the number of misses beside it.
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace cardionode {

/// The error of a point that was not found.
inline constexpr double kMissed = std::numeric_limits<double>::infinity();

/// Linear between order statistics (type 7 of Hyndman and Fan, the default of R and NumPy). Infinite as soon as an
/// infinite value takes part. NaN for no values. @param q  0..1
double quantile(std::vector<double> values, double q);

/// Share of the values that are at most `limit`: a miss is above every limit. NaN for no values.
double share_within(const std::vector<double>& values, double limit);

struct Interval {
    double low = 0, high = 0;
};

/// Percentile bootstrap of the median over cases: cases are drawn with replacement, each with all its values, because
/// the points of one heart are not independent. The same seed gives the same interval on every machine.
/// None for fewer than two cases with values.
std::optional<Interval> bootstrap_median(const std::vector<std::vector<double>>& by_case, std::uint64_t seed,
                                         int resamples = 2000, double level = 0.95);

/// What is said about a list of values, of which some may be infinite.
struct Distribution {
    int count = 0;     ///< all values
    int infinite = 0;  ///< of them
    double median = 0, q1 = 0, q3 = 0, p95 = 0, max = 0;
    double mean = 0;  ///< of the finite ones; NaN where there is none
    std::optional<Interval> median_interval;
};

/// @param by_case  as for bootstrap_median
Distribution distribution_of(const std::vector<std::vector<double>>& by_case, std::uint64_t seed);

}  // namespace cardionode
