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
    // Points on the rim of the reference annulus (its centroid and main axes), so that pictures look as they should:
    // right cusp in front, left cusp to the left and back, non-coronary cusp to the right and back.
    const PatientPoint centre{{13.95, -184.05, 660.78}};
    const Vec3 normal = normalised({-0.526, -0.262, 0.809});
    const Vec3 left = normalised(subtract({1, 0, 0}, scale(normal, normal[0])));
    const Vec3 back = cross(normal, left);
    const auto on_rim = [&](double degrees, double radius, double above) {
        const double a = degrees * std::acos(-1.0) / 180;
        const Vec3 in_plane = add(scale(left, radius * std::cos(a)), scale(back, radius * std::sin(a)));
        return PatientPoint{add(add(centre.lps_mm, in_plane), scale(normal, above))};
    };
    const std::array<PatientPoint, 7> points = {on_rim(-80, 12, 0),  on_rim(40, 12, 0),  on_rim(160, 12, 0),
                                                on_rim(-85, 16, 16), on_rim(30, 16, 14), on_rim(-140, 12, 1),
                                                on_rim(-140, 12, -6)};
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
