// The border of the blood in one plane: a smooth closed curve on the CT, started from the labels.
//
// Why not the labels alone: a network of 2 mm voxels has a ragged border there, and half a voxel of error round an
// annulus is 8 % of its area. Why not the CT alone: blood of an atrium lies behind a wall of 2 mm.
// Method: rays from the centre of the labelled blood; on each the HU (averaged along the border, not across it); the
// cheapest closed path along falling edges near the labels' border (dynamic programming); on each ray the place of
// half maximum between the blood inside and the darkest wall outside; a Fourier curve of few harmonics through these
// places, robust against single ones. Rays through calcium say nothing: it would hide or move the border. They and rays
// without an edge follow their neighbours, and the labels with little weight.
// Where fewer than half of the rays have an edge (no contrast, streaks), the labels' border alone is used.
// Errors on bodies of known size: tests/pipeline/measure and pipeline/measure/README.md.
// Thread safety: const use from any thread.
#pragma once

#include <array>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

/// Right-handed axes of a plane: u x v = n.
struct PlaneFrame {
    PatientPoint origin;
    Vec3 u{}, v{}, n{};
    PatientPoint at(double x, double y) const;
    /// Angle of a point's projection round the origin, from u towards v, radians.
    double angle_of(const PatientPoint& point) const;
};
/// u is the patient's left as far as the plane allows (his back, where the plane is a sagittal one).
PlaneFrame frame_of(const Plane& plane);

struct LumenContour {
    static constexpr int kPoints = 360;  ///< one a degree
    enum class Basis { Ct, Labels };

    PlaneFrame frame;               ///< origin: inside, near the centroid
    std::vector<double> radius_mm;  ///< [kPoints], at angle 2 pi i / kPoints in the frame
    Basis basis = Basis::Labels;
    double edge_share = 0;  ///< of the rays that found an edge in the CT, 0..1
    double area_mm2 = 0;
    double perimeter_mm = 0;
    double min_diameter_mm = 0;  ///< smallest and largest distance of two parallel tangents
    double max_diameter_mm = 0;

    double radius_at(double angle) const;
    PatientPoint point_at(double angle) const;
    PatientPoint centroid() const;
};

struct ContourStyle {
    int harmonics = 6;  ///< of the curve: an oval with the flat sides of a real annulus; sinuses need 9
};

class LumenTracer {
public:
    /// @param ct      native HU; null: labels only
    /// @param labels  any grid; @param lumen  the values that are blood here
    /// Both must outlive this.
    LumenTracer(const Volume* ct, const LabelMap& labels, const std::vector<int>& lumen);

    /// The outline round the labelled blood at the plane's point. Reject, with words for people: no labelled blood
    /// within 10 mm of the point; no border within 36 mm; no edges in the CT and ragged labels.
    Result<LumenContour> trace(const Plane& plane, const ContourStyle& style = {}) const;

private:
    const Volume* ct_;
    const LabelMap& labels_;
    std::array<bool, 256> lumen_{};
};

}  // namespace cardionode
