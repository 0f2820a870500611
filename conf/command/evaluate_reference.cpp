#include "conf/command/evaluate_reference.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "conf/command/evaluate_model.h"
#include "pipeline/evaluate/overlap.h"
#include "pipeline/preprocess/preprocess.h"
#include "pipeline/read/nifti.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

const SegmentGroup* heart_of(const Findings& findings) {
    for (const SegmentGroup& g : findings.groups) {
        if (g.name == names::kHeartHead) return &g;
    }
    return nullptr;
}

int label_of(const SegmentGroup& group, std::string_view name) {
    for (const Segment& s : group.segments) {
        if (s.name == name) return s.label;
    }
    return -1;
}

/// Voxels outside of the box of all heart parts are set to zero; none: no heart.
std::optional<LabelMap> inside_heart_box(const SegmentGroup& heart, const LabelMap& map) {
    std::array<bool, 256> part{};
    for (const std::string_view name : names::kHeartParts) {
        if (const int label = label_of(heart, name); label > 0) part[static_cast<std::size_t>(label)] = true;
    }
    const auto& size = heart.labels.grid.size();
    std::array<std::int64_t, 3> low = size, high = {-1, -1, -1};
    const auto each = [&](const auto& work) {
        std::size_t o = 0;
        for (std::int64_t k = 0; k < size[2]; ++k) {
            for (std::int64_t j = 0; j < size[1]; ++j) {
                for (std::int64_t i = 0; i < size[0]; ++i) work(std::array<std::int64_t, 3>{i, j, k}, o++);
            }
        }
    };
    each([&](const auto& at, std::size_t o) {
        if (!part[heart.labels.voxels[o]]) return;
        for (std::size_t a = 0; a < 3; ++a) {
            low[a] = std::min(low[a], at[a]);
            high[a] = std::max(high[a], at[a]);
        }
    });
    if (high[0] < 0) return std::nullopt;
    LabelMap inside = map;
    each([&](const auto& at, std::size_t o) {
        for (std::size_t a = 0; a < 3; ++a) {
            if (at[a] < low[a] || at[a] > high[a]) inside.voxels[o] = 0;
        }
    });
    return inside;
}

Result<void> score_aorta(const SegmentGroup& heart, const std::filesystem::path& truth, ReferenceScore& score) {
    const auto file = truth / "masks" / "aorta.nii.gz";
    const auto mask = read_nifti_labels(file);
    if (!mask) return Error(mask.error()).in(file.string());
    LabelMap aorta = labels_on_source(*mask, heart.labels.grid);
    for (auto& v : aorta.voxels) v = v != 0;
    const int label = label_of(heart, names::kAorta);
    const auto whole = count_voxels(heart.labels, label, aorta, 1);
    if (!whole) return whole.error();
    score.aorta_dice = whole->dice();
    const auto true_box = inside_heart_box(heart, aorta), found_box = inside_heart_box(heart, heart.labels);
    if (!true_box || !found_box) return {};
    const auto inside = count_voxels(*found_box, label, *true_box, 1);
    if (!inside) return inside.error();
    score.aorta_dice_in_heart_box = inside->dice();
    return {};
}

}  // namespace

