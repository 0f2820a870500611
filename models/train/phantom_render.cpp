// Drawing a scene on a grid: vessels as distance fields, tissue from back to front with soft edges, labels from the
// same distances, then the scanner.
#include <memory>
#include <numbers>

#include "models/train/phantom_acquire.h"
#include "models/train/phantom_scene.h"

namespace cardionode::train {
namespace {

constexpr float kFar = 1e3F;
/// Share of a soft edge, `slope` per mm.
float soft_inside(float distance, float slope) { return clamp01(0.5F - distance * slope); }

struct TubeFields {
    std::array<std::vector<float>, kTubeKinds> distance;
    std::vector<Vec> aorta_offset;  ///< from the nearest point of the aorta's centre line
    std::vector<float> aorta_radius;
    std::vector<std::uint8_t> coronary;  ///< edition 3: label
};

void draw_segment(const PhantomGrid& g, const Acquisition& scan, const TubeNode& a, const TubeNode& b,
                  std::vector<float>& field, TubeFields* aorta, std::vector<std::uint8_t>* label = nullptr) {
    float reach = std::max(a.radius, b.radius) + 6;
    for (const Vec& step : scan.turn_step) reach += length(step);
    const auto range = [&](float from, float to, float origin, int size) {
        const int low = static_cast<int>(std::ceil((std::min(from, to) - reach - origin) / g.spacing));
        const int high = static_cast<int>(std::floor((std::max(from, to) + reach - origin) / g.spacing));
        return std::pair{std::max(low, 0), std::min(high, size - 1)};
    };
    const auto [x0, x1] = range(a.at.x, b.at.x, g.origin.x, g.size[2]);
    const auto [y0, y1] = range(a.at.y, b.at.y, g.origin.y, g.size[1]);
    const auto [z0, z1] = range(a.at.z, b.at.z, g.origin.z, g.size[0]);
    const Vec ab = b.at - a.at;
    const float per_length = 1.0F / std::max(dot(ab, ab), 1e-6F);
    for (int z = z0; z <= z1; ++z) {
        for (int y = y0; y <= y1; ++y) {
            for (int x = x0; x <= x1; ++x) {
                const Vec p = scan.source_of(
                    g.origin + Vec{static_cast<float>(x), static_cast<float>(y), static_cast<float>(z)} * g.spacing);
                const float t = clamp01(dot(p - a.at, ab) * per_length);
                const Vec off = p - (a.at + ab * t);
                const float radius = mix(a.radius, b.radius, t), distance = length(off) - radius;
                const std::size_t i = (static_cast<std::size_t>(z) * g.size[1] + y) * g.size[2] + x;
                if (label && length(off) < std::max(radius, 0.55F * g.spacing)) (*label)[i] = 1;
                if (distance >= field[i]) continue;
                field[i] = distance;
                if (aorta) {
                    aorta->aorta_offset[i] = off;
                    aorta->aorta_radius[i] = radius;
                }
            }
        }
    }
}

TubeFields draw_tubes(const Scene& scene, const PhantomGrid& grid) {
    TubeFields fields;
    for (int kind = 0; kind < (scene.edition >= 2 ? kTubeKinds : kTubeAzygos); ++kind)
        fields.distance[kind].assign(grid.voxels(), kFar);
    fields.aorta_offset.assign(grid.voxels(), {});
    fields.aorta_radius.assign(grid.voxels(), 0);
    const bool label = scene.edition >= 3 && scene.contrast;
    if (scene.edition >= 3) fields.coronary.assign(grid.voxels(), 0);
    for (const Tube& tube : scene.tubes) {
        for (std::size_t i = 0; i + 1 < tube.nodes.size(); ++i) {
            draw_segment(grid, scene.acquisition, tube.nodes[i], tube.nodes[i + 1], fields.distance[tube.kind],
                         tube.kind == kTubeAorta ? &fields : nullptr,
                         label && tube.kind == kTubeCoronary ? &fields.coronary : nullptr);
        }
    }
    return fields;
}

/// Blood of the aorta with a flap, a false lumen and a stent where the scene has them.
float aorta_hu(const Scene& scene, Vec p, Vec offset, float radius, float distance) {
    const Dissection& d = scene.dissection;
    float hu = scene.levels.aorta;
    const bool descending = p.y > 30 || p.z > 75;
    if (!descending) return hu;
    if (d.present && p.z > d.from_z && p.z < d.to_z) {
        const float angle = d.angle + d.twist * p.z;
        const float side = offset.x * std::cos(angle) + offset.y * std::sin(angle) - d.offset * radius;
        if (side > 0) hu = mix(scene.levels.soft, hu, d.false_lumen);
        hu = mix(hu, scene.levels.soft + 40, 0.8F * clamp01(1.1F - std::abs(side) * 0.7F));
    }
    if (d.stent && p.z > d.stent_from_z && p.z < d.stent_to_z) {
        const float around = std::atan2(offset.y, offset.x);
        const float strut = std::abs(std::sin(p.z * 2 * std::numbers::pi_v<float> / d.stent_pitch +
                                              2.5F * std::sin(4 * around) + d.stent_phase));
        hu += d.stent_hu * clamp01(1 - std::abs(distance + 1.5F) * 0.6F) * smooth_step(0.35F, 0.9F, strut);
    }
    return hu;
}

class Painter {
public:
    Painter(const PhantomAtlas& atlas, const Scene& scene, float spacing)
        : atlas_(atlas),
          s_(scene),
          refined_(scene.edition >= 2),
          // Edges are as wide as a voxel; edition 1 has 2 mm on every grid.
          slope_(scene.edition >= 2 ? 1 / std::clamp(spacing, 0.8F, 2.0F) : 0.5F),
          wall_noise_(scene.seed + 21, 22),
          fat_noise_(scene.seed + 22, 26),
          mix_noise_(scene.seed + 23, 13),
          blood_noise_(scene.seed + 24, 34),
          shrink_(3.0F / (scene.heart.shrink.x + scene.heart.shrink.y + scene.heart.shrink.z)) {
        if (!refined_) return;
        const Vec membrane = (scene.root.septum_upper + scene.root.septum_lower) * 0.5F;
        pouch_centre_ = membrane + unit({membrane.x, membrane.y, 0}) * 6.5F;
        const std::array<float, 8> near =
            atlas.heart.distances(scene.heart.to_canonical(scene.root_frame.transposed(pouch_centre_)));
        const int chamber = near[kRa] < near[kRv] + 2 ? kRa : kRv;
        if (near[chamber] * shrink_ - scene.grow[chamber] < 8) pouch_ = chamber;
    }

