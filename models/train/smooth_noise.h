// Smooth random fields: values in [-1, 1] on a lattice, blended between its points. The field has no borders.
//
// Source: value noise (Perlin, 1985, with hashed lattice values). Thread safety: values, immutable.
#pragma once

#include <cmath>
#include <cstdint>

#include "models/train/vec.h"

namespace cardionode::train {

class SmoothNoise {
public:
    SmoothNoise() = default;
    /// @param cell_mm  distance of lattice points: structures are about this large
    SmoothNoise(std::uint64_t seed, float cell_mm)
        : seed_(static_cast<std::uint32_t>(seed ^ (seed >> 32))), per_mm_(1.0F / cell_mm) {}

    float at(Vec p) const {
        const float x = p.x * per_mm_, y = p.y * per_mm_, z = p.z * per_mm_;
        const float fx = std::floor(x), fy = std::floor(y), fz = std::floor(z);
        const auto ix = static_cast<std::int32_t>(fx), iy = static_cast<std::int32_t>(fy);
        const auto iz = static_cast<std::int32_t>(fz);
        const float tx = fade(x - fx), ty = fade(y - fy), tz = fade(z - fz);
        const float a = mix(mix(value(ix, iy, iz), value(ix + 1, iy, iz), tx),
                            mix(value(ix, iy + 1, iz), value(ix + 1, iy + 1, iz), tx), ty);
        const float b = mix(mix(value(ix, iy, iz + 1), value(ix + 1, iy, iz + 1), tx),
                            mix(value(ix, iy + 1, iz + 1), value(ix + 1, iy + 1, iz + 1), tx), ty);
        return mix(a, b, tz);
    }

private:
    static float fade(float t) { return t * t * (3 - 2 * t); }
    float value(std::int32_t x, std::int32_t y, std::int32_t z) const {
        std::uint32_t h = seed_ + static_cast<std::uint32_t>(x) * 0x9E3779B1U +
                          static_cast<std::uint32_t>(y) * 0x85EBCA77U + static_cast<std::uint32_t>(z) * 0xC2B2AE3DU;
        h = (h ^ (h >> 16)) * 0x7feb352dU;
        h = (h ^ (h >> 15)) * 0x846ca68bU;
        h ^= h >> 16;
        return static_cast<float>(static_cast<std::int32_t>(h)) * 0x1p-31F;
    }
    std::uint32_t seed_ = 0;
    float per_mm_ = 0.05F;
};

}  // namespace cardionode::train
