// A flat cut through the patient: where its pixels lie, and what CT and label maps look like there.
//
// Units: mm, LPS. Thread safety: values.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pipeline/outputs/canvas.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

/// A square cut. The viewer looks along right x down: from the feet for an axial one, as radiologists are used to.
struct View {
    PatientPoint centre;
    Vec3 right{}, down{};  ///< unit vectors, orthogonal
    double width_mm = 100;

    Vec3 normal() const { return cross(right, down); }
};

/// Where a point falls on a square picture of `side` pixels, and how far it is from the cut (positive: along normal()).
struct Projected {
    Pixel pixel;
    double off_mm = 0;
};
Projected project(const View& view, int side, const PatientPoint& point);
PatientPoint to_patient(const View& view, int side, Pixel pixel);

/// The patient direction that lies at that side of the picture: "L", "AR"; at most two letters (PS3.3 C.7.6.1.1.1).
std::string direction_letters(const Vec3& direction);

struct Window {
    double low = -160, high = 640;  ///< HU that are black and white
};

/// CT by linear interpolation; outside the volume black.
Canvas draw_ct(const Volume& volume, const View& view, int side, const Window& window);

/// Share (0..1) of each label at each pixel, by linear interpolation of "is this label". Only labels that occur.
std::map<int, std::vector<float>> label_shares(const LabelMap& labels, const View& view, int side);

/// Draws the line where the share is one half, and a light tint inside.
void draw_contour(Canvas& canvas, const std::vector<float>& share, double line_width, Rgb colour, double tint);

}  // namespace cardionode
