#include "models/train/phantom_acquire.h"

namespace cardionode::train {
namespace {

/// Gaussian along one axis; edges repeat.
void blur_axis(std::vector<float>& image, const std::array<int, 3>& size, int axis, float sd_voxels) {
    if (sd_voxels < 0.15F) return;
    const int radius = std::min(6, static_cast<int>(std::ceil(2.5F * sd_voxels)));
    float weights[13], sum = 0;
    for (int k = -radius; k <= radius; ++k)
        sum += weights[k + radius] = std::exp(-0.5F * static_cast<float>(k * k) / (sd_voxels * sd_voxels));
    for (int k = 0; k <= 2 * radius; ++k) weights[k] /= sum;
    const std::ptrdiff_t strides[3] = {static_cast<std::ptrdiff_t>(size[1]) * size[2], size[2], 1};
    const std::ptrdiff_t stride = strides[axis];
    const int n = size[axis];
    const int other_a = axis == 0 ? 1 : 0, other_b = axis == 2 ? 1 : 2;
    std::vector<float> line(static_cast<std::size_t>(n + 2 * radius));
    for (int a = 0; a < size[other_a]; ++a) {
        for (int b = 0; b < size[other_b]; ++b) {
            float* start = image.data() + a * strides[other_a] + b * strides[other_b];
            for (int k = -radius; k < n + radius; ++k) line[k + radius] = start[std::clamp(k, 0, n - 1) * stride];
            for (int k = 0; k < n; ++k) {
                float value = 0;
                for (int w = 0; w <= 2 * radius; ++w) value += weights[w] * line[k + w];
                start[k * stride] = value;
            }
        }
    }
}

void blur(std::vector<float>& image, const std::array<int, 3>& size, float in_plane, float along) {
    blur_axis(image, size, 2, in_plane);
    blur_axis(image, size, 1, in_plane);
    blur_axis(image, size, 0, along);
}

/// A slab is displaced within the slices, as between two heart beats.
template <class Voxel>
void shift_slab(std::vector<Voxel>& image, const PhantomGrid& g, int from, int dx, int dy) {
    const std::vector<Voxel> before = image;
    for (int z = from; z < g.size[0]; ++z) {
        for (int y = 0; y < g.size[1]; ++y) {
            for (int x = 0; x < g.size[2]; ++x) {
                const int sx = std::clamp(x - dx, 0, g.size[2] - 1), sy = std::clamp(y - dy, 0, g.size[1] - 1);
                image[(static_cast<std::size_t>(z) * g.size[1] + y) * g.size[2] + x] =
                    before[(static_cast<std::size_t>(z) * g.size[1] + sy) * g.size[2] + sx];
            }
        }
    }
}

}  // namespace

void acquire(const Acquisition& a, std::uint64_t seed, Phantom& phantom) {
    const PhantomGrid& g = phantom.grid;
    std::vector<float>& hu = phantom.hu;
    blur(hu, g.size, a.blur / g.spacing, std::hypot(a.blur, a.blur_z) / g.spacing);
    if (a.sharpen > 0) {
        std::vector<float> soft = hu;
        blur(soft, g.size, 1.4F, 1.4F);
        for (std::size_t i = 0; i < hu.size(); ++i) hu[i] += a.sharpen * (hu[i] - soft[i]);
    }
    // Only the image is displaced: by less than a landmark can be placed.
    const int from = std::max(0, static_cast<int>(std::ceil((a.step_at - g.origin.z) / g.spacing)));
    const auto voxels = [&](float mm) { return static_cast<int>(std::lround(mm / g.spacing)); };
    if (from < g.size[0]) shift_slab(hu, g, from, voxels(a.step.x), voxels(a.step.y));

    std::vector<float> noise(hu.size());
    Random random(seed, 101);
    for (float& n : noise) n = random.normal();
    const float grain = a.noise_grain / g.spacing;
    blur(noise, g.size, grain, grain * 0.7F);
    double power = 0;
    for (const float n : noise) power += static_cast<double>(n) * n;
    const float gain = a.noise / std::sqrt(static_cast<float>(power / static_cast<double>(noise.size())) + 1e-12F);

    const float r2 = a.field_of_view * a.field_of_view;
    std::size_t i = 0;
    for (int z = 0; z < g.size[0]; ++z) {
        for (int y = 0; y < g.size[1]; ++y) {
            for (int x = 0; x < g.size[2]; ++x, ++i) {
                const Vec p =
                    g.origin + Vec{static_cast<float>(x), static_cast<float>(y), static_cast<float>(z)} * g.spacing;
                const Vec f = p - a.field_centre;
                if (f.x * f.x + f.y * f.y > r2 || p.z < a.low_z || p.z > a.high_z) {
                    hu[i] = a.padding;
                    for (auto* labels : {&phantom.heart, &phantom.hps, &phantom.ms, &phantom.calc}) (*labels)[i] = 0;
                    continue;
                }
                float value = hu[i] + a.shift_hu + gain * noise[i] * (hu[i] < -500 ? 0.7F : 1.0F);
                for (const Streak& s : a.streaks) {
                    const Vec off = p - s.at;
                    if (off.z < -30 || off.z > 60) continue;
                    const float across = (-off.x * std::sin(s.angle) + off.y * std::cos(s.angle)) / s.width;
                    const float along = std::hypot(off.x, off.y);
                    value += s.strength * std::exp(-0.5F * across * across) / (1 + along / 30);
                }
                hu[i] = std::clamp(value, -1024.0F, 3071.0F);
            }
        }
    }
}

}  // namespace cardionode::train
