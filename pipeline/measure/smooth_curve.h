// A closed curve round a centre: its radius as a Fourier series of the angle. Internal to the lumen contour.
//
// Thread safety: values.
#pragma once

#include <vector>

namespace cardionode {

class SmoothCurve {
public:
    /// Weighted, robust against single rays (Huber), and the stiffer the higher the harmonic.
    /// @param radius  mm, one for each of polar::kRays rays  @param weight  >= 0; at least one above
    static SmoothCurve through(const std::vector<double>& radius, const std::vector<double>& weight, int harmonics);

    double at(double angle) const;

private:
    explicit SmoothCurve(int harmonics) : c_(2 * harmonics + 1, 0.0) {}
    std::vector<double> c_;  ///< mean, then cosine and sine of each harmonic
};

}  // namespace cardionode