    struct Voxel {
        float hu = -1000;
        std::uint8_t heart = 0;
    };

    /// Distance to the heart's outer surface, without the tubes.
    float surface(Vec p) const {
        const std::array<float, 8> shape = atlas_.heart.distances(s_.heart.to_canonical(p));
        float d[kChambers], passage = kFar;
        for (int c = 0; c < kChambers; ++c) d[c] = shape[c] * shrink_ - s_.grow[c];
        float near = carve(p, kFar, d, passage);
        for (int c = 0; c < kAo; ++c) near = std::min(near, d[c] - s_.wall_thin);
        return std::min({near, d[kPa] - 1.5F, d[kAo] - 1.5F});
    }

    float inside(float distance) const { return soft_inside(distance, slope_); }

    /// @param chest  the place in the chest, which stays where a gating step displaces the heart at p
    Voxel at(Vec chest, Vec p, const TubeFields& tubes, std::size_t i) const {
        const TissueLevels& l = s_.levels;
        Voxel v{s_.real_chest.chest < 0
                    ? chest_hu(s_, chest)
                    : real_chest_hu(atlas_.chests[static_cast<std::size_t>(s_.real_chest.chest)], s_, chest),
                0};
        const auto tube = [&](TubeKind kind) { return tubes.distance[kind][i]; };
        // Tissue round airways, gullet and vessels of the mediastinum.
        v.hu = mix(v.hu, -880, inside(tube(kTubeAirway)));
        if (tube(kTubeAirway) > 0) v.hu = mix(v.hu, l.soft, inside(tube(kTubeAirway) - 1.5F));
        v.hu = mix(v.hu, l.soft - 10, inside(tube(kTubeEsophagus)));
        if (tube(kTubeEsophagus) < -3.5F && blood_noise_.at(p) > 0.25F) v.hu = -600;

        // Distances to the heart's parts, mm.
        const Vec u = s_.heart.to_canonical(p);
        const std::array<float, 8> shape = atlas_.heart.distances(u);
        float d[kChambers];
        for (int c = 0; c < kChambers; ++c) d[c] = shape[c] * shrink_ - s_.grow[c];
        if (s_.edition >= 3 && tube(kTubeCoronary) < 4) {  // chambers make room for arteries
            for (const int c : {kLv, kRv, kLa, kRa, kPa}) d[c] = std::max(d[c], 1.0F - tube(kTubeCoronary));
        }
        const float vessel = tube(kTubeAorta);
        float passage = kFar;
        const float myocardium = carve(p, vessel, d, passage);
        const float aorta = d[kAo];

        float near_heart = myocardium;
        for (int c = 0; c < kAo; ++c) near_heart = std::min(near_heart, d[c] - s_.wall_thin);
        near_heart = std::min(near_heart, d[kPa] - 1.5F);
        if (near_heart < 25) {
            float fat = near_heart - s_.pericardial_fat * std::max(0.1F, 1 + 1.2F * fat_noise_.at(p));
            if (s_.edition >= 3) fat = std::min(fat, tube(kTubeCoronary) - 2.5F);
            v.hu = mix(v.hu, l.fat + 8 * wall_noise_.at(p), inside(fat));
        }
        const auto blood = [&](TubeKind kind, float hu) {
            v.hu = mix(v.hu, l.soft, inside(tube(kind) - 1.0F));
            v.hu = mix(v.hu, hu, inside(tube(kind)));
        };
        const float mixing = mix_noise_.at(p);
        const float cava = l.cava + l.mixing_cava * mixing;
        if (tube(kTubePulmonaryArtery) < 3) blood(kTubePulmonaryArtery, l.pa);
        if (tube(kTubePulmonaryVein) < 3) blood(kTubePulmonaryVein, l.la);
        if (tube(kTubeCava) < 3) {
            const float low = refined_ ? l.cava_low : mix(l.ra, l.soft + 40, 0.6F);
            blood(kTubeCava, p.z < -30 ? low : cava);
        }
        if (refined_ && tube(kTubeAzygos) < 3) blood(kTubeAzygos, l.azygos);
        v.hu = mix(v.hu, l.soft + 15, inside(near_heart));
        v.hu = mix(v.hu, l.myocardium + 12 * wall_noise_.at(p), inside(myocardium));

        // Blood of the chambers. The venous stumps of the shape carry blood but no label.
        const float swirl = blood_noise_.at(p);
        const float ra_share = smooth_step(6, 30, u.z);
        const float level[kChambers] = {l.lv + 0.02F * l.lv * swirl,
                                        l.rv + l.mixing_rv * mixing,
                                        l.la,
                                        mix(l.ra + l.mixing_ra * (0.6F * mixing + 0.4F * swirl), cava, ra_share),
                                        0,
                                        l.pa};
        for (const int c : {kRa, kRv, kPa, kLa, kLv}) v.hu = mix(v.hu, level[c], inside(d[c]));
        if (s_.edition >= 3) {
            if (tube(kTubeCoronary) < 3) {
                v.hu = mix(v.hu, l.soft, 0.8F * inside(tube(kTubeCoronary) - 0.5F));
                v.hu = mix(v.hu, l.aorta, inside(tube(kTubeCoronary)));
            }
        } else if (tube(kTubeCoronary) < 2) {
            v.hu = mix(v.hu, l.aorta, 0.95F * clamp01(0.7F - tube(kTubeCoronary) * 0.6F));
        }
        if (tube(kTubeArchBranch) < 3) blood(kTubeArchBranch, l.aorta);
        if (refined_ && std::min(aorta, passage) < 4) {
            // One lumen from the outflow tract to the aorta: where the labels meet there is nothing to be seen.
            v.hu = mix(v.hu, l.soft + 10, inside(aorta - 1.6F) * (1 - inside(std::min(passage, d[kLv]))));
            const float root_level = mix(l.lv, l.aorta, smooth_step(-5, 5, dot(s_.root_frame.rows[2], p)));
            v.hu = mix(v.hu,
                       vessel < aorta + 0.01F ? aorta_hu(s_, p, tubes.aorta_offset[i], tubes.aorta_radius[i], vessel)
                                              : root_level,
                       inside(std::min(aorta, passage)));
        } else if (!refined_ && aorta < 4) {
            v.hu = mix(v.hu, l.soft + 10, inside(aorta - 1.6F));
            v.hu = mix(v.hu,
                       vessel < aorta + 0.01F ? aorta_hu(s_, p, tubes.aorta_offset[i], tubes.aorta_radius[i], vessel)
                                              : l.aorta,
                       inside(aorta));
        }
        if (refined_ && tube(kTubeLead) < 2) v.hu = mix(v.hu, 3000, inside(tube(kTubeLead)));

        // Labels from the same distances: aorta first, then the chamber the voxel lies deepest in, then myocardium.
        if (aorta < 0) {
            v.heart = 6;
        } else {
            constexpr std::uint8_t kLabel[kChambers] = {3, 5, 2, 4, 6, 7};
            float deepest = 0;
            for (const int c : {kLv, kRv, kLa, kRa, kPa}) {
                if (d[c] >= deepest) continue;
                deepest = d[c];
                v.heart = kLabel[c];
            }
            if (v.heart == 4 && (u.z > 24 || u.z < -50)) v.heart = 0;  // caval veins
            if (deepest == 0 && myocardium < 0) v.heart = 1;
        }
        return v;
    }

