// Random numbers that are the same on every machine and compiler (the standard's distributions are not).
//
// Source: splitmix64 and xoshiro256** (Blackman, Vigna, "Scrambled linear pseudorandom number generators", 2021).
// A stream is named by a seed and a number, so that adding a draw in one part of the phantom changes no other part.
// Thread safety: one object belongs to one thread.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace cardionode::train {

inline std::uint64_t mix_bits(std::uint64_t value) {
    value += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

class Random {
public:
    explicit Random(std::uint64_t seed, std::uint64_t stream = 0) {
        std::uint64_t s = mix_bits(seed) ^ mix_bits(stream * 0xd1342543de82ef95ULL + 1);
        for (std::uint64_t& word : state_) word = s = mix_bits(s);
    }
    std::uint64_t bits() {
        const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
        const std::uint64_t t = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }
    /// In [0, 1), 24 bits.
    float uniform() { return static_cast<float>(bits() >> 40) * 0x1p-24F; }
    float uniform(float low, float high) { return low + (high - low) * uniform(); }
    bool chance(float probability) { return uniform() < probability; }
    /// Sum of four 16-bit uniforms, scaled to unit variance: smooth, bounded by 3.47, one draw.
    float normal() {
        const std::uint64_t b = bits();
        const auto sum = static_cast<float>((b & 0xffff) + ((b >> 16) & 0xffff) + ((b >> 32) & 0xffff) + (b >> 48));
        return (sum * (1.0F / 65536.0F) - 2.0F) * 1.7320508F;
    }
    float normal(float mean, float sd) { return mean + sd * normal(); }
    int integer(int low, int high) {  ///< both ends included
        return low + static_cast<int>(bits() % static_cast<std::uint64_t>(high - low + 1));
    }

private:
    std::uint64_t state_[4];
};

}  // namespace cardionode::train
