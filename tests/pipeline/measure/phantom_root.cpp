#include "tests/pipeline/measure/phantom_root.h"

#include <algorithm>
#include <cmath>

#include "models/train/smooth_noise.h"
#include "pipeline/measure/root_sections.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode::test {
namespace {

Grid grid_of(const train::PhantomGrid& g) {
    return Grid::create({{g.origin.x, g.origin.y, g.origin.z}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}},
                        {g.spacing, g.spacing, g.spacing}, {g.size[2], g.size[1], g.size[0]})
        .value();
}

PatientPoint to_point(train::Vec p) { return {{p.x, p.y, p.z}}; }

}  // namespace

PhantomRoot phantom_root(const train::PhantomAtlas& atlas, std::uint64_t seed, float spacing, int side, float label_mm,
                         float ragged_mm) {
    train::PhantomOptions options;
    options.non_contrast = 0;
    const train::Vec middle{0, 4, 10};
    const auto drawn = train::PhantomGrid::around(middle, {side, side, side}, spacing);
    train::Phantom phantom = train::draw_phantom(atlas, seed, drawn, options);
    const Grid grid = grid_of(drawn);
    std::vector<std::uint8_t> heart = phantom.heart;
    if (label_mm > 0) {
        const int coarse_side = static_cast<int>(std::ceil(static_cast<float>(side) * spacing / label_mm));
        const auto coarse = train::PhantomGrid::around(middle, {coarse_side, coarse_side, coarse_side}, label_mm);
        const train::Phantom other = train::draw_phantom(atlas, seed, coarse, options);
        const LabelMap map(grid_of(coarse), std::vector<std::uint8_t>(other.heart));
        train::SmoothNoise shift[3] = {{seed + 1, 4.0F}, {seed + 2, 4.0F}, {seed + 3, 4.0F}};
        for (std::int64_t o = 0; o < grid.voxel_count(); ++o) {
            const auto& size = grid.size();
            PatientPoint p = grid.to_patient(VoxelIndex{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}});
            const train::Vec at{static_cast<float>(p.lps_mm[0]), static_cast<float>(p.lps_mm[1]),
                                static_cast<float>(p.lps_mm[2])};
            for (int a = 0; a < 3; ++a) p.lps_mm[a] += 2.5 * ragged_mm * shift[a].at(at);
            const auto there = map.grid.nearest_voxel(p);
            heart[static_cast<std::size_t>(o)] = there ? map.at(*there) : std::uint8_t{0};
        }
    }
    PhantomRoot root{Volume(grid, std::move(phantom.hu)), {}, train::sample_scene(atlas, seed, options), drawn};
    Segment ventricle, aorta;
    ventricle.label = 3;
    ventricle.name = "left_ventricle";
    aorta.label = 6;
    aorta.name = "aorta";
    root.findings.groups.push_back({"heart", "Heart", LabelMap(grid, std::move(heart)), {ventricle, aorta}});
    Vec3 sum{};
    for (const train::PhantomPoint& p : phantom.points) {
        Landmark l;
        l.name = l.title = p.name;
        l.position = to_point(p.at);
        if (l.name.starts_with("hinge_")) sum = add(sum, l.position->lps_mm);
        root.findings.landmarks.push_back(l);
    }
    const train::Vec n = phantom.annulus_normal;
    root.findings.annular_plane = Plane{{scale(sum, 1.0 / 3)}, {n.x, n.y, n.z}};
    if (!phantom.calc.empty()) {
        LabelMap calcium(grid, std::vector<std::uint8_t>(phantom.calc));
        Segment segment;
        segment.label = 1;
        segment.name = "valve_calcium";
        root.findings.groups.push_back({"valve_calcium", "Calcium", std::move(calcium), {segment}});
    }
    return root;
}

