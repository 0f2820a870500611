#include "tests/pipeline/outputs/real_cta.h"

#include <cmath>
#include <cstdlib>

namespace cardionode::test {

RealCase real_cta(const std::filesystem::path& cta_folder) {
    RealCase out{cta_folder / "dicom", read_ct(cta_folder / "dicom"), {}};
    const Grid& grid = out.ct.volume.grid;
    out.findings = findings_for(out.ct);  // codes and titles; everything that has a place is put there below
    SegmentGroup& heart = out.findings.groups[0];
    std::fill(heart.labels.voxels.begin(), heart.labels.voxels.end(), std::uint8_t{0});
    const auto paint = [&](const char* mask, std::uint8_t label) {
        const auto voxels = read_mask(cta_folder / "masks" / mask, grid);
        for (std::size_t n = 0; n < voxels.size(); ++n) {
            if (voxels[n] != 0) heart.labels.voxels[n] = label;
        }
    };
    paint("aorta.nii.gz", 2);
    paint("annulus_proper.nii.gz", 1);
    heart.segments[0].title = "Aortic annulus";
    heart.segments[0].name = "annulus";
    heart.segments[0].type = {"77583004", "SCT", "Aortic valve ring"};
    measure_volumes(heart);
    // Three points on the rim of the reference annulus (aorta_report: centre, long and short axis, ends of both).
    const PatientPoint centre{{13.95, -184.05, 660.78}};
    const Vec3 normal = normalised({-0.29, -0.18, 0.94});
    const Vec3 u = normalised(cross(normal, {0, 1, 0}));
    const Vec3 v = cross(normal, u);
    const auto on_rim = [&](double degrees, double radius, double above) {
        const double a = degrees * std::acos(-1.0) / 180;
        const Vec3 in_plane = add(scale(u, radius * std::cos(a)), scale(v, radius * std::sin(a)));
        return PatientPoint{add(add(centre.lps_mm, in_plane), scale(normal, above))};
    };
    const std::array<PatientPoint, 7> points = {on_rim(200, 13, 0),  on_rim(320, 13, 0),  on_rim(80, 13, 0),
                                                on_rim(215, 16, 14), on_rim(330, 16, 13), on_rim(140, 12, 1),
                                                on_rim(140, 12, -6)};
    for (std::size_t n = 0; n < points.size(); ++n) {
        if (out.findings.landmarks[n].position) out.findings.landmarks[n].position = points[n];
    }
    out.findings.annular_plane = Plane{centre, normal};
    return out;
}

std::filesystem::path kept_folder(const std::filesystem::path& otherwise) {
    const char* kept = std::getenv("CARDIONODE_KEEP_OUTPUTS");
    return kept != nullptr ? std::filesystem::path(kept) : otherwise;
}

}  // namespace cardionode::test
