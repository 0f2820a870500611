// An aortic root drawn from the statistics of 166 real ones: its landmarks, and a lumen that passes through them.
//
// Root frame: origin in the centre of the three nadirs, z along the annulus normal towards the commissures, x towards
// the right cusp's nadir, right-handed; millimetres. Heights below are z, angles run about z from x.
// Statistics: aortic_root_shape_stats.json (mean and eight modes of nine landmarks, public study, Basel).
// Thread safety: values.
#pragma once

#include <array>
#include <filesystem>
#include <vector>

#include "conf/base/result.h"
#include "models/train/random.h"
#include "models/train/vec.h"

namespace cardionode::train {

class RootStatistics {
public:
    /// Config: the file is missing, not JSON or not of nine landmarks.
    static Result<RootStatistics> load(const std::filesystem::path& folder);
    std::array<Vec, 9> mean{};
    std::vector<std::array<Vec, 9>> modes;
    std::vector<float> mode_sd;
};

enum Cusp { kRight, kLeft, kNoncoronary };

/// Place on the wall: angle about z in radians, height and radius in mm.
struct WallPoint {
    float angle = 0, radius = 0, height = 0;
    Vec at() const { return {radius * std::cos(angle), radius * std::sin(angle), height}; }
};

/// A closed curve round z: radius at an angle, smooth through given points.
class Ring {
public:
    Ring() = default;
    explicit Ring(std::vector<WallPoint> points);
    float radius(float angle) const;

private:
    std::vector<WallPoint> points_;  ///< by angle
};

class AorticRoot {
public:
    /// One root; sides of the nadir triangle are 17 to 36 mm, commissures 13 to 32 mm high: the range of 203 real
    /// cases.
    static AorticRoot sample(const RootStatistics& statistics, Random& random);

    /// Radius of the lumen at a height: LVOT below 0, sinuses up to the sinotubular junction, then its ring.
    float radius(float angle, float height) const;
    /// Height of the closed leaflets above the annular plane at a place inside the lumen; rho = distance to z / radius.
    float leaflet_height(float angle, float rho) const;

    /// The same wall without the sinuses' bulge.
    float plain_radius(float angle, float height) const;
    /// The cusp at an angle: t is 0 at its nadir and 1 at the commissure towards the angle.
    struct CuspPlace {
        int cusp = 0, commissure = 0;
        float t = 0, half_span = 1;  ///< half_span: radians from nadir to commissure
    };
    CuspPlace cusp_at(float angle) const;
    /// Ostia above the sinotubular junction move down to just below it: from edition 4 of the phantoms on.
    void keep_ostia_in_sinuses();
    float coaptation_height() const { return coaptation_height_; }

    std::array<Vec, 3> nadirs;       ///< by Cusp
    std::array<Vec, 2> ostia;        ///< right, left
    std::array<Vec, 3> commissures;  ///< right-left, right-noncoronary, left-noncoronary
    Vec septum_upper, septum_lower;  ///< membranous septum
    float junction_height = 20;      ///< of the sinotubular junction
    std::array<float, 3> nadir_angle{};
    std::array<float, 3> commissure_angle{}, commissure_height{};  ///< as commissures

private:
    float bulge(float angle) const;
    Ring annulus_, junction_;
    std::array<float, 3> bulge_mm_{};  ///< by Cusp
    float outflow_taper_ = 0, coaptation_height_ = 10;
};

}  // namespace cardionode::train
