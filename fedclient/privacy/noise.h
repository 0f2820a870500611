// Gaussian noise for weights that leave: from OpenSSL's random generator, or from a seed for tests.
//
// Box-Muller on 53-bit uniform numbers. Not hardened against attacks on floating point itself (Mironov 2012): the noise
// is added in double precision and the sum is rounded to float32 once.
// Thread safety: an object belongs to one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>

namespace cardionode::fed {

class GaussianNoise {
public:
    /// @param seed  0: OpenSSL's generator
    explicit GaussianNoise(std::uint64_t seed) : seed_(seed), engine_(seed) {}
    /// Standard normal. Nothing when the operating system gives no random bytes: then nothing may leave.
    std::optional<double> next();

private:
    std::optional<std::uint64_t> bits();

    std::uint64_t seed_;
    std::mt19937_64 engine_;
    std::array<std::uint64_t, 512> random_{};
    std::size_t left_ = 0;
    std::optional<double> second_;
};

}  // namespace cardionode::fed