    /// The closed leaflets, thin and dark, at a place in the root.
    float leaflet_share(Vec p) const {
        const Vec q = s_.root_frame.apply(p);
        if (refined_) {
            const float half = s_.valve.half_thickness;
            const float peak = std::min(1.0F, 2 * half * slope_ + 0.15F);  // thinner than an edge: a share of the voxel
            return peak * soft_inside(valve_distance(s_.root, s_.valve, q) - half, slope_ * 0.8F);
        }
        if (q.z < -3 || q.z > s_.root.junction_height + 2) return 0;
        const float angle = std::atan2(q.y, q.x), radius = s_.root.radius(angle, q.z),
                    rho = std::hypot(q.x, q.y) / radius;
        if (rho > 1) return 0;
        const float away = std::abs(q.z - s_.root.leaflet_height(angle, rho)) * 0.8F;
        return clamp01((s_.leaflet_thickness + 1 - away) * 0.5F) * std::min(1.0F, s_.leaflet_thickness * 0.6F);
    }

private:
    /// Fits root, outflow tract, septum and walls into the shape's distances; returns the distance to the myocardium
    /// of the left ventricle (its outer surface). passage: distance to the lumen between outflow tract and root.
    float carve(Vec p, float vessel, float (&d)[kChambers], float& passage) const {
        const Vec q = s_.root_frame.apply(p);
        const float h = q.z, rho = std::hypot(q.x, q.y), top = s_.root.junction_height + 1;
        const float from_origin = length(p);
        d[kAo] = vessel;
        float septum = s_.septum, wall = s_.wall_lv * (1 + 0.25F * wall_noise_.at(p));
        if (from_origin < 60) {
            const float angle = std::atan2(q.y, q.x);
            const float radius = s_.root.radius(angle, std::clamp(h, -16.0F, top)), lateral = rho - radius;
            const float root = std::max({lateral, -h, h - top}), outflow = std::max({lateral, h, -h - 16});
            // Inside the root's cylinder the tube of the ascending aorta only counts above the junction.
            if (h < top - 2 && lateral < 12) d[kAo] = kFar;
            d[kAo] = std::min(d[kAo], root);
            d[kLv] = std::max(std::min(d[kLv], outflow), std::min(h, 10 - lateral));
            passage = std::max(lateral, std::abs(h) - 6);
            const float trunk = std::max({lateral, -h - 16, h - top});
            for (const int c : {kRv, kLa, kRa, kPa}) d[c] = std::max(d[c], 2.2F - trunk);
            // The septum is a membrane between upper and lower septum point, muscle below.
            const Vec a = s_.root.septum_upper, ab = s_.root.septum_lower - a;
            const float t = clamp01(dot(q - a, ab) / std::max(dot(ab, ab), 1e-6F));
            const float to_membrane = length(q - (a + ab * t));
            const float muscle = smooth_step(1.5F, 8, to_membrane) * smooth_step(3, -9, h);
            septum = mix(1.8F, septum, muscle);
            wall = mix(1.8F, wall, muscle);
            if (pouch_ != kChambers && lateral > 0) {
                // The membranous septum has the right heart on its other side: only a thin membrane between.
                const float pouch = std::max(length(q - pouch_centre_) - 5.5F, 1.2F - lateral), k = 4;
                const float blend = std::max(k - std::abs(d[pouch_] - pouch), 0.0F) / k;
                d[pouch_] = std::max(std::min(d[pouch_], pouch) - blend * blend * k / 4, 1.2F - lateral);
            }
        }
        d[kRv] = std::max(d[kRv], septum - d[kLv]);
        d[kRa] = std::max(d[kRa], 2.0F - std::min(d[kLv], d[kLa]));
        for (const int c : {kLv, kRv, kLa, kRa, kPa}) d[c] = std::max(d[c], 1.5F - d[kAo] * (c == kLv ? kFar : 1.0F));
        d[kLa] = std::max(d[kLa], 1.6F - d[kPa]);
        // No muscle where the ventricle opens to the atrium.
        wall = mix(1.2F, wall, smooth_step(1, 9, d[kLa]));
        return d[kLv] - wall;
    }

