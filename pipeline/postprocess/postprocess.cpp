#include "pipeline/postprocess/postprocess.h"

#include <algorithm>

#include <fmt/format.h>

#include "pipeline/postprocess/calcium.h"
#include "pipeline/postprocess/components.h"
#include "pipeline/postprocess/label_maps.h"
#include "pipeline/postprocess/landmarks.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

Code to_code(const CodeManifest& code) { return {code.value, code.scheme, code.meaning}; }

/// Of the second look's labels: this near to the window's border they are not used.
constexpr double kWindowMarginVoxels = 4;

const HeadProbabilities* head_of(const std::vector<HeadProbabilities>& heads, std::string_view name) {
    for (const HeadProbabilities& h : heads) {
        if (h.head == name) return &h;
    }
    return nullptr;
}

/// Of the second look; null where there was none, or one without this head.
const HeadProbabilities* second_head_of(const Prediction& prediction, std::string_view name) {
    return prediction.second ? head_of(prediction.second->heads, name) : nullptr;
}

bool fits(const HeadManifest& head, const HeadProbabilities& probabilities) {
    return std::all_of(head.classes.begin(), head.classes.end(), [&](const ClassManifest& c) {
        return c.value >= 1 && c.value < static_cast<int>(probabilities.channels.size());
    });
}

/// Values of the named classes; those that the head does not have are left out.
template <class Names>
std::vector<int> values_of(const HeadManifest& head, const Names& wanted) {
    std::vector<int> values;
    for (const ClassManifest& c : head.classes) {
        if (std::find(std::begin(wanted), std::end(wanted), c.name) != std::end(wanted)) values.push_back(c.value);
    }
    return values;
}

SegmentGroup to_group(std::string name, const HeadManifest& head, LabelMap labels) {
    const auto counts = count_labels(labels);
    SegmentGroup group{std::move(name), head.title, std::move(labels), {}};
    for (const ClassManifest& c : head.classes) {
        Segment segment;
        segment.label = c.value;
        segment.name = c.name;
        segment.title = c.title;
        segment.category = to_code(c.category);
        segment.type = to_code(c.code);
        segment.rgb = c.rgb;
        if (counts[c.value] > 0) {
            segment.volume_ml = static_cast<double>(counts[c.value]) * group.labels.grid.voxel_volume_mm3() / 1000;
        }
        group.segments.push_back(std::move(segment));
    }
    return group;
}

struct Heart {
    const HeadManifest* head = nullptr;
    LabelMap network;           ///< on the network's grid
    std::vector<int> root;      ///< values of left ventricle and aorta
    std::string not_found_why;  ///< empty: found, and its group stands first among the findings
};

/// Median HU of aorta voxels within 25 mm of the centre of the hinge points.
std::optional<double> root_lumen_hu(const Volume& ct, const LabelMap& heart, int aorta, PatientPoint centre) {
    constexpr double kNearMm = 25;
    LabelMap near(heart.grid, std::uint8_t{0});
    const auto& size = heart.grid.size();
    for (std::int64_t o = 0; o < heart.grid.voxel_count(); ++o) {
        if (heart.voxels[o] != aorta) continue;
        const VoxelIndex v{{o % size[0], o / size[0] % size[1], o / (size[0] * size[1])}};
        if (distance_mm(heart.grid.to_patient(v), centre) <= kNearMm) near.voxels[o] = 1;
    }
    return median_hu(ct, near, {1});
}

