#include "pipeline/measure/annulus_contour.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

namespace cardionode {
namespace {

constexpr double kStepMm = 0.25, kWindowMm = 40, kNearMm = 10;
constexpr double kSmoothMm = 1.0, kSmoothVoxels = 0.6;
constexpr double kSmallestMm2 = 100, kLargestMm2 = 1500;
constexpr double kMostIrregular = 1.1;
constexpr int kHalf = static_cast<int>(kWindowMm / kStepMm);
constexpr int kSide = 2 * kHalf + 1;

using Point = std::array<double, 2>;

/// A square image in the plane; sample (kHalf, kHalf) is the plane's point.
struct Slice {
    std::vector<float> values = std::vector<float>(static_cast<std::size_t>(kSide) * kSide, 0.0F);
    float& at(int x, int y) { return values[static_cast<std::size_t>(y) * kSide + x]; }
    float at(int x, int y) const { return values[static_cast<std::size_t>(y) * kSide + x]; }
};

double share_of_lumen(const LabelMap& labels, const std::array<bool, 256>& lumen, const Vec3& index) {
    std::array<std::int64_t, 3> base{};
    Vec3 fraction{};
    for (int a = 0; a < 3; ++a) {
        base[a] = static_cast<std::int64_t>(std::floor(index[a]));
        fraction[a] = index[a] - static_cast<double>(base[a]);
    }
    double share = 0;
    for (int c = 0; c < 8; ++c) {
        const VoxelIndex v{{base[0] + (c & 1), base[1] + ((c >> 1) & 1), base[2] + ((c >> 2) & 1)}};
        if (!labels.grid.contains(v) || !lumen[labels.voxels[labels.grid.offset(v)]]) continue;
        double weight = 1;
        for (int a = 0; a < 3; ++a) weight *= ((c >> a) & 1) != 0 ? fraction[a] : 1 - fraction[a];
        share += weight;
    }
    return share;
}

Slice reslice(const LabelMap& labels, const std::vector<int>& lumen, const Plane& plane) {
    std::array<bool, 256> wanted{};
    for (const int label : lumen) wanted.at(static_cast<std::size_t>(label)) = true;
    const Vec3 n = normalised(plane.normal);
    const Vec3 u = normalised(cross(n, std::abs(n[0]) < 0.9 ? Vec3{1, 0, 0} : Vec3{0, 1, 0}));
    const Vec3 v = cross(n, u);
    Slice slice;
    for (int y = 0; y < kSide; ++y) {
        for (int x = 0; x < kSide; ++x) {
            const Vec3 p =
                add(plane.point.lps_mm, add(scale(u, (x - kHalf) * kStepMm), scale(v, (y - kHalf) * kStepMm)));
            slice.at(x, y) = static_cast<float>(share_of_lumen(labels, wanted, labels.grid.to_index({p}).ijk));
        }
    }
    return slice;
}

void smooth(Slice& slice, double sigma_mm) {
    const double sigma = sigma_mm / kStepMm;
    const int reach = static_cast<int>(std::ceil(3 * sigma));
    std::vector<double> kernel;
    double sum = 0;
    for (int r = -reach; r <= reach; ++r) sum += kernel.emplace_back(std::exp(-0.5 * r * r / (sigma * sigma)));
    for (double& k : kernel) k /= sum;
    const Slice before = slice;
    Slice rows;
    const auto pass = [&](const Slice& from, Slice& to, bool along_x) {
        for (int y = 0; y < kSide; ++y) {
            for (int x = 0; x < kSide; ++x) {
                double value = 0;
                for (int r = -reach; r <= reach; ++r) {
                    const int xx = along_x ? std::clamp(x + r, 0, kSide - 1) : x;
                    const int yy = along_x ? y : std::clamp(y + r, 0, kSide - 1);
                    value += kernel[r + reach] * from.at(xx, yy);
                }
                to.at(x, y) = static_cast<float>(value);
            }
        }
    };
    pass(before, rows, true);
    pass(rows, slice, false);
}

/// Samples reached from the seeds over 4-neighbours whose value is on the wanted side of one half.
std::vector<bool> flood(const Slice& slice, std::vector<std::array<int, 2>> seeds, bool inside) {
    std::vector<bool> reached(slice.values.size(), false);
    const auto push = [&](int x, int y) {
        if (x < 0 || y < 0 || x >= kSide || y >= kSide) return;
        const std::size_t o = static_cast<std::size_t>(y) * kSide + x;
        if (reached[o] || (slice.values[o] >= 0.5F) != inside) return;
        reached[o] = true;
        seeds.push_back({x, y});
    };
    const auto start = std::move(seeds);
    seeds.clear();
    for (const auto& s : start) push(s[0], s[1]);
    while (!seeds.empty()) {
        const auto [x, y] = seeds.back();
        seeds.pop_back();
        push(x + 1, y);
        push(x - 1, y);
        push(x, y + 1);
        push(x, y - 1);
    }
    return reached;
}

std::optional<std::array<int, 2>> nearest_inside(const Slice& slice) {
    std::optional<std::array<int, 2>> best;
    double best_distance = kNearMm / kStepMm;
    for (int y = 0; y < kSide; ++y) {
        for (int x = 0; x < kSide; ++x) {
            const double d = std::hypot(x - kHalf, y - kHalf);
            if (slice.at(x, y) >= 0.5F && d <= best_distance && (!best || d < best_distance)) {
                best = {x, y};
                best_distance = d;
            }
        }
    }
    return best;
}

/// Keeps the region at the plane's point, whole and without holes. Reject: none there, or it reaches the border.
Result<void> isolate(Slice& slice) {
    const auto seed = nearest_inside(slice);
    if (!seed) {
        return reject_error(fmt::format(
            "no blood of aorta or left ventricle within {:.0f} mm of the centre of the hinge points", kNearMm));
    }
    const auto region = flood(slice, {*seed}, true);
    for (std::size_t o = 0; o < region.size(); ++o) {
        if (!region[o]) slice.values[o] = std::min(slice.values[o], 0.49F);
    }
    for (int i = 0; i < kSide; ++i) {
        for (const auto& [x, y] :
             {std::array{i, 0}, std::array{i, kSide - 1}, std::array{0, i}, std::array{kSide - 1, i}}) {
            if (slice.at(x, y) >= 0.5F) {
                return reject_error(
                    fmt::format("the blood in the annular plane has no border within {:.0f} mm", kWindowMm));
            }
        }
    }
    const auto outside = flood(slice, {{0, 0}}, false);
    for (std::size_t o = 0; o < outside.size(); ++o) {
        if (!outside[o] && slice.values[o] < 0.5F) slice.values[o] = 1.0F;
    }
    return {};
}

/// Marching squares at one half: the border as directed segments (region on the left), millimetres.
std::vector<std::array<Point, 2>> border(const Slice& slice) {
    std::vector<std::array<Point, 2>> segments;
    for (int y = 0; y + 1 < kSide; ++y) {
        for (int x = 0; x + 1 < kSide; ++x) {
            // Corners counter-clockwise from the lower left.
            const std::array<std::array<int, 2>, 4> at = {{{x, y}, {x + 1, y}, {x + 1, y + 1}, {x, y + 1}}};
            std::array<double, 4> f{};
            for (int c = 0; c < 4; ++c) f[c] = static_cast<double>(slice.at(at[c][0], at[c][1])) - 0.5;
            // Walking round, the border leaves through an edge that goes from inside to outside, and enters through
            // one from outside to inside; each leaving joins the entering before it, which cuts saddles apart.
            std::vector<Point> enter, leave;
            for (int e = 0; e < 4; ++e) {
                const int c = e, d = (e + 1) % 4;
                if ((f[c] >= 0) == (f[d] >= 0)) continue;
                const double t = f[c] / (f[c] - f[d]);
                const Point p = {(at[c][0] + t * (at[d][0] - at[c][0]) - kHalf) * kStepMm,
                                 (at[c][1] + t * (at[d][1] - at[c][1]) - kHalf) * kStepMm};
                (f[c] < 0 ? enter : leave).push_back(p);
            }
            if (enter.size() == 1) {
                segments.push_back({leave[0], enter[0]});
            } else if (enter.size() == 2) {
                // Each inside corner stands alone: it is entered on the edge before it and left on the edge after it.
                const bool first_corner_inside = f[0] >= 0;
                segments.push_back({leave[0], enter[first_corner_inside ? 1 : 0]});
                segments.push_back({leave[1], enter[first_corner_inside ? 0 : 1]});
            }
        }
    }
    return segments;
}

AnnulusContour measure_border(const std::vector<std::array<Point, 2>>& segments) {
    AnnulusContour contour;
    for (const auto& [p, q] : segments) {
        contour.area_mm2 += 0.5 * (p[0] * q[1] - q[0] * p[1]);
        contour.perimeter_mm += std::hypot(q[0] - p[0], q[1] - p[1]);
    }
    contour.area_mm2 = std::abs(contour.area_mm2);
    constexpr int kAngles = 360;
    contour.min_diameter_mm = std::numeric_limits<double>::infinity();
    for (int a = 0; a < kAngles; ++a) {
        const double c = std::cos(a * M_PI / kAngles), s = std::sin(a * M_PI / kAngles);
        double low = std::numeric_limits<double>::infinity(), high = -low;
        for (const auto& segment : segments) {
            const double along = segment[0][0] * c + segment[0][1] * s;
            low = std::min(low, along);
            high = std::max(high, along);
        }
        contour.min_diameter_mm = std::min(contour.min_diameter_mm, high - low);
        contour.max_diameter_mm = std::max(contour.max_diameter_mm, high - low);
    }
    return contour;
}

/// A Gaussian moves a border of curvature k inwards by sigma^2 k / 2. Round a closed curve that costs pi sigma^2 of
/// area, whatever its shape; of perimeter and diameters it is taken back as for the circle of the same perimeter.
AnnulusContour unshrunk(AnnulusContour c, double sigma_mm) {
    if (!(c.perimeter_mm > 0)) return c;
    const double diameter = 2 * M_PI * sigma_mm * sigma_mm / c.perimeter_mm;
    c.area_mm2 += M_PI * sigma_mm * sigma_mm;
    c.perimeter_mm += M_PI * diameter;
    c.min_diameter_mm += diameter;
    c.max_diameter_mm += diameter;
    return c;
}

}  // namespace

Result<AnnulusContour> annulus_contour(const LabelMap& labels, const std::vector<int>& lumen, const Plane& plane) {
    Slice slice = reslice(labels, lumen, plane);
    const auto& spacing = labels.grid.spacing();
    const double sigma = std::max(kSmoothMm, kSmoothVoxels * *std::max_element(spacing.begin(), spacing.end()));
    smooth(slice, sigma);
    const auto alone = isolate(slice);
    if (!alone) return alone.error();
    const AnnulusContour contour = unshrunk(measure_border(border(slice)), sigma);
    if (contour.area_mm2 < kSmallestMm2 || contour.area_mm2 > kLargestMm2) {
        return reject_error(
            fmt::format("implausible: the blood in the annular plane has {:.0f} mm2", contour.area_mm2));
    }
    const double irregular = contour.perimeter_mm / M_PI / (2 * std::sqrt(contour.area_mm2 / M_PI));
    if (irregular > kMostIrregular) {
        return reject_error(
            fmt::format("implausible: the outline of the blood in the annular plane is ragged (perimeter {:.0f} mm "
                        "round {:.0f} mm2)",
                        contour.perimeter_mm, contour.area_mm2));
    }
    return contour;
}

}  // namespace cardionode
