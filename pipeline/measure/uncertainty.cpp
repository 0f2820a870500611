#include "pipeline/measure/uncertainty.h"

#include <cmath>
#include <random>

namespace cardionode {

double axis_sd(double median_error_mm) { return median_error_mm / 1.538; }

Plane Hinges::plane(const Vec3& sign) const {
    Vec3 n = normalised(cross(subtract(at[1].lps_mm, at[0].lps_mm), subtract(at[2].lps_mm, at[0].lps_mm)));
    if (dot(n, sign) < 0) n = scale(n, -1);
    return {{scale(add(at[0].lps_mm, add(at[1].lps_mm, at[2].lps_mm)), 1.0 / 3)}, n};
}

double Hinges::height_sd(const PatientPoint& point) const {
    const Vec3 n = plane({0, 0, 1}).normal;
    double whole = 0, squares = 0;
    std::array<double, 3> part{};
    for (std::size_t h = 0; h < 3; ++h) {
        // Twice the signed area of the triangle that the point's projection makes with the two others.
        const Vec3 a = subtract(at[(h + 1) % 3].lps_mm, point.lps_mm),
                   b = subtract(at[(h + 2) % 3].lps_mm, point.lps_mm);
        part[h] = dot(cross(a, b), n);
        whole += part[h];
    }
    for (std::size_t h = 0; h < 3; ++h) squares += std::pow(part[h] / whole * axis_sd_mm[h], 2);
    return std::sqrt(squares);
}

std::vector<Hinges> moved(const Hinges& hinges, int count, std::uint64_t seed) {
    // Own normal numbers: std::normal_distribution gives other ones with other standard libraries.
    std::mt19937_64 bits(seed);
    const auto uniform = [&] { return (static_cast<double>(bits() >> 11) + 0.5) / 9007199254740992.0; };
    const auto normal = [&] { return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * M_PI * uniform()); };
    std::vector<Hinges> samples(static_cast<std::size_t>(count), hinges);
    for (Hinges& sample : samples) {
        for (std::size_t h = 0; h < 3; ++h) {
            for (double& x : sample.at[h].lps_mm) x += hinges.axis_sd_mm[h] * normal();
        }
    }
    return samples;
}

std::optional<double> spread(const std::vector<double>& values, std::size_t asked) {
    if (values.size() < 2 || 2 * values.size() < asked) return std::nullopt;
    double mean = 0, squares = 0;
    for (const double v : values) mean += v / static_cast<double>(values.size());
    for (const double v : values) squares += (v - mean) * (v - mean);
    return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double combined(std::initializer_list<double> independent) {
    double squares = 0;
    for (const double v : independent) squares += v * v;
    return std::sqrt(squares);
}

}  // namespace cardionode
