#include "pipeline/evaluate/phantom_truth.h"

#include <cmath>

#include "pipeline/measure/measure.h"
#include "pipeline/postprocess/calcium.h"
#include "pipeline/postprocess/label_maps.h"
#include "pipeline/postprocess/plausibility.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

PatientPoint place(train::Vec v) { return {{v.x, v.y, v.z}}; }

SegmentGroup group_of(std::string name, LabelMap labels, const std::vector<const char*>& classes) {
    SegmentGroup group{std::move(name), "", std::move(labels), {}};
    const auto counts = count_labels(group.labels);
    for (std::size_t c = 0; c < classes.size(); ++c) {
        Segment segment;
        segment.label = static_cast<int>(c + 1);
        segment.name = segment.title = classes[c];
        if (counts[c + 1] > 0) {
            segment.volume_ml = static_cast<double>(counts[c + 1]) * group.labels.grid.voxel_volume_mm3() / 1000;
        }
        group.segments.push_back(std::move(segment));
    }
    return group;
}

/// Median HU of the true aorta within 25 mm of the annulus: what the node measures on its own labels.
std::optional<double> lumen_hu(const Volume& ct, const LabelMap& heart, int aorta, const PatientPoint& centre) {
    LabelMap near(heart.grid, std::uint8_t{0});
    const auto& size = heart.grid.size();
    for (std::int64_t o = 0; o < heart.grid.voxel_count(); ++o) {
        if (heart.voxels[static_cast<std::size_t>(o)] != aorta) continue;
        const VoxelIndex v{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        if (distance_mm(heart.grid.to_patient(v), centre) <= 25) near.voxels[static_cast<std::size_t>(o)] = 1;
    }
    return median_hu(ct, near, {1});
}

/// One channel of zeros and ones a label, as a network would give it that is always right.
HeadProbabilities certain(const LabelMap& labels) {
    HeadProbabilities head{std::string(names::kCalciumHead),
                           {ScoreMap(labels.grid, 0.0F), ScoreMap(labels.grid, 0.0F)}};
    for (std::size_t v = 0; v < labels.voxels.size(); ++v) head.channels[labels.voxels[v] != 0].voxels[v] = 1;
    return head;
}

}  // namespace

Result<Volume> ct_of(const train::Phantom& phantom) {
    const train::PhantomGrid& g = phantom.grid;
    const double s = g.spacing;
    auto grid = Grid::create(place(g.origin), {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {s, s, s},
                             {g.size[2], g.size[1], g.size[0]});
    if (!grid) return std::move(grid).error();
    std::vector<float> hu(phantom.hu.size());
    for (std::size_t v = 0; v < hu.size(); ++v) hu[v] = std::round(phantom.hu[v]);
    return Volume(*grid, std::move(hu));
}

Result<Findings> truth_of(const train::Phantom& phantom, const Volume& ct, const BundleManifest& manifest) {
    Findings truth;
    int aorta = 0;
    for (const train::PhantomHead& head : train::phantom_heads()) {
        if (head.name != names::kHeartHead) continue;
        for (std::size_t c = 0; c < head.classes.size(); ++c) {
            if (head.classes[c] == names::kAorta) aorta = static_cast<int>(c + 1);
        }
        truth.groups.push_back(
            group_of(std::string(names::kHeartHead), LabelMap(ct.grid, phantom.heart), head.classes));
    }
    for (const train::PhantomPoint& p : phantom.points) {
        Landmark landmark;
        landmark.name = landmark.title = p.name;
        if (p.inside && phantom.contrast) landmark.position = place(p.at);
        truth.landmarks.push_back(std::move(landmark));
    }
    const auto centre = hinge_centroid(truth.landmarks);
    if (centre) truth.annular_plane = Plane{*centre, normalised(place(phantom.annulus_normal).lps_mm)};

    const LabelMap region(ct.grid, phantom.calc);
    CalciumContext context{"there is no annulus", 0, in_words(manifest.calcium)};
    if (centre) {
        const auto lumen = lumen_hu(ct, truth.groups.front().labels, aorta, *centre);
        const auto threshold = calcium_threshold(manifest.calcium, lumen);
        if (!threshold && threshold.error().kind == ErrorKind::Config) return threshold.error();
        if (threshold) {
            std::vector<PatientPoint> hinges;
            for (const std::string_view name : names::kHinges) hinges.push_back(*truth.landmark(name)->position);
            auto calcium = find_calcium(certain(region), manifest.calcium, ct, hinges, lumen);
            if (!calcium) return std::move(calcium).error();
            truth.groups.push_back(
                group_of(std::string(names::kValveCalcium), std::move(*calcium), {names::kValveCalcium.data()}));
            context.not_measured_why.clear();
            context.threshold_hu = *threshold;
        }
    }
    MeasureRules exact;
    exact.samples = 0;  // the points are the truth
    truth.measurements = measure(truth, ct, context, exact).measurements;
    // After measuring, which knows nothing of it.
    truth.groups.push_back(group_of(std::string(kCalciumRegion), region, {kCalciumRegion.data()}));
    return truth;
}

}  // namespace cardionode