    const PhantomAtlas& atlas_;
    const Scene& s_;
    bool refined_;
    float slope_;
    int pouch_ = kChambers;  ///< the chamber behind the membranous septum; kChambers: none is near
    Vec pouch_centre_;       ///< root frame
    SmoothNoise wall_noise_, fat_noise_, mix_noise_, blood_noise_;
    float shrink_;
};

}  // namespace

std::function<float(Vec)> heart_surface(const PhantomAtlas& atlas, const Scene& scene) {
    return [painter = std::make_shared<Painter>(atlas, scene, 1.0F)](Vec p) { return painter->surface(p); };
}

namespace {

void draw_balls(const PhantomGrid& grid, Vec centre, float radius, std::uint8_t value,
                std::vector<std::uint8_t>& labels) {
    const Vec c = (centre - grid.origin) * (1.0F / grid.spacing);
    const float r = radius / grid.spacing;
    const auto low = [&](float v) { return std::max(0, static_cast<int>(std::ceil(v - r))); };
    const auto high = [&](float v, int size) { return std::min(size - 1, static_cast<int>(std::floor(v + r))); };
    for (int z = low(c.z); z <= high(c.z, grid.size[0]); ++z) {
        for (int y = low(c.y); y <= high(c.y, grid.size[1]); ++y) {
            for (int x = low(c.x); x <= high(c.x, grid.size[2]); ++x) {
                if (length(Vec{static_cast<float>(x), static_cast<float>(y), static_cast<float>(z)} - c) > r) continue;
                labels[(static_cast<std::size_t>(z) * grid.size[1] + y) * grid.size[2] + x] = value;
            }
        }
    }
}

}  // namespace

Phantom draw_phantom(const PhantomAtlas& atlas, std::uint64_t seed, const PhantomGrid& grid,
                     const PhantomOptions& options) {
    const Scene scene = sample_scene(atlas, seed, options);
    Phantom phantom;
    phantom.grid = grid;
    phantom.contrast = scene.contrast;
    phantom.profile = scene.profile;
    phantom.phase = scene.phase;
    phantom.annulus_normal = scene.root_frame.rows[2];
    phantom.hu.resize(grid.voxels());
    for (auto* labels : {&phantom.heart, &phantom.hps, &phantom.ms, &phantom.calc}) labels->assign(grid.voxels(), 0);
    TubeFields tubes = draw_tubes(scene, grid);
    phantom.coronaries = std::move(tubes.coronary);
    const Painter painter(atlas, scene, grid.spacing);
    std::vector<const Blob*> near_blobs;
    std::size_t i = 0;
    for (int z = 0; z < grid.size[0]; ++z) {
        for (int y = 0; y < grid.size[1]; ++y) {
            near_blobs.clear();
            const Vec chest_row = grid.origin + Vec{0, static_cast<float>(y), static_cast<float>(z)} * grid.spacing;
            const Vec row = scene.acquisition.source_of(chest_row);
            for (const Blob& blob : scene.blobs) {
                if (std::abs(blob.at.y - row.y) < blob.radius + 3 && std::abs(blob.at.z - row.z) < blob.radius + 3)
                    near_blobs.push_back(&blob);
            }
            for (int x = 0; x < grid.size[2]; ++x, ++i) {
                const Vec along{static_cast<float>(x) * grid.spacing, 0, 0}, chest = chest_row + along, p = row + along;
                Painter::Voxel v = painter.at(chest, p, tubes, i);
                if (scene.contrast && dot(p, p) < 45 * 45) v.hu = mix(v.hu, scene.leaflet_hu, painter.leaflet_share(p));
                for (const Blob* blob : near_blobs) {
                    const float distance = length(p - blob->at) - blob->radius;
                    v.hu = mix(v.hu, std::max(v.hu, blob->hu), painter.inside(distance));
                    if (blob->valve && distance < 0.35F) phantom.calc[i] = 1;
                }
                phantom.hu[i] = v.hu;
                phantom.heart[i] = v.heart;
            }
        }
    }

    const auto point = [&](const char* head, const char* name, int value, Vec in_root) {
        const Vec at = scene.acquisition.seen_at(scene.root_frame.transposed(in_root));
        const Vec c = (at - grid.origin) * (1.0F / grid.spacing);
        const bool is_inside = c.x >= 0 && c.y >= 0 && c.z >= 0 && c.x <= static_cast<float>(grid.size[2] - 1) &&
                               c.y <= static_cast<float>(grid.size[1] - 1) &&
                               c.z <= static_cast<float>(grid.size[0] - 1);
        phantom.points.push_back({head, name, value, at, is_inside});
    };
    const AorticRoot& root = scene.root;
    point("hps", "hinge_right", 1, root.nadirs[kRight]);
    point("hps", "hinge_left", 2, root.nadirs[kLeft]);
    point("hps", "hinge_noncoronary", 3, root.nadirs[kNoncoronary]);
    point("hps", "ostium_right", 4, root.ostia[0]);
    point("hps", "ostium_left", 5, root.ostia[1]);
    point("ms", "septum_upper", 1, root.septum_upper);
    point("ms", "septum_lower", 2, root.septum_lower);
    if (scene.contrast) {
        for (const PhantomPoint& p : phantom.points) {
            const bool septum = p.head == "ms";
            draw_balls(grid, p.at, septum ? options.septum_ball_radius_mm : options.ball_radius_mm,
                       static_cast<std::uint8_t>(p.value), septum ? phantom.ms : phantom.hps);
        }
    }
    if (scene.edition >= 2) acquire_by_profile(scene.acquisition, seed, phantom);
    else acquire(scene.acquisition, seed, phantom);
    if (scene.contrast) {  // where the scan does not reach, there is nothing to find
        for (PhantomPoint& p : phantom.points) {
            if (!p.inside) continue;
            const Vec c = (p.at - grid.origin) * (1.0F / grid.spacing) + Vec{0.5F, 0.5F, 0.5F};
            const std::size_t voxel =
                (static_cast<std::size_t>(c.z) * grid.size[1] + static_cast<std::size_t>(c.y)) * grid.size[2] +
                static_cast<std::size_t>(c.x);
            p.inside = (p.head == "ms" ? phantom.ms : phantom.hps)[voxel] != 0;
        }
    }
    return phantom;
}

}  // namespace cardionode::train
