#include "models/train/statistics.h"

#include <cmath>
#include <cstdint>
#include <stdexcept>

namespace cardionode::train {

SignFlip sign_flip_test(const std::vector<double>& differences) {
    const std::size_t n = differences.size();
    if (n == 0 || n > 20) throw std::invalid_argument("sign_flip_test: expected 1 to 20 differences");
    double sum = 0, largest = 0;
    for (const double d : differences) {
        sum += d;
        largest += std::abs(d);
    }
    const double slack = 1e-12 * largest;  // the pattern that was seen must count itself in spite of rounding
    std::uint32_t above = 0, beyond = 0;
    const std::uint32_t patterns = std::uint32_t{1} << n;
    for (std::uint32_t pattern = 0; pattern < patterns; ++pattern) {
        double flipped = 0;
        for (std::size_t i = 0; i < n; ++i) flipped += (pattern >> i & 1U) ? -differences[i] : differences[i];
        above += flipped >= sum - slack;
        beyond += std::abs(flipped) >= std::abs(sum) - slack;
    }
    return {differences, sum / static_cast<double>(n), static_cast<double>(above) / patterns,
            static_cast<double>(beyond) / patterns};
}

}  // namespace cardionode::train
