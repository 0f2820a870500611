#include "pipeline/runner/looks.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "pipeline/postprocess/components.h"
#include "pipeline/postprocess/label_maps.h"
#include "pipeline/postprocess/landmarks.h"
#include "pipeline/preprocess/preprocess.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

constexpr std::size_t kFewestPoints = 3;
constexpr double kOfOneRootMm = 45;  ///< a point further from the median of all is none of this root
constexpr double kOffCentreMm = 8;   ///< from the window's middle: then it is looked at again
constexpr int kMostWindows = 3;

// ---------------------------------------------------------------------------------------------------- where to look

/// Points of the heads in `heads`, decoded one head after the other.
Result<std::vector<Landmark>> points_of(const std::vector<HeadProbabilities>& heads, const BundleManifest& manifest,
                                        double min_confidence) {
    std::vector<Landmark> all;
    for (const HeadProbabilities& probabilities : heads) {
        const HeadManifest* head = manifest.head(probabilities.head);
        if (!head || head->kind != "points") continue;
        auto landmarks = decode_landmarks(probabilities, *head, min_confidence);
        if (!landmarks) return std::move(landmarks).error();
        all.insert(all.end(), landmarks->begin(), landmarks->end());
    }
    return all;
}

/// Centroid of the hinge points and ostia that lie together; none: fewer than three.
std::optional<PatientPoint> centroid_of_root(const std::vector<Landmark>& landmarks) {
    std::vector<Vec3> points;
    for (const Landmark& l : landmarks) {
        const bool of_root = std::find(names::kHinges.begin(), names::kHinges.end(), l.name) != names::kHinges.end() ||
                             l.name == names::kOstiumLeft || l.name == names::kOstiumRight;
        if (of_root && l.position) points.push_back(l.position->lps_mm);
    }
    if (points.size() < kFewestPoints) return std::nullopt;
    Vec3 median{};
    for (std::size_t a = 0; a < 3; ++a) {
        std::vector<double> values;
        for (const Vec3& p : points) values.push_back(p[a]);
        const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
        std::nth_element(values.begin(), middle, values.end());
        median[a] = *middle;
    }
    Vec3 sum{};
    std::size_t count = 0;
    for (const Vec3& p : points) {
        if (norm(subtract(p, median)) > kOfOneRootMm) continue;
        sum = add(sum, p);
        ++count;
    }
    if (count < kFewestPoints) return std::nullopt;
    return PatientPoint{scale(sum, 1.0 / static_cast<double>(count))};
}

int value_of(const HeadManifest& head, std::string_view name) {
    const auto found =
        std::find_if(head.classes.begin(), head.classes.end(), [&](const ClassManifest& c) { return c.name == name; });
    return found == head.classes.end() ? 0 : found->value;
}

/// Middle of the voxels of the aorta that touch the left ventricle; none: they do not touch.
std::optional<PatientPoint> valve_of(const LabelMap& heart, int ventricle, int aorta) {
    const auto& size = heart.grid.size();
    Vec3 sum{};
    std::int64_t count = 0;
    for (std::int64_t k = 1; k + 1 < size[2]; ++k) {
        for (std::int64_t j = 1; j + 1 < size[1]; ++j) {
            for (std::int64_t i = 1; i + 1 < size[0]; ++i) {
                const std::int64_t o = heart.grid.offset({{i, j, k}});
                if (heart.voxels[o] != aorta) continue;
                const std::array<std::int64_t, 6> beside = {
                    o - 1, o + 1, o - size[0], o + size[0], o - size[0] * size[1], o + size[0] * size[1]};
                if (std::none_of(beside.begin(), beside.end(),
                                 [&](std::int64_t n) { return heart.voxels[n] == ventricle; })) {
                    continue;
                }
                sum = add(sum, heart.grid.to_patient(VoxelIndex{{i, j, k}}).lps_mm);
                ++count;
            }
        }
    }
    if (count == 0) return std::nullopt;
    return PatientPoint{scale(sum, 1.0 / static_cast<double>(count))};
}

const HeadProbabilities* heart_of(const Prediction& prediction) {
    for (const HeadProbabilities& h : prediction.heads) {
        if (h.head == names::kHeartHead) return &h;
    }
    return nullptr;
}

