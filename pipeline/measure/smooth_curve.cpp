#include "pipeline/measure/smooth_curve.h"

#include <algorithm>
#include <cmath>

#include "pipeline/measure/polar_image.h"

namespace cardionode {
namespace {

using polar::kRays;

std::vector<double> basis(double angle, int n) {
    std::vector<double> f(n, 1.0);
    for (int i = 1; i < n; ++i) {
        const int k = (i + 1) / 2;
        f[i] = i % 2 == 1 ? std::cos(k * angle) : std::sin(k * angle);
    }
    return f;
}

/// Cholesky, the solution in `b`; `a` is positive definite because of its stiffness and the weights.
void solve(std::vector<double>& a, std::vector<double>& b, int n) {
    for (int j = 0; j < n; ++j) {
        for (int k = 0; k < j; ++k) a[j * n + j] -= a[j * n + k] * a[j * n + k];
        a[j * n + j] = std::sqrt(std::max(a[j * n + j], 1e-12));
        for (int i = j + 1; i < n; ++i) {
            for (int k = 0; k < j; ++k) a[i * n + j] -= a[i * n + k] * a[j * n + k];
            a[i * n + j] /= a[j * n + j];
        }
    }
    for (int i = 0; i < n; ++i) {
        for (int k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
        b[i] /= a[i * n + i];
    }
    for (int i = n - 1; i >= 0; --i) {
        for (int k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
        b[i] /= a[i * n + i];
    }
}

}  // namespace

SmoothCurve SmoothCurve::through(const std::vector<double>& radius, const std::vector<double>& weight, int harmonics) {
    constexpr double kHuberMm = 0.5, kStiff = 2e-4;
    constexpr int kRounds = 8;
    SmoothCurve curve(harmonics);
    double weights = 0, sum = 0;
    for (int ray = 0; ray < kRays; ++ray) {
        weights += weight[ray];
        sum += weight[ray] * radius[ray];
    }
    curve.c_[0] = sum / weights;
    const int n = 2 * harmonics + 1;
    std::vector<std::vector<double>> table(kRays);
    for (int ray = 0; ray < kRays; ++ray) table[ray] = basis(polar::angle_of_ray(ray), n);
    for (int round = 0; round < kRounds; ++round) {
        std::vector<double> a(static_cast<std::size_t>(n) * n, 0.0), b(n, 0.0);
        for (int ray = 0; ray < kRays; ++ray) {
            if (weight[ray] <= 0) continue;
            const auto& f = table[ray];
            double here = 0;
            for (int i = 0; i < n; ++i) here += curve.c_[i] * f[i];
            const double off = std::abs(radius[ray] - here);
            // The first rounds find the circle and the oval; only then is a ray that stands out a fault.
            const double limit = round < 3 ? 4 * kHuberMm : kHuberMm;
            const double w = weight[ray] * (off <= limit ? 1 : limit / off);
            for (int i = 0; i < n; ++i) {
                b[i] += w * f[i] * radius[ray];
                for (int j = 0; j <= i; ++j) a[i * n + j] += w * f[i] * f[j];
            }
        }
        for (int i = 1; i < n; ++i) a[i * n + i] += kStiff * weights / 2 * std::pow((i + 1) / 2, 4);
        solve(a, b, n);
        curve.c_ = b;
    }
    return curve;
}

double SmoothCurve::at(double angle) const {
    const auto f = basis(angle, static_cast<int>(c_.size()));
    double r = 0;
    for (std::size_t i = 0; i < c_.size(); ++i) r += c_[i] * f[i];
    return r;
}

}  // namespace cardionode