std::map<std::string, double> truth_of(const PhantomRoot& phantom) {
    const train::AorticRoot& root = phantom.scene.root;
    // Root frame: z from the annulus to the junction.
    const auto outline_at = [&](float height) {
        LumenContour c;
        c.frame.origin = to_point(phantom.scene.root_frame.transposed({0, 0, height}));
        const auto axis = [&](train::Vec v) { return to_point(phantom.scene.root_frame.transposed(v)).lps_mm; };
        c.frame.u = axis({1, 0, 0});
        c.frame.v = axis({0, 1, 0});
        c.frame.n = axis({0, 0, 1});
        for (int i = 0; i < LumenContour::kPoints; ++i) {
            c.radius_mm.push_back(root.radius(static_cast<float>(2 * M_PI * i / LumenContour::kPoints), height));
        }
        return c;
    };
    const auto area = [](const LumenContour& c) {
        double sum = 0;
        for (const double r : c.radius_mm) sum += r * r * M_PI / LumenContour::kPoints;
        return sum;
    };
    const auto calipers = [](const LumenContour& c) {
        std::pair<double, double> d{1e9, 0};
        for (int t = 0; t < 360; ++t) {
            double low = 1e9, high = -1e9;
            for (int i = 0; i < LumenContour::kPoints; ++i) {
                const double along = c.radius_mm[i] * std::cos((2 * i - t) * M_PI / 360);
                low = std::min(low, along);
                high = std::max(high, along);
            }
            d = {std::min(d.first, high - low), std::max(d.second, high - low)};
        }
        return d;
    };
    const auto perimeter = [](const LumenContour& c) {
        double sum = 0;
        for (int i = 0; i < LumenContour::kPoints; ++i) {
            sum += distance_mm(c.point_at(i * M_PI / 180), c.point_at((i + 1) * M_PI / 180));
        }
        return sum;
    };
    std::map<std::string, double> truth;
    const LumenContour annulus = outline_at(0.01F);
    // The atlas's ventricle may be wider than the drawn outflow tract, right below the plane: then the annulus has no
    // one true outline.
    const LumenTracer labels(nullptr, phantom.findings.groups.front().labels, {3, 6});
    const auto below = labels.trace({annulus.frame.at(0, 0), annulus.frame.n});
    if (below && std::abs(below->area_mm2 / area(annulus) - 1) < 0.04) {
        truth["annulus_area_mm2"] = area(annulus);
        truth["annulus_perimeter_mm"] = perimeter(annulus);
        truth["annulus_min_diameter_mm"] = calipers(annulus).first;
        truth["annulus_max_diameter_mm"] = calipers(annulus).second;
    }
    const LumenContour junction = outline_at(root.junction_height);
    LumenContour widest = outline_at(3);
    for (float h = 3; h < root.junction_height; h += 0.25F) {
        if (area(outline_at(h)) > area(widest)) widest = outline_at(h);
    }
    std::array<PatientPoint, 3> hinges;
    for (std::size_t h = 0; h < 3; ++h) hinges[h] = *phantom.findings.landmark(names::kHinges[h])->position;
    // Not every drawn root narrows, and some aortas begin narrower than their root's top.
    float tube = 0;
    for (const train::Tube& t : phantom.scene.tubes) {
        if (t.kind != train::kTubeAorta) continue;
        for (const train::TubeNode& node : t.nodes) {
            const train::Vec q = phantom.scene.root_frame.apply(node.at);
            if (q.z > root.junction_height && q.z < root.junction_height + 12 && std::hypot(q.x, q.y) < 25) {
                tube = tube == 0 ? node.radius : std::min(tube, node.radius);
            }
        }
    }
    if (area(junction) < 0.95 * area(widest) && M_PI * tube * tube > 0.97 * area(junction)) {
        truth["junction_height_mm"] = root.junction_height;
        truth["junction_mean_diameter_mm"] = 2 * std::sqrt(area(junction) / M_PI);
        truth["junction_min_diameter_mm"] = calipers(junction).first;
        truth["junction_max_diameter_mm"] = calipers(junction).second;
    }
    const auto d = sinus_diameters(widest, hinges);
    truth["sinus_right_mm"] = d[0];
    truth["sinus_left_mm"] = d[1];
    truth["sinus_noncoronary_mm"] = d[2];
    truth["sinus_mean_mm"] = (d[0] + d[1] + d[2]) / 3;
    truth["sinus_max_mm"] = std::max({d[0], d[1], d[2]});
    truth["left_ostium_height_mm"] = root.ostia[1].z;
    truth["right_ostium_height_mm"] = root.ostia[0].z;
    truth["septum_depth_mm"] = -root.septum_lower.z;
    return truth;
}

}  // namespace cardionode::test
