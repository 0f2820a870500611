// The one test that small paired experiments need.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

namespace cardionode::train {

struct SignFlip {
    std::vector<double> differences;
    double mean = 0;
    double one_sided = 1;  ///< share of the sign patterns whose mean is at least as large as the one seen
    double two_sided = 1;  ///< whose mean is at least as far from 0
};

/// Exact sign-flip permutation test of paired differences over all 2^n patterns. With n pairs the smallest possible
/// values are 1/2^n and 2/2^n. Throws std::invalid_argument for no or more than 20 differences.
SignFlip sign_flip_test(const std::vector<double>& differences);

}  // namespace cardionode::train