/// The heart labels of both grids. Its group enters the findings only where the volume can be that of a heart: a
/// label map of something else would be drawn over the patient's images.
Result<Heart> add_heart(Findings& findings, const Volume& ct, const Prediction& prediction,
                        const BundleManifest& manifest, const PostprocessRules& rules) {
    const HeadManifest* head = manifest.head(std::string(names::kHeartHead));
    const HeadProbabilities* probabilities = head_of(prediction.heads, names::kHeartHead);
    const HeadProbabilities* finer = second_head_of(prediction, names::kHeartHead);
    if (!head || !probabilities) return config_error("the model bundle has no head \"heart\"");
    if (!fits(*head, *probabilities) || (finer && !fits(*head, *finer))) {
        return bug_error("head heart gave fewer channels than the manifest has classes");
    }
    auto network = largest_pieces(*probabilities);
    if (!network) return std::move(network).error();
    auto native = onto_grid(*probabilities, *network, ct.grid);
    if (!native) return std::move(native).error();
    if (finer) {
        if (auto put = put_window(*finer, kWindowMarginVoxels, *native); !put) return std::move(put).error();
    }
    SegmentGroup group = to_group(std::string(names::kHeartHead), *head, std::move(*native));
    double heart_ml = 0;
    for (const Segment& s : group.segments) {
        if (std::find(names::kHeartParts.begin(), names::kHeartParts.end(), s.name) != names::kHeartParts.end()) {
            heart_ml += s.volume_ml.value_or(0);
        }
    }
    Heart heart{head, std::move(*network), values_of(*head, std::array{names::kLeftVentricle, names::kAorta}), {}};
    if (heart_ml < rules.min_heart_ml || heart_ml > rules.max_heart_ml) {
        heart.not_found_why =
            fmt::format("no heart found (the model marked {:.0f} ml as heart, {:.0f} to {:.0f} ml are plausible)",
                        heart_ml, rules.min_heart_ml, rules.max_heart_ml);
    } else {
        findings.groups.push_back(std::move(group));
    }
    return heart;
}

/// Why no point may be used: no heart, or no contrast agent, for which the model was made. None: they may.
std::optional<std::string> unusable(const Volume& ct, const Findings& findings, const Heart& heart,
                                    const PostprocessRules& rules) {
    if (!heart.not_found_why.empty()) return heart.not_found_why;
    const auto hu = median_hu(ct, findings.groups.front().labels, heart.root);
    if (!hu) return "neither aorta nor left ventricle was found";
    if (*hu >= rules.min_contrast_hu) return std::nullopt;
    return fmt::format(
        "no contrast agent seen (median {:.0f} HU in left ventricle and aorta, at least {:.0f} HU are needed)", *hu,
        rules.min_contrast_hu);
}

constexpr double kWorthTellingMm3 = 20;

double volume_mm3(const LabelMap& calcium) {
    const Vec3& spacing = calcium.grid.spacing();
    const auto voxels = std::count(calcium.voxels.begin(), calcium.voxels.end(), std::uint8_t{1});
    return static_cast<double>(voxels) * spacing[0] * spacing[1] * spacing[2];
}

/// Adds the group of the calcium head, or says why it cannot be measured.
Result<void> add_calcium(Postprocessed& done, const Volume& ct, const Prediction& prediction,
                         const BundleManifest& manifest, const Heart& heart,
                         const std::optional<std::string>& why_not) {
    const HeadManifest* head = manifest.head(std::string(names::kCalciumHead));
    const HeadProbabilities* probabilities = second_head_of(prediction, names::kCalciumHead);
    if (!probabilities) probabilities = head_of(prediction.heads, names::kCalciumHead);
    const auto centre = hinge_centroid(done.findings.landmarks);
    if (!head || !probabilities) {
        done.no_calcium_why = "the model does not mark valve calcium";
    } else if (why_not) {
        done.no_calcium_why = *why_not;
    } else if (!centre) {
        done.no_calcium_why = "the hinge points were not found";
    }
    if (!done.no_calcium_why.empty()) return {};

    std::optional<double> lumen;
    const auto aorta = values_of(*heart.head, std::array{names::kAorta});
    if (!aorta.empty()) lumen = root_lumen_hu(ct, done.findings.groups.front().labels, aorta.front(), *centre);
    const auto threshold = calcium_threshold(manifest.calcium, lumen);
    if (!threshold) {
        if (threshold.error().kind == ErrorKind::Config) return threshold.error();
        done.no_calcium_why = threshold.error().message;
        return {};
    }
    std::vector<PatientPoint> hinges;
    for (const std::string_view name : names::kHinges) hinges.push_back(*done.findings.landmark(name)->position);
    auto calcium = find_calcium(*probabilities, manifest.calcium, ct, hinges, lumen);
    if (!calcium) return std::move(calcium).error();
    done.calcium_threshold_hu = *threshold;
    if (const auto other = other_threshold(manifest.calcium, lumen)) {
        const auto beyond =
            find_calcium(*probabilities, {"fixed", *other, manifest.calcium.dilate_mm}, ct, hinges, lumen);
        if (!beyond) return beyond.error();
        const double here = volume_mm3(*calcium), there = volume_mm3(*beyond);
        if (std::max(here, there) >= kWorthTellingMm3) {
            done.findings.warnings.push_back(
                fmt::format("the blood in the aortic root has {:.0f} HU, near the 300 HU at which the rule for calcium "
                            "changes its threshold: {:.0f} mm3 at {:.0f} HU, {:.0f} mm3 at {:.0f} HU",
                            *lumen, here, *threshold, there, *other));
        }
    }
    done.findings.groups.push_back(to_group(std::string(names::kValveCalcium), *head, std::move(*calcium)));
    return {};
}