Result<ReferenceScore> score_reference(const Findings& findings, const std::filesystem::path& truth) {
    const auto file = truth / "ground_truth_lps.json";
    const auto text = read_file(file);
    if (!text) return text.error();
    ReferenceScore score;
    try {
        const auto known = nlohmann::json::parse(*text);
        const auto& level = known.at("landmarks").at("aorta:annulus");
        const auto at = [](const nlohmann::json& j) { return j.get<Vec3>(); };
        const Vec3 annulus = at(known.at("centroids").at("annulus_proper").at("lps"));
        const Vec3 normal = normalised(cross(subtract(at(level.at("end")), at(level.at("start"))),
                                             subtract(at(level.at("end_pd")), at(level.at("start_pd")))));
        score.true_area = 100 * level.at("area").get<double>();  // the file has cm2

        std::vector<Vec3> hinges;
        for (const std::string_view name : names::kHinges) {
            const Landmark* l = findings.landmark(name);
            if (l && l->position) hinges.push_back(l->position->lps_mm);
        }
        score.hinges = static_cast<int>(hinges.size());
        if (!hinges.empty()) {
            Vec3 sum{};
            for (const Vec3& h : hinges) sum = add(sum, h);
            score.hinge_centroid_mm = norm(subtract(scale(sum, 1.0 / score.hinges), annulus));
        }
        if (hinges.size() == 3) {
            const Vec3 found = normalised(cross(subtract(hinges[1], hinges[0]), subtract(hinges[2], hinges[0])));
            score.plane_angle_deg = std::acos(std::min(1.0, std::abs(dot(found, normal)))) * 180 / M_PI;
        }
    } catch (const std::exception& wrong) {
        return config_error(file.string() + ": not as expected: " + wrong.what());
    }
    for (const Landmark& l : findings.landmarks) {
        ++score.points;
        score.points_found += l.position.has_value();
    }
    for (const Measurement& m : findings.measurements) {
        if (m.name != "annulus_area_mm2") continue;
        score.area_mm2 = m.value;
        score.no_area_why = m.reason;
    }
    if (const SegmentGroup* heart = heart_of(findings)) {
        if (auto scored = score_aorta(*heart, truth, score); !scored) return std::move(scored).error();
    } else {
        score.aorta_dice = 0;
    }
    return score;
}

std::string reference_text(const ReferenceScore& s) {
    const auto or_why = [](const std::optional<double>& v, const char* form, const char* why) {
        return v ? fmt::format(fmt::runtime(form), *v) : std::string(why);
    };
    std::string text = fmt::format("points found: {} of {}\n", s.points_found, s.points);
    text +=
        "aorta Dice, whole scan / in the box of the predicted heart: " + or_why(s.aorta_dice, "{:.3f}", "no aorta") +
        " / " + or_why(s.aorta_dice_in_heart_box, "{:.3f}", "no heart") + "\n";
    text += fmt::format("centroid of {} hinge point(s) to the annulus mask's centroid: ", s.hinges) +
            or_why(s.hinge_centroid_mm, "{:.1f} mm", "none found") + "\n";
    text += "annular plane off the plane of the measured annulus: " +
            or_why(s.plane_angle_deg, "{:.1f} degrees", "not all hinge points found") + "\n";
    if (s.area_mm2 && s.true_area) {
        text += fmt::format("annulus area: {:.0f} mm2, silver standard {:.0f} mm2 ({:+.0f} %)\n", *s.area_mm2,
                            *s.true_area, 100 * (*s.area_mm2 / *s.true_area - 1));
    } else {
        text += "annulus area: not given (" + s.no_area_why + ")\n";
    }
    return text;
}

Result<void> evaluate_reference(const EvaluateReferenceOptions& options) {
    const auto bundle = load_bundle(options.bundle);
    if (!bundle) return bundle.error();
    std::vector<std::string> warnings;
    const auto ct = read_nifti_ct(options.ct, &warnings);
    if (!ct) return Error(ct.error()).in(options.ct.string());
    for (const std::string& w : warnings) fmt::print("warning: {}\n", w);
    auto model = EvaluatedModel::load(*bundle, options.device, options.threads, options.test_time_shifts);
    if (!model) return std::move(model).error();
    const auto done = model->run(*ct);
    if (!done) return done.error();
    const auto score = score_reference(done->findings, options.truth);
    if (!score) return score.error();
    fmt::print("{} {}\n", bundle->manifest.name, bundle->manifest.version);
    for (const std::string& w : done->findings.warnings) fmt::print("warning: {}\n", w);
    fmt::print("{}", reference_text(*score));
    return {};
}

}  // namespace cardionode
