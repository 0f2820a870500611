#include "models/train/aortic_root.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>

namespace cardionode::train {
namespace {

constexpr float kPi = std::numbers::pi_v<float>;
// Order of the landmarks in the statistics.
enum Landmark { kNadirL, kNadirR, kNadirN, kCommLr, kCommNr, kCommLn, kBaseLr, kBaseNr, kBaseLn };

float wrap(float angle) { return angle - 2 * kPi * std::floor((angle + kPi) / (2 * kPi)); }
WallPoint on_wall(Vec p) { return {std::atan2(p.y, p.x), std::hypot(p.x, p.y), p.z}; }

}  // namespace

Result<RootStatistics> RootStatistics::load(const std::filesystem::path& folder) {
    const std::filesystem::path file = folder / "aortic_root_shape_stats.json";
    std::ifstream in(file);
    if (!in) return config_error("cannot open " + file.string());
    try {
        const nlohmann::json json = nlohmann::json::parse(in);
        const auto nine = [](const nlohmann::json& rows) {
            std::array<Vec, 9> points;
            for (std::size_t i = 0; i < 9; ++i) {
                points[i] = {rows.at(i).at(0).get<float>(), rows.at(i).at(1).get<float>(),
                             rows.at(i).at(2).get<float>()};
            }
            return points;
        };
        RootStatistics statistics;
        statistics.mean = nine(json.at("mean"));
        for (const nlohmann::json& mode : json.at("modes")) statistics.modes.push_back(nine(mode));
        statistics.mode_sd = json.at("mode_sd").get<std::vector<float>>();
        if (statistics.mode_sd.size() != statistics.modes.size())
            return config_error(file.string() + ": modes and mode_sd differ");
        return statistics;
    } catch (const nlohmann::json::exception& e) {
        return config_error(file.string() + ": " + e.what());
    }
}

Ring::Ring(std::vector<WallPoint> points) : points_(std::move(points)) {
    std::sort(points_.begin(), points_.end(), [](const WallPoint& a, const WallPoint& b) { return a.angle < b.angle; });
}

float Ring::radius(float angle) const {
    angle = wrap(angle);
    std::size_t next = 0;
    while (next < points_.size() && points_[next].angle <= angle) ++next;
    const WallPoint& b = points_[next % points_.size()];
    const WallPoint& a = points_[(next + points_.size() - 1) % points_.size()];
    float span = b.angle - a.angle, into = angle - a.angle;
    if (span <= 0) span += 2 * kPi;
    if (into < 0) into += 2 * kPi;
    const float t = clamp01(into / span);
    return mix(a.radius, b.radius, 0.5F - 0.5F * std::cos(kPi * t));
}

AorticRoot AorticRoot::sample(const RootStatistics& statistics, Random& random) {
    std::array<Vec, 9> p;
    for (int attempt = 0;; ++attempt) {
        p = statistics.mean;
        // After many refused draws the mean itself, which always fits.
        for (std::size_t m = 0; attempt < 100 && m < statistics.modes.size(); ++m) {
            const float weight = std::clamp(random.normal(), -2.2F, 2.2F) * statistics.mode_sd[m];
            for (int i = 0; i < 9; ++i) p[i] = p[i] + weight * statistics.modes[m][i];
        }
        // The modes move the nadirs out of the mean's frame: set the frame up again from the drawn nadirs.
        const Vec centre = (p[kNadirL] + p[kNadirR] + p[kNadirN]) * (1.0F / 3);
        const Vec z = unit(cross(p[kNadirL] - p[kNadirR], p[kNadirN] - p[kNadirR]));
        const Vec x = unit(p[kNadirR] - centre);
        const Matrix frame{{x, cross(z, x), z}};
        for (Vec& point : p) point = frame.apply(point - centre);
        // Eight modes drawn independently also give roots that nobody has: keep to the range of the 203 cases.
        bool plausible = true;
        for (const auto& [a, b] : {std::pair{kNadirL, kNadirR}, {kNadirL, kNadirN}, {kNadirR, kNadirN}}) {
            const float side = length(p[a] - p[b]);
            plausible = plausible && side >= 17 && side <= 36;
        }
        for (const int c : {kCommLr, kCommNr, kCommLn}) {
            const float radius = std::hypot(p[c].x, p[c].y);
            plausible = plausible && p[c].z >= 13 && p[c].z <= 32 && radius >= 9 && radius <= 23;
        }
        if (plausible) break;
    }

    AorticRoot root;
    root.nadirs = {p[kNadirR], p[kNadirL], p[kNadirN]};
    root.commissures = {p[kCommLr], p[kCommNr], p[kCommLn]};
    std::vector<WallPoint> ring;
    for (const int i : {kNadirL, kNadirR, kNadirN}) ring.push_back(on_wall(p[i]));
    for (const int i : {kBaseLr, kBaseNr, kBaseLn}) {
        // The lumen at the bases of the interleaflet triangles; never a waist that no valve has.
        WallPoint w = on_wall(p[i]);
        w.radius = std::clamp(w.radius, 8.5F, 19.0F);
        ring.push_back(w);
    }
    root.annulus_ = Ring(ring);
    std::vector<WallPoint> top;
    float mean_radius = 0;
    root.junction_height = 0;
    for (int c = 0; c < 3; ++c) {
        const WallPoint w = on_wall(root.commissures[c]);
        top.push_back(w);
        root.commissure_angle[c] = w.angle;
        root.commissure_height[c] = w.height;
        root.junction_height += w.height / 3;
        mean_radius += w.radius / 3;
        root.nadir_angle[c] = on_wall(root.nadirs[c]).angle;
    }
    for (int c = 0; c < 3; ++c) top.push_back({root.nadir_angle[c], mean_radius * random.uniform(0.93F, 1.05F), 0});
    root.junction_ = Ring(top);
    for (float& b : root.bulge_mm_) b = random.uniform(1.5F, 5.0F);
    root.outflow_taper_ = random.uniform(-0.08F, 0.12F);
    root.coaptation_height_ = random.uniform(0.4F, 0.65F) * root.junction_height;

    // Ostia: in the sinus near its middle, 10 to 18 mm up, on the wall (heights as in TAVI cohorts).
    const float right_height = std::clamp(random.normal(14.5F, 2.3F), 10.0F, 18.0F);
    const float left_height = std::clamp(random.normal(13.2F, 2.2F), 10.0F, 18.0F);
    const float right_angle = root.nadir_angle[kRight] + random.normal(0.0F, 0.20F);
    const float left_angle = root.nadir_angle[kLeft] + random.normal(-0.05F, 0.20F);
    root.ostia[0] = WallPoint{right_angle, root.radius(right_angle, right_height), right_height}.at();
    root.ostia[1] = WallPoint{left_angle, root.radius(left_angle, left_height), left_height}.at();

    // Membranous septum: under the commissure of the right and the non-coronary cusp, 2 to 9 mm down the outflow wall.
    const float septum_angle = std::atan2(p[kBaseNr].y, p[kBaseNr].x) + random.normal(0.0F, 0.08F);
    const float depth = std::clamp(random.normal(4.5F, 1.8F), 2.0F, 9.0F);
    root.septum_upper = WallPoint{septum_angle, root.radius(septum_angle, 0), 0}.at();
    root.septum_lower = WallPoint{septum_angle, root.radius(septum_angle, -depth), -depth}.at();
    return root;
}

void AorticRoot::keep_ostia_in_sinuses() {
    for (Vec& ostium : ostia) {
        const WallPoint w = on_wall(ostium);
        const float height = std::min(w.height, 0.92F * junction_height);
        ostium = WallPoint{w.angle, radius(w.angle, height), height}.at();
    }
}

float AorticRoot::bulge(float angle) const {
    // 1 in the middle of a sinus, 0 at its commissures.
    float best = 0;
    for (int c = 0; c < 3; ++c) {
        const float away = std::abs(wrap(angle - nadir_angle[c]));
        if (away < 1.05F) best = std::max(best, bulge_mm_[c] * std::cos(away / 1.05F * kPi / 2));
    }
    return best;
}

float AorticRoot::radius(float angle, float height) const {
    const float base = annulus_.radius(angle);
    if (height <= 0) return base * (1.0F + outflow_taper_ * std::min(-height, 14.0F) / 14.0F);
    const float t = std::min(height / junction_height, 1.0F);
    // The sinus leaves the annulus steeply and returns to the junction.
    return mix(base, junction_.radius(angle), t) + bulge(angle) * std::sin(kPi * std::pow(t, 0.75F));
}

float AorticRoot::plain_radius(float angle, float height) const {
    const float t = clamp01(height / junction_height);
    return mix(annulus_.radius(angle), junction_.radius(angle), t);
}

AorticRoot::CuspPlace AorticRoot::cusp_at(float angle) const {
    constexpr int kBeside[3][2] = {{0, 1}, {0, 2}, {1, 2}};  // commissures of the right, left, non-coronary cusp
    CuspPlace best;
    best.t = 10;
    for (int c = 0; c < 3; ++c) {
        const float away = wrap(angle - nadir_angle[c]);
        for (const int commissure : kBeside[c]) {
            const float span = wrap(commissure_angle[commissure] - nadir_angle[c]);
            if (std::abs(span) < 0.2F || away * span < 0) continue;
            const float t = away / span;
            if (t < best.t) best = {c, commissure, t, std::abs(span)};
        }
    }
    best.t = std::min(best.t, 1.0F);
    return best;
}

float AorticRoot::leaflet_height(float angle, float rho) const {
    // The cusp's hinge is a crown: 0 at the nadir, up to the commissures on both sides.
    float hinge = 0, best = 10;
    for (int c = 0; c < 3; ++c) {
        const float away = std::abs(wrap(angle - nadir_angle[c]));
        if (away < best) {
            best = away;
            const float t = std::min(away / 1.05F, 1.0F);
            hinge = t * t * junction_height * 0.95F;
        }
    }
    return mix(coaptation_height_, hinge, rho * rho * rho);
}

}  // namespace cardionode::train
