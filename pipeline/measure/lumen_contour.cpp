#include "pipeline/measure/lumen_contour.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "pipeline/measure/polar_image.h"
#include "pipeline/measure/smooth_curve.h"

namespace cardionode {
namespace {

using polar::kRays;
using polar::kStepMm;
using polar::kSteps;
using Hu = polar::Image<float>;
using Mask = polar::Image<std::uint8_t>;

constexpr double kContrastHu = 150;     ///< less contrast agent than this gives no edge that can be trusted
constexpr float kWallHu = 40;           ///< soft tissue; fat and lung count as wall, so that they do not pull the edge
constexpr double kAlongMm = 0.8;        ///< averaging along the border
constexpr double kCalciumMarginMm = 1;  ///< its halo
constexpr double kFreeMm = 1.5, kCapMm = 5, kFarCost = 0.6;  ///< distance to the labels' border: free, then dearer
constexpr double kLeafletCost = 0.5;
constexpr int kFirst = 10, kLast = kSteps - 10;  ///< steps a border may lie at: 3..33 mm
constexpr double kEnoughEdges = 0.5;
constexpr double kRaggedMm = 2.5, kRaggedShare = 0.1;
constexpr double kLabelWeight = 0.15;  ///< of a ray without an edge

double mean(const Hu& hu, int ray, double from_mm, double to_mm) {
    const int a = std::clamp(static_cast<int>(std::lround(from_mm / kStepMm)), 0, kSteps - 1);
    const int b = std::clamp(static_cast<int>(std::lround(to_mm / kStepMm)), a, kSteps - 1);
    double sum = 0;
    for (int s = a; s <= b; ++s) sum += hu.at(ray, s);
    return sum / (b - a + 1);
}

struct Levels {
    double blood = 0, noise = 0;
};

/// Median and robust spread of the HU well inside the labels.
Levels levels_of(const Hu& hu, const polar::Region& region) {
    std::vector<float> inside;
    for (int ray = 0; ray < kRays; ++ray) {
        const double reach = 0.7 * region.border_mm[ray].value_or(0);
        for (int step = 3; step * kStepMm < reach; ++step) inside.push_back(hu.at(ray, step));
    }
    if (inside.size() < 100) return {};
    const auto median = [](std::vector<float>& v) {
        const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
        std::nth_element(v.begin(), middle, v.end());
        return static_cast<double>(*middle);
    };
    Levels levels;
    levels.blood = median(inside);
    for (float& v : inside) v = std::abs(v - static_cast<float>(levels.blood));
    levels.noise = 1.4826 * median(inside);
    return levels;
}

/// Calcium with its halo.
Mask calcium_in(const Hu& hu, const Levels& levels) {
    const double limit = levels.blood + std::max(150.0, 4 * levels.noise);
    const int out = static_cast<int>(std::ceil(kCalciumMarginMm / kStepMm));
    Mask mask;
    for (int ray = 0; ray < kRays; ++ray) {
        for (int step = kFirst; step < kSteps; ++step) {
            if (hu.at(ray, step) < limit) continue;
            const int around = static_cast<int>(kCalciumMarginMm / (step * kStepMm * 2 * M_PI / kRays));
            for (int dr = -around; dr <= around; ++dr) {
                for (int ds = -out; ds <= out; ++ds) {
                    if (step + ds >= 0 && step + ds < kSteps) mask.at(ray + dr, step + ds) = 1;
                }
            }
        }
    }
    return mask;
}

/// How much a place looks like the end of the blood, 0..1.
double edge(const Hu& hu, const Levels& levels, int ray, int step) {
    const double r = step * kStepMm, contrast = levels.blood - 80;
    const double inner = mean(hu, ray, r - 2.1, r - 0.6);
    const double outer = std::min(mean(hu, ray, r + 0.5, r + 1.3), mean(hu, ray, r + 0.8, r + 2.0));
    const double is_blood = std::clamp((inner - levels.blood + 0.5 * contrast) / (0.25 * contrast), 0.0, 1.0);
    return is_blood * std::clamp((inner - outer) / contrast, 0.0, 1.0);
}

/// Share of blood between a place and the labels' border: behind a leaflet there is blood of the same lumen again.
double blood_behind(const Hu& hu, const Levels& levels, int ray, int step, double border_mm) {
    const int from = step + 5, to = std::min(kSteps - 1, static_cast<int>(border_mm / kStepMm));
    if (from > to) return 0;
    int blood = 0;
    for (int s = from; s <= to; ++s) blood += hu.at(ray, s) > levels.blood - 0.5 * (levels.blood - 80) ? 1 : 0;
    return static_cast<double>(blood) / (to - from + 1);
}

/// The closed path over the rays that follows edges: a step for each ray.
std::vector<int> cheapest_path(const Hu& hu, const Mask& calcium, const Levels& levels,
                               const std::vector<double>& expected_mm) {
    constexpr int kJump = 2, kSpan = kLast - kFirst;
    std::vector<double> cost(static_cast<std::size_t>(kRays) * kSpan);
    for (int ray = 0; ray < kRays; ++ray) {
        for (int s = 0; s < kSpan; ++s) {
            const int step = s + kFirst;
            const double away = std::abs(step * kStepMm - expected_mm[ray]);
            double c = kFarCost * std::clamp((away - kFreeMm) / (kCapMm - kFreeMm), 0.0, 1.0);
            if (away < kCapMm) {
                if (calcium.at(ray, step) == 0) c -= edge(hu, levels, ray, step);
                c += kLeafletCost * blood_behind(hu, levels, ray, step, expected_mm[ray]);
            }
            cost[static_cast<std::size_t>(ray) * kSpan + s] = c;
        }
    }
    // Twice round: the middle of the second way no longer knows where it began.
    std::vector<double> total(kSpan, 0.0), next(kSpan);
    std::vector<std::int8_t> from(static_cast<std::size_t>(2 * kRays) * kSpan, 0);
    for (int n = 0; n < 2 * kRays; ++n) {
        for (int s = 0; s < kSpan; ++s) {
            double best = std::numeric_limits<double>::infinity();
            int best_jump = 0;
            for (int j = -kJump; j <= kJump; ++j) {
                if (s + j < 0 || s + j >= kSpan) continue;
                const double c = total[s + j] + 0.05 * j * j;
                if (c < best) {
                    best = c;
                    best_jump = j;
                }
            }
            next[s] = best + cost[static_cast<std::size_t>(n % kRays) * kSpan + s];
            from[static_cast<std::size_t>(n) * kSpan + s] = static_cast<std::int8_t>(best_jump);
        }
        std::swap(total, next);
    }
    int s = static_cast<int>(std::min_element(total.begin(), total.end()) - total.begin());
    std::vector<int> path(kRays);
    for (int n = 2 * kRays - 1; n >= 0; --n) {
        if (n >= kRays / 2 && n < kRays / 2 + kRays) path[n % kRays] = s + kFirst;
        s += from[static_cast<std::size_t>(n) * kSpan + s];
    }
    return path;
}

/// Place of half maximum near `step`. None: no edge there, or calcium beside it.
std::optional<double> half_maximum(const Hu& hu, const Mask& calcium, const Levels& levels, int ray, int step) {
    const double r = step * kStepMm;
    const int reach = 4;  // 1.2 mm
    for (int s = step - reach; s <= step + reach; ++s) {
        if (calcium.at(ray, s) != 0) return std::nullopt;
    }
    // The same on both sides, or the level between them would not be the half.
    const double inner = std::max(mean(hu, ray, r - 1.5, r - 0.6), mean(hu, ray, r - 2.1, r - 0.9));
    const double outer = std::min(mean(hu, ray, r + 0.6, r + 1.5), mean(hu, ray, r + 0.9, r + 2.1));
    const double least = std::max(0.25 * (levels.blood - 80), 2 * levels.noise / std::sqrt(5.0));
    if (inner - outer < least || inner < levels.blood - 0.5 * (levels.blood - 80)) return std::nullopt;
    const double half = (inner + outer) / 2;
    std::optional<double> best;
    for (int s = step - reach; s < step + reach; ++s) {
        const double a = hu.at(ray, s), b = hu.at(ray, s + 1);
        if (a < half || b >= half) continue;
        const double at = (s + (a - half) / (a - b)) * kStepMm;
        if (!best || std::abs(at - r) < std::abs(*best - r)) best = at;
    }
    return best;
}

/// The labels' border on every ray: gaps closed from the neighbours, then the median over 30 degrees.
std::vector<double> expected_border(const polar::Region& region) {
    std::vector<double> filled(kRays);
    for (int ray = 0; ray < kRays; ++ray) {
        for (int away = 0; away <= kRays / 2; ++away) {
            const auto& left = region.border_mm[polar::Image<float>::wrap(ray - away)];
            const auto& right = region.border_mm[polar::Image<float>::wrap(ray + away)];
            if (!left && !right) continue;
            filled[ray] = left && right ? (*left + *right) / 2 : left ? *left : *right;
            break;
        }
    }
    std::vector<double> smooth(kRays);
    constexpr int kReach = 5;
    for (int ray = 0; ray < kRays; ++ray) {
        std::array<double, 2 * kReach + 1> near{};
        for (int d = -kReach; d <= kReach; ++d) near[d + kReach] = filled[polar::Image<float>::wrap(ray + d)];
        std::nth_element(near.begin(), near.begin() + kReach, near.end());
        smooth[ray] = near[kReach];
    }
    return smooth;
}

void measure_outline(LumenContour& c) {
    constexpr int n = LumenContour::kPoints;
    std::vector<std::array<double, 2>> p(n);
    for (int i = 0; i < n; ++i) {
        const double angle = 2 * M_PI * i / n;
        p[i] = {c.radius_mm[i] * std::cos(angle), c.radius_mm[i] * std::sin(angle)};
    }
    for (int i = 0; i < n; ++i) {
        const auto& a = p[i];
        const auto& b = p[(i + 1) % n];
        c.area_mm2 += 0.5 * (a[0] * b[1] - b[0] * a[1]);
        c.perimeter_mm += std::hypot(b[0] - a[0], b[1] - a[1]);
    }
    c.min_diameter_mm = std::numeric_limits<double>::infinity();
    for (int half_degree = 0; half_degree < 360; ++half_degree) {
        const double x = std::cos(half_degree * M_PI / 360), y = std::sin(half_degree * M_PI / 360);
        double low = std::numeric_limits<double>::infinity(), high = -low;
        for (const auto& q : p) {
            low = std::min(low, q[0] * x + q[1] * y);
            high = std::max(high, q[0] * x + q[1] * y);
        }
        c.min_diameter_mm = std::min(c.min_diameter_mm, high - low);
        c.max_diameter_mm = std::max(c.max_diameter_mm, high - low);
    }
}

LumenContour outline(const PlaneFrame& frame, const SmoothCurve& curve, LumenContour::Basis basis, double edge_share) {
    LumenContour c;
    c.frame = frame;
    c.basis = basis;
    c.edge_share = edge_share;
    for (int i = 0; i < LumenContour::kPoints; ++i) {
        c.radius_mm.push_back(std::max(curve.at(2 * M_PI * i / LumenContour::kPoints), 0.1));
    }
    measure_outline(c);
    return c;
}

struct Edges {
    std::vector<double> radius_mm, weight;  ///< [kRays]
    double share = 0;                       ///< of rays with an edge
};

Edges edges_of(Hu hu, const polar::Region& region) {
    Edges edges{expected_border(region), std::vector<double>(kRays, kLabelWeight), 0};
    const Levels levels = levels_of(hu, region);
    if (levels.blood < kContrastHu) return edges;
    const Mask calcium = calcium_in(hu, levels);
    for (float& v : hu.values) v = std::clamp(v, kWallHu, static_cast<float>(levels.blood + 100));
    polar::smooth_along(hu, kAlongMm);
    const std::vector<int> path = cheapest_path(hu, calcium, levels, edges.radius_mm);
    for (int ray = 0; ray < kRays; ++ray) {
        const auto at = half_maximum(hu, calcium, levels, ray, path[ray]);
        if (!at) continue;
        edges.radius_mm[ray] = *at;
        edges.weight[ray] = 1;
        edges.share += 1.0 / kRays;
    }
    return edges;
}

Result<LumenContour> from_labels(const PlaneFrame& frame, const polar::Region& region, int harmonics) {
    std::vector<double> radius(kRays, 0.0), weight(kRays, 0.0);
    for (int ray = 0; ray < kRays; ++ray) {
        if (!region.border_mm[ray]) continue;
        radius[ray] = *region.border_mm[ray];
        weight[ray] = 1;
    }
    const SmoothCurve curve = SmoothCurve::through(radius, weight, harmonics);
    int ragged = 0;
    for (int ray = 0; ray < kRays; ++ray) {
        if (weight[ray] == 0 || std::abs(radius[ray] - curve.at(polar::angle_of_ray(ray))) > kRaggedMm) ++ragged;
    }
    if (ragged > kRaggedShare * kRays) {
        return reject_error("the CT shows no clear edge of the blood there, and the outline of its label is ragged");
    }
    return outline(frame, curve, LumenContour::Basis::Labels, 0);
}

}  // namespace

PatientPoint PlaneFrame::at(double x, double y) const { return {add(origin.lps_mm, add(scale(u, x), scale(v, y)))}; }

double PlaneFrame::angle_of(const PatientPoint& point) const {
    const Vec3 d = subtract(point.lps_mm, origin.lps_mm);
    return std::atan2(dot(d, v), dot(d, u));
}

PlaneFrame frame_of(const Plane& plane) {
    PlaneFrame f;
    f.origin = plane.point;
    f.n = normalised(plane.normal);
    const Vec3 towards = std::abs(f.n[0]) < 0.9 ? Vec3{1, 0, 0} : Vec3{0, 1, 0};
    f.u = normalised(subtract(towards, scale(f.n, dot(f.n, towards))));
    f.v = cross(f.n, f.u);
    return f;
}

double LumenContour::radius_at(double angle) const {
    const double x = angle / (2 * M_PI) * kPoints;
    const double low = std::floor(x), t = x - low;
    const auto wrap = [](double i) { return (static_cast<int>(i) % kPoints + kPoints) % kPoints; };
    return radius_mm[wrap(low)] * (1 - t) + radius_mm[wrap(low + 1)] * t;
}

PatientPoint LumenContour::point_at(double angle) const {
    const double r = radius_at(angle);
    return frame.at(r * std::cos(angle), r * std::sin(angle));
}

PatientPoint LumenContour::centroid() const {
    double area = 0, x = 0, y = 0;
    for (int i = 0; i < kPoints; ++i) {
        const double angle = 2 * M_PI * i / kPoints, r = radius_mm[i];
        area += r * r / 2;
        x += r * r * r / 3 * std::cos(angle);
        y += r * r * r / 3 * std::sin(angle);
    }
    return frame.at(x / area, y / area);
}

LumenTracer::LumenTracer(const Volume* ct, const LabelMap& labels, const std::vector<int>& lumen)
    : ct_(ct), labels_(labels) {
    for (const int label : lumen) lumen_.at(static_cast<std::size_t>(label)) = true;
}

Result<LumenContour> LumenTracer::trace(const Plane& plane, const ContourStyle& style) const {
    constexpr double kOffCentreMm = 1;
    PlaneFrame frame = frame_of(plane);
    auto region = polar::region_of(polar::sample_labels(labels_, lumen_, frame));
    for (int round = 0; region && round < 3; ++round) {
        const auto& c = region->centroid_mm;
        if (region->holds_centre && std::hypot(c[0], c[1]) < kOffCentreMm) break;
        frame.origin = frame.at(c[0], c[1]);
        region = polar::region_of(polar::sample_labels(labels_, lumen_, frame));
    }
    const auto reached = [](const polar::Region& r) {
        return std::count_if(r.border_mm.begin(), r.border_mm.end(), [](const auto& b) { return b.has_value(); });
    };
    for (int round = 0;; ++round) {
        if (!region) return region.error();
        if (reached(*region) < kRays / 2) {
            return reject_error(fmt::format("the labelled blood has no border within {:.0f} mm", polar::kReachMm));
        }
        Result<LumenContour> contour = reject_error("no CT");
        if (ct_ != nullptr) {
            const Edges edges = edges_of(polar::sample_hu(*ct_, frame), *region);
            if (edges.share >= kEnoughEdges) {
                contour = outline(frame, SmoothCurve::through(edges.radius_mm, edges.weight, style.harmonics),
                                  LumenContour::Basis::Ct, edges.share);
            }
        }
        if (!contour) contour = from_labels(frame, *region, style.harmonics);
        if (!contour) return contour;
        const PatientPoint centre = contour->centroid();
        if (round == 2 || distance_mm(centre, frame.origin) < kOffCentreMm) return contour;
        frame.origin = centre;
        region = polar::region_of(polar::sample_labels(labels_, lumen_, frame));
    }
}

}  // namespace cardionode
