// Vectors of three numbers for the phantom: x to the left, y to the back, z to the head (LPS), millimetres.
// Kept apart from pipeline/volume so that the trainer builds where only torch is. Thread safety: values.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

namespace cardionode::train {

struct Vec {
    float x = 0, y = 0, z = 0;
    friend Vec operator+(Vec a, Vec b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
    friend Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
    friend Vec operator*(Vec a, float f) { return {a.x * f, a.y * f, a.z * f}; }
    friend Vec operator*(float f, Vec a) { return a * f; }
};
inline float dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Vec cross(Vec a, Vec b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
inline float length(Vec a) { return std::sqrt(dot(a, a)); }
inline Vec unit(Vec a) { return a * (1.0F / std::max(length(a), 1e-12F)); }

/// Rows are the images of the axes: apply(v) = (row0 . v, row1 . v, row2 . v).
struct Matrix {
    std::array<Vec, 3> rows{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
    Vec apply(Vec v) const { return {dot(rows[0], v), dot(rows[1], v), dot(rows[2], v)}; }
    Vec transposed(Vec v) const { return rows[0] * v.x + rows[1] * v.y + rows[2] * v.z; }
};

/// Rotation by `angles` radians about x, then y, then z.
inline Matrix rotation(Vec angles) {
    const float cx = std::cos(angles.x), sx = std::sin(angles.x), cy = std::cos(angles.y), sy = std::sin(angles.y);
    const float cz = std::cos(angles.z), sz = std::sin(angles.z);
    return {{{{cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx},
              {sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx},
              {-sy, cy * sx, cy * cx}}}};
}

inline float mix(float a, float b, float t) { return a + (b - a) * t; }
inline float clamp01(float v) { return std::clamp(v, 0.0F, 1.0F); }
inline float smooth_step(float low, float high, float v) {
    const float t = clamp01((v - low) / (high - low));
    return t * t * (3 - 2 * t);
}

}  // namespace cardionode::train
