// The aortic valve of edition 2. Closed: each cusp hangs from its crown (nadir to both commissures) and rises to the
// middle, where the three meet along lines from the centre to the commissures. Open: the cusps lie along the wall.
#include "models/train/phantom_scene.h"

namespace cardionode::train {
namespace {

constexpr float kFar = 1e3F;

struct Profile {
    float height = 0, crown = 0, slope_out = 0, slope_round = 0;
};

/// Height of the closed cusp above the annular plane, and how steep it is.
Profile closed_cusp(const AorticRoot& root, const ValveShape& valve, const AorticRoot::CuspPlace& at, float rho,
                    float radius) {
    const float top = root.commissure_height[at.commissure] * 0.93F, middle = root.coaptation_height();
    const float rise = std::pow(std::max(1 - rho, 0.0F), valve.belly), edge = mix(middle, top, rho);
    const float round = at.t * at.t;
    Profile p;
    p.crown = round * top;
    p.height = mix(middle * rise, edge, round);
    p.slope_out = mix(-valve.belly * middle * rise / std::max(1 - rho, 0.05F), top - middle, round) / radius;
    p.slope_round = (edge - middle * rise) * 2 * at.t / (at.half_span * std::max(rho, 0.15F) * radius);
    return p;
}

float open_radius(const AorticRoot& root, const AorticRoot::CuspPlace& at, float angle, float height) {
    // A gap to the sinus in the middle of the cusp, none at the commissure.
    return root.plain_radius(angle, height) * (1 - 0.16F * (1 - at.t * at.t) * smooth_step(0, 6, height)) - 0.4F;
}

}  // namespace

float valve_distance(const AorticRoot& root, const ValveShape& valve, Vec q) {
    if (q.z < -3 || q.z > root.junction_height + 8) return kFar;
    const float angle = std::atan2(q.y, q.x), r = std::hypot(q.x, q.y), radius = root.radius(angle, q.z);
    const float rho = r / radius;
    if (rho > 1.02F) return kFar;
    const AorticRoot::CuspPlace at = root.cusp_at(angle);
    if (valve.open) {
        const float top = root.commissure_height[at.commissure];
        const float crown = at.t * at.t * top * 0.93F;
        return std::max({std::abs(r - open_radius(root, at, angle, q.z)), crown - q.z, q.z - top});
    }
    const Profile p = closed_cusp(root, valve, at, std::min(rho, 1.0F), radius);
    const float cusp =
        std::abs(q.z - p.height) / std::sqrt(1 + p.slope_out * p.slope_out + p.slope_round * p.slope_round);
    // Above the line where two cusps meet they lie on each other up to their free margins.
    const float beside = (1 - at.t) * at.half_span * r;
    const float margin = std::max({beside, q.z - p.height - valve.free_margin * (1 - 0.5F * rho), p.height - q.z});
    return std::min(cusp, margin);
}

Vec valve_place(const AorticRoot& root, const ValveShape& valve, float angle, float rho) {
    const AorticRoot::CuspPlace at = root.cusp_at(angle);
    if (valve.open) {
        const float top = root.commissure_height[at.commissure];
        const float height = mix(at.t * at.t * top * 0.93F, top, 1 - rho);
        return WallPoint{angle, open_radius(root, at, angle, height), height}.at();
    }
    // The radius depends on the height and the height on the radius: two rounds settle it.
    float height = 0;
    for (int i = 0; i < 3; ++i) height = closed_cusp(root, valve, at, rho, root.radius(angle, height)).height;
    return WallPoint{angle, rho * root.radius(angle, height), height}.at();
}

}  // namespace cardionode::train