// ---------------------------------------------------------------------------------------------------- several passes

Grid moved(const Grid& grid, const Vec3& shift_voxels, double factor) {
    Vec3 origin = grid.origin().lps_mm, spacing = grid.spacing();
    for (std::size_t a = 0; a < 3; ++a) {
        const double half = static_cast<double>(grid.size()[a] - 1) / 2;
        origin[a] += grid.spacing()[a] * (shift_voxels[a] + half * (1 - factor));
        spacing[a] *= factor;
    }
    return Grid::create({origin}, grid.axes(), spacing, grid.size()).value();
}

/// The grids of all passes; the first is the grid itself.
std::vector<Grid> grids_of_passes(const Grid& grid, Augmentation augmentation) {
    std::vector<Grid> grids = {grid};
    if (augmentation == Augmentation::None) return grids;
    const double s = 2.5;
    const std::array<Vec3, 4> corners = {Vec3{s, s, s}, Vec3{s, -s, -s}, Vec3{-s, s, -s}, Vec3{-s, -s, s}};
    for (std::size_t n = 0; n < corners.size(); ++n) {
        const bool scaled = augmentation == Augmentation::ShiftAndScale;
        grids.push_back(moved(grid, corners[n], !scaled ? 1 : n % 2 == 0 ? 1.04 : 0.96));
    }
    return grids;
}

/// One pass: an image on `grid`, whose spacing may differ from the network's; the network is told its own spacing.
using Look = std::function<Result<Prediction>(const Volume& image, const Grid& where)>;

Result<Prediction> look_on(const Volume& ct, const InputManifest& input, const Grid& where, const Look& look) {
    auto image = to_network_grid(ct, input, where);
    if (!image) return std::move(image).error();
    const Grid nominal = Grid::create(where.origin(), where.axes(), input.spacing_mm, where.size()).value();
    auto prediction = look({nominal, std::move(image->voxels)}, where);
    if (!prediction) return prediction;
    for (HeadProbabilities& head : prediction->heads) {
        for (ScoreMap& channel : head.channels) channel = ScoreMap(where, std::move(channel.voxels));
    }
    return prediction;
}

Result<void> remember_points(PassPoints& passes, const std::vector<HeadProbabilities>& heads,
                             const BundleManifest& manifest, double min_confidence) {
    const auto landmarks = points_of(heads, manifest, min_confidence);
    if (!landmarks) return landmarks.error();
    for (const Landmark& l : *landmarks) {
        if (l.position) passes.points[l.name].push_back(*l.position);
    }
    return {};
}

/// Runs the other passes and turns the probabilities of `base` into the averages of all. A place that a pass did not
/// cover is the average of those that did.
Result<void> average_passes(Prediction& base, const Volume& ct, const InputManifest& input,
                            const BundleManifest& manifest, const LookSettings& settings, const Look& look) {
    if (settings.augmentation == Augmentation::None || base.heads.empty()) return {};
    const Grid grid = base.heads.front().channels.front().grid;
    const auto grids = grids_of_passes(grid, settings.augmentation);
    base.passes.passes = static_cast<int>(grids.size());
    if (auto ok = remember_points(base.passes, base.heads, manifest, settings.min_landmark_confidence); !ok) return ok;
    for (std::size_t n = 1; n < grids.size(); ++n) {
        const auto pass = look_on(ct, input, grids[n], look);
        if (!pass) return pass.error();
        if (pass->heads.size() != base.heads.size()) return bug_error("two passes of the model gave different heads");
        if (auto ok = remember_points(base.passes, pass->heads, manifest, settings.min_landmark_confidence); !ok) {
            return ok;
        }
        base.notes.insert(base.notes.end(), pass->notes.begin(), pass->notes.end());
        for (std::size_t h = 0; h < base.heads.size(); ++h) {
            auto& sums = base.heads[h].channels;
            for (std::size_t c = 0; c < sums.size(); ++c) {
                const ScoreMap there = scores_on(pass->heads[h].channels.at(c), grid, 0.0F);
                for (std::size_t v = 0; v < there.voxels.size(); ++v) sums[c].voxels[v] += there.voxels[v];
            }
        }
    }
    for (HeadProbabilities& head : base.heads) {
        for (std::size_t v = 0; v < head.channels[0].voxels.size(); ++v) {
            float sum = 0;
            for (const ScoreMap& c : head.channels) sum += c.voxels[v];
            if (sum > 0) {
                for (ScoreMap& c : head.channels) c.voxels[v] /= sum;
            }
        }
    }
    return {};
}

}  // namespace

