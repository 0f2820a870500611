#include "pipeline/measure/calcium_parts.h"

#include "pipeline/measure/root_sections.h"

namespace cardionode {

CalciumVoxels calcium_voxels(const LabelMap& labels) {
    CalciumVoxels calcium;
    calcium.voxel_mm3 = labels.grid.voxel_volume_mm3();
    const auto& size = labels.grid.size();
    for (std::int64_t o = 0; o < labels.grid.voxel_count(); ++o) {
        if (labels.voxels[static_cast<std::size_t>(o)] == 0) continue;
        const VoxelIndex at{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        calcium.centres.push_back(labels.grid.to_patient(at));
        bool border = false;
        for (std::size_t a = 0; a < 3; ++a) {
            for (const std::int64_t step : {-1, 1}) {
                VoxelIndex next = at;
                next.ijk[a] += step;
                border = border || !labels.grid.contains(next) || labels.at(next) == 0;
            }
        }
        if (border) ++calcium.on_surface;
    }
    return calcium;
}

CalciumParts calcium_parts(const CalciumVoxels& calcium, const Plane& plane,
                           const std::array<PatientPoint, 3>& hinges) {
    const PlaneFrame frame = frame_of(plane);
    const CuspAngles cusps = cusp_angles(frame, hinges);
    CalciumParts parts;
    for (const PatientPoint& p : calcium.centres) {
        if (dot(subtract(p.lps_mm, plane.point.lps_mm), frame.n) < 0) parts.outflow_mm3 += calcium.voxel_mm3;
        else parts.cusp_mm3[cusp_at(cusps, frame.angle_of(p))] += calcium.voxel_mm3;
    }
    return parts;
}

}  // namespace cardionode
