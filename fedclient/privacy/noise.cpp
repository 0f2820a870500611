#include "fedclient/privacy/noise.h"

#include <cmath>
#include <numbers>
#include <utility>

#include <openssl/rand.h>

namespace cardionode::fed {

std::optional<std::uint64_t> GaussianNoise::bits() {
    if (seed_ != 0) return engine_();
    if (left_ == 0) {
        // The private generator: what it gives never shows elsewhere (nonces of TLS come from the public one).
        if (RAND_priv_bytes(reinterpret_cast<unsigned char*>(random_.data()), sizeof random_) != 1) return std::nullopt;
        left_ = random_.size();
    }
    return random_[--left_];
}

std::optional<double> GaussianNoise::next() {
    if (second_) return *std::exchange(second_, std::nullopt);
    const auto a = bits();
    const auto b = bits();
    if (!a || !b) return std::nullopt;
    constexpr double kStep = 0x1p-53;
    const double u = (static_cast<double>(*a >> 11) + 1) * kStep;  // (0, 1], so that its logarithm is finite
    const double angle = 2 * std::numbers::pi * static_cast<double>(*b >> 11) * kStep;
    const double radius = std::sqrt(-2 * std::log(u));
    second_ = radius * std::sin(angle);
    return radius * std::cos(angle);
}

}  // namespace cardionode::fed