std::optional<Augmentation> augmentation_from(const std::string& word) {
    if (word == "none") return Augmentation::None;
    if (word == "shift") return Augmentation::Shift;
    if (word == "shift_scale") return Augmentation::ShiftAndScale;
    return std::nullopt;
}

Result<Prediction> first_look(const Volume& ct, const Volume& image, const BundleManifest& manifest, const Model& model,
                              const LookSettings& settings, const Progress& progress) {
    auto prediction = model.first(image, progress);
    if (!prediction || (manifest.second_look && model.second)) return prediction;
    const auto averaged = average_passes(*prediction, ct, manifest.input, manifest, settings,
                                         [&](const Volume& i, const Grid&) { return model.first(i, progress); });
    if (!averaged) return averaged.error();
    return prediction;
}

Result<std::optional<PatientPoint>> middle_of_root(const Prediction& first, const BundleManifest& manifest,
                                                   double min_confidence) {
    const auto landmarks = points_of(first.heads, manifest, min_confidence);
    if (!landmarks) return landmarks.error();
    if (const auto centre = centroid_of_root(*landmarks)) return centre;
    const HeadManifest* head = manifest.head(std::string(names::kHeartHead));
    const HeadProbabilities* heart = heart_of(first);
    if (!head || !heart) return std::optional<PatientPoint>();
    const int ventricle = value_of(*head, names::kLeftVentricle), aorta = value_of(*head, names::kAorta);
    if (ventricle == 0 || aorta == 0) return std::optional<PatientPoint>();
    const auto labels = largest_pieces(*heart);
    if (!labels) return labels.error();
    return valve_of(*labels, ventricle, aorta);
}

Result<void> add_second_look(Prediction& prediction, const Volume& ct, const BundleManifest& manifest,
                             const Model& model, const LookSettings& settings, const Progress& progress) {
    if (!manifest.second_look || !model.second) return {};
    const SecondLookManifest& second = *manifest.second_look;
    auto centre = middle_of_root(prediction, manifest, settings.min_landmark_confidence);
    if (!centre) return std::move(centre).error();
    if (!*centre) {
        prediction.notes.push_back("no second look: neither three points of the root nor the valve were seen");
        return {};
    }
    const HeadProbabilities* heart = heart_of(prediction);
    const Look look = [&](const Volume& image, const Grid& where) -> Result<Prediction> {
        if (second.input.channels != 2) return model.second(image, nullptr, progress);
        if (!heart) return bug_error("the second look needs the chambers, but the first look gave none");
        auto chambers = labels_on_source(heart->channels, where);
        if (!chambers) return std::move(chambers).error();
        const LabelMap told(image.grid, std::move(chambers->voxels));
        return model.second(image, &told, progress);
    };
    PatientPoint at = **centre;
    for (int windows = 1;; ++windows) {
        const auto grid = window_grid(at, second.window, second.input.spacing_mm);
        if (!grid) return grid.error();
        auto seen = look_on(ct, second.input, *grid, look);
        if (!seen) return std::move(seen).error();
        const auto landmarks = points_of(seen->heads, manifest, settings.min_landmark_confidence);
        if (!landmarks) return landmarks.error();
        const auto root = centroid_of_root(*landmarks);
        if (root && windows < kMostWindows && distance_mm(*root, at) > kOffCentreMm) {
            prediction.notes.push_back(
                fmt::format("second look: the root lies {:.0f} mm off the window's middle", distance_mm(*root, at)));
            at = *root;
            continue;
        }
        if (auto ok = average_passes(*seen, ct, second.input, manifest, settings, look); !ok) return ok;
        prediction.notes.insert(prediction.notes.end(), seen->notes.begin(), seen->notes.end());
        prediction.second = SecondLook{std::move(seen->heads), windows, std::move(seen->passes)};
        return {};
    }
}

}  // namespace cardionode