/// All points of the manifest, each from the look that saw it best.
Result<std::vector<Landmark>> find_landmarks(const Prediction& prediction, const BundleManifest& manifest,
                                             double min_confidence) {
    std::vector<Landmark> all;
    for (const HeadManifest& head : manifest.heads) {
        if (head.kind != "points") continue;
        const HeadProbabilities* probabilities = head_of(prediction.heads, head.name);
        if (!probabilities) return bug_error("the model gave nothing for head " + head.name);
        auto landmarks = decode_landmarks(*probabilities, head, min_confidence);
        if (!landmarks) return std::move(landmarks).error();
        add_spread(*landmarks, prediction.passes);
        if (const HeadProbabilities* finer = second_head_of(prediction, head.name)) {
            auto again = decode_landmarks(*finer, head, min_confidence);
            if (!again) return std::move(again).error();
            add_spread(*again, prediction.second->passes);
            *landmarks = choose_landmarks(std::move(*landmarks), std::move(*again));
        }
        all.insert(all.end(), landmarks->begin(), landmarks->end());
    }
    add_expected_errors(all, manifest);
    return all;
}

}  // namespace

Result<Postprocessed> postprocess(const Volume& ct, const Prediction& prediction, const BundleManifest& manifest,
                                  const PostprocessRules& rules) {
    Postprocessed done;
    Findings& findings = done.findings;
    findings.model = {manifest.name, manifest.version, weights_identity(manifest), prediction.device};

    const auto heart = add_heart(findings, ct, prediction, manifest, rules);
    if (!heart) return heart.error();
    const auto why_not = unusable(ct, findings, *heart, rules);
    if (why_not) findings.warnings.push_back(*why_not);

    auto landmarks = find_landmarks(prediction, manifest, rules.min_landmark_confidence);
    if (!landmarks) return std::move(landmarks).error();
    findings.landmarks = std::move(*landmarks);
    if (why_not) withdraw_all(findings.landmarks, *why_not);
    withdraw_outside(findings.landmarks, ct.grid);
    withdraw_twins(findings.landmarks, rules.root);
    withdraw_far_from(findings.landmarks, heart->network, heart->root, rules.root);

    std::optional<Vec3> ascending;
    if (const auto centre = hinge_centroid(findings.landmarks); centre && heart->root.size() == 2) {
        const int ventricle = values_of(*heart->head, std::array{names::kLeftVentricle}).front();
        const int aorta = values_of(*heart->head, std::array{names::kAorta}).front();
        ascending = ascending_direction(heart->network, ventricle, aorta, *centre);
    }
    findings.annular_plane = check_root(findings.landmarks, ascending, rules.root);

    const auto calcium = add_calcium(done, ct, prediction, manifest, *heart, why_not);
    if (!calcium) return calcium.error();
    return done;
}

}  // namespace cardionode
