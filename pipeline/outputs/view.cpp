#include "pipeline/outputs/view.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace cardionode {
namespace {

/// Eight neighbours of a point in voxel coordinates and their weights. false: outside the volume.
struct Corners {
    std::array<std::size_t, 8> offset{};
    std::array<float, 8> weight{};
};

bool corners_of(const Grid& grid, const Vec3& index, Corners& corners) {
    std::array<std::int64_t, 3> low{}, high{};
    std::array<double, 3> share{};
    for (std::size_t a = 0; a < 3; ++a) {
        const double last = static_cast<double>(grid.size()[a]) - 1;
        if (index[a] < -0.5 || index[a] > last + 0.5) return false;
        const double inside = std::clamp(index[a], 0.0, last);
        low[a] = static_cast<std::int64_t>(inside);
        high[a] = std::min(low[a] + 1, grid.size()[a] - 1);
        share[a] = inside - static_cast<double>(low[a]);
    }
    for (std::size_t n = 0; n < 8; ++n) {
        VoxelIndex voxel;
        double weight = 1;
        for (std::size_t a = 0; a < 3; ++a) {
            const bool upper = (n >> a & 1U) != 0;
            voxel.ijk[a] = upper ? high[a] : low[a];
            weight *= upper ? share[a] : 1 - share[a];
        }
        corners.offset[n] = static_cast<std::size_t>(grid.offset(voxel));
        corners.weight[n] = static_cast<float>(weight);
    }
    return true;
}

/// Calls use(x, y, corners) for each pixel inside the volume.
template <class Use>
void for_each_pixel(const Grid& grid, const View& view, int side, Use use) {
    const auto index_at = [&](double x, double y) { return grid.to_index(to_patient(view, side, {x, y})).ijk; };
    const Vec3 first = index_at(0.5, 0.5);
    const Vec3 step_x = subtract(index_at(1.5, 0.5), first), step_y = subtract(index_at(0.5, 1.5), first);
    Corners corners;
    for (int y = 0; y < side; ++y) {
        for (int x = 0; x < side; ++x) {
            const Vec3 index = add(first, add(scale(step_x, x), scale(step_y, y)));
            if (corners_of(grid, index, corners)) use(x, y, corners);
        }
    }
}

}  // namespace

Projected project(const View& view, int side, const PatientPoint& point) {
    const Vec3 away = subtract(point.lps_mm, view.centre.lps_mm);
    const double pixels_per_mm = side / view.width_mm;
    return {{side / 2.0 + dot(away, view.right) * pixels_per_mm, side / 2.0 + dot(away, view.down) * pixels_per_mm},
            dot(away, view.normal())};
}

PatientPoint to_patient(const View& view, int side, Pixel pixel) {
    const double mm_per_pixel = view.width_mm / side;
    return {add(view.centre.lps_mm, add(scale(view.right, (pixel.x - side / 2.0) * mm_per_pixel),
                                        scale(view.down, (pixel.y - side / 2.0) * mm_per_pixel)))};
}

std::string direction_letters(const Vec3& direction) {
    constexpr std::array<std::array<char, 2>, 3> kLetters = {{{'R', 'L'}, {'A', 'P'}, {'F', 'H'}}};
    std::array<std::size_t, 3> order = {0, 1, 2};
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return std::abs(direction[a]) > std::abs(direction[b]); });
    std::string letters;
    for (const std::size_t a : order) {
        if (letters.size() < 2 && std::abs(direction[a]) > 0.35) letters += kLetters[a][direction[a] > 0 ? 1 : 0];
    }
    return letters;
}

Canvas draw_ct(const Volume& volume, const View& view, int side, const Window& window) {
    Canvas canvas(side, side, {0, 0, 0});
    for_each_pixel(volume.grid, view, side, [&](int x, int y, const Corners& corners) {
        double hu = 0;
        for (std::size_t n = 0; n < 8; ++n)
            hu += static_cast<double>(corners.weight[n]) * volume.voxels[corners.offset[n]];
        const double grey = std::clamp((hu - window.low) / (window.high - window.low), 0.0, 1.0) * 255;
        const auto g = static_cast<std::uint8_t>(std::lround(grey));
        canvas.set(x, y, {g, g, g});
    });
    return canvas;
}

std::map<int, std::vector<float>> label_shares(const LabelMap& labels, const View& view, int side) {
    std::map<int, std::vector<float>> shares;
    const std::size_t pixels = static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
    std::array<std::vector<float>*, 256> of_label{};
    for_each_pixel(labels.grid, view, side, [&](int x, int y, const Corners& corners) {
        const std::size_t at =
            static_cast<std::size_t>(y) * static_cast<std::size_t>(side) + static_cast<std::size_t>(x);
        for (std::size_t n = 0; n < 8; ++n) {
            const std::uint8_t label = labels.voxels[corners.offset[n]];
            if (label == 0) continue;
            std::vector<float>*& share = of_label[label];
            if (share == nullptr) {
                share = &shares[label];
                share->assign(pixels, 0.0F);
            }
            (*share)[at] += corners.weight[n];
        }
    });
    return shares;
}

void draw_contour(Canvas& canvas, const std::vector<float>& share, double line_width, Rgb colour, double tint) {
    const int side = canvas.width();
    const auto at = [&](int x, int y) {
        x = std::clamp(x, 0, side - 1);
        y = std::clamp(y, 0, side - 1);
        return static_cast<double>(
            share[static_cast<std::size_t>(y) * static_cast<std::size_t>(side) + static_cast<std::size_t>(x)]);
    };
    for (int y = 0; y < side; ++y) {
        for (int x = 0; x < side; ++x) {
            const double value = at(x, y);
            const double gradient = std::hypot(at(x + 1, y) - at(x - 1, y), at(x, y + 1) - at(x, y - 1)) / 2;
            // Distance to the half line, to first order, turns the share into an anti-aliased line.
            const double away = gradient > 1e-6 ? std::abs(value - 0.5) / gradient : (value == 0.5 ? 0.0 : 1e9);
            const double line = std::clamp(line_width / 2 + 0.5 - away, 0.0, 1.0);
            const double alpha = std::max(line, value > 0.5 ? tint : 0.0);
            if (alpha > 0) canvas.blend(x, y, colour, alpha);
        }
    }
}

}  // namespace cardionode
