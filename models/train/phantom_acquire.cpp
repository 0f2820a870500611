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

/// The heart during a slice: the mean over its path, near the heart only.
void blur_by_motion(const Acquisition& a, const PhantomGrid& g, std::vector<float>& hu) {
    const std::vector<float> still = hu;
    const auto sample = [&](float x, float y, float z) {
        const int ix = std::clamp(static_cast<int>(x), 0, g.size[2] - 2),
                  iy = std::clamp(static_cast<int>(y), 0, g.size[1] - 2);
        const int iz = std::clamp(static_cast<int>(z + 0.5F), 0, g.size[0] - 1);
        const float tx = clamp01(x - static_cast<float>(ix)), ty = clamp01(y - static_cast<float>(iy));
        const float* at = &still[(static_cast<std::size_t>(iz) * g.size[1] + iy) * g.size[2] + ix];
        return mix(mix(at[0], at[1], tx), mix(at[g.size[2]], at[g.size[2] + 1], tx), ty);
    };
    const Vec step = a.motion * (1 / g.spacing);
    std::size_t i = 0;
    for (int z = 0; z < g.size[0]; ++z) {
        for (int y = 0; y < g.size[1]; ++y) {
            for (int x = 0; x < g.size[2]; ++x, ++i) {
                const Vec at{static_cast<float>(x), static_cast<float>(y), static_cast<float>(z)};
                const float weight = smooth_step(90, 55, length(g.origin + at * g.spacing - a.motion_centre));
                if (weight <= 0) continue;
                float sum = 0;
                for (const float t : {-1.0F, -0.33F, 0.33F, 1.0F})
                    sum += sample(at.x + t * step.x, at.y + t * step.y, at.z + t * step.z);
                hu[i] = mix(still[i], sum / 4, weight);
            }
        }
    }
}

std::vector<float> draw_noise(const Acquisition& a, std::uint64_t seed, const PhantomGrid& g) {
    std::vector<float> noise(g.voxels());
    Random random(seed, 301);
    for (float& n : noise) n = random.normal();
    const float grain = a.noise_grain / g.spacing;
    blur(noise, g.size, grain, grain * 0.7F);
    const auto unit_power = [](std::vector<float>& field) {
        double power = 0;
        for (const float n : field) power += static_cast<double>(n) * n;
        const auto gain = static_cast<float>(1 / std::sqrt(power / static_cast<double>(field.size()) + 1e-12));
        for (float& n : field) n *= gain;
    };
    if (a.noise_blue > 0) {  // back projection: little noise at low frequencies
        std::vector<float> slow = noise;
        blur(slow, g.size, std::max(1.0F, grain * 1.6F), 0);
        for (std::size_t i = 0; i < noise.size(); ++i) noise[i] -= a.noise_blue * slow[i];
    }
    unit_power(noise);
    if (a.noise_rows > 0) {
        std::vector<float> rows(noise.size());
        for (float& n : rows) n = random.normal();
        blur_axis(rows, g.size, 2, 5);
        blur_axis(rows, g.size, 1, 0.5F);
        unit_power(rows);
        for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = mix(noise[i], rows[i], a.noise_rows);
        unit_power(noise);
    }
    return noise;
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

void acquire_by_profile(const Acquisition& a, std::uint64_t seed, Phantom& phantom) {
    const PhantomGrid& g = phantom.grid;
    std::vector<float>& hu = phantom.hu;
    if (length(a.motion) > 0) blur_by_motion(a, g, hu);
    blur(hu, g.size, a.blur / g.spacing, std::hypot(a.blur, a.blur_z) / g.spacing);
    if (a.sharpen > 0) {
        std::vector<float> soft = hu;
        const float sd = std::max(a.sharpen_mm / g.spacing, 0.5F);
        blur(soft, g.size, sd, sd * 0.5F);
        for (std::size_t i = 0; i < hu.size(); ++i) hu[i] += a.sharpen * (hu[i] - soft[i]);
    }
    const std::vector<float> noise = draw_noise(a, seed, g);
    const SmoothNoise slabs(seed + 303, 1);
    const float r2 = a.field_of_view * a.field_of_view;
    std::vector<const Streak*> near;
    std::size_t i = 0;
    for (int z = 0; z < g.size[0]; ++z) {
        const float height = g.origin.z + static_cast<float>(z) * g.spacing;
        const float level =
            a.shift_hu + (a.slab > 0 ? a.slab_hu * slabs.at({0, 0, std::floor(height / a.slab)}) : 0.0F);
        near.clear();
        for (const Streak& s : a.streaks) {
            if (std::abs(height - s.at.z) < 2.5F * s.half_height) near.push_back(&s);
        }
        for (int y = 0; y < g.size[1]; ++y) {
            for (int x = 0; x < g.size[2]; ++x, ++i) {
                const Vec p{g.origin.x + static_cast<float>(x) * g.spacing,
                            g.origin.y + static_cast<float>(y) * g.spacing, height};
                const Vec f = p - a.field_centre;
                const float from_middle = f.x * f.x + f.y * f.y;
                if (from_middle > r2 || p.z < a.low_z || p.z > a.high_z) {
                    hu[i] = a.padding;
                    for (auto* labels : {&phantom.heart, &phantom.hps, &phantom.ms, &phantom.calc}) (*labels)[i] = 0;
                    if (!phantom.coronaries.empty()) phantom.coronaries[i] = 0;
                    continue;
                }
                const float middle = clamp01(1 - from_middle / (110 * 110));
                float value = hu[i] + level - a.cupping * middle;
                value += a.noise * noise[i] * (1 + a.noise_middle * (middle - 0.6F)) * (hu[i] < -500 ? 0.7F : 1.0F);
                for (const Streak* s : near) {
                    const Vec off = p - s->at;
                    const float across = (-off.x * std::sin(s->angle) + off.y * std::cos(s->angle)) / s->width;
                    if (std::abs(across) > 3) continue;
                    const float up = off.z / s->half_height;
                    value += s->strength * std::exp(-0.5F * (across * across + up * up)) /
                             (1 + std::hypot(off.x, off.y) / 35);
                }
                hu[i] = std::clamp(value, -1024.0F, 3071.0F);
            }
        }
    }
}

}  // namespace cardionode::train
