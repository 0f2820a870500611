// How a model looks at a CT: once at the whole scan, then, if its bundle has a second network, at a window round the
// aortic root in finer voxels, taken from the native CT and not from the coarse grid.
//
// The window is centred on the centroid of the hinge points and ostia that the first look found; where it found fewer
// than three of them, on the border between left ventricle and aorta; where neither is there, there is no second look,
// and a note says why. When the points found in the window lie more than 8 mm from its middle, the root is looked at
// again round them, at most twice.
// Thread safety: functions without state; a Model belongs to one thread at a time.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/volume/volume.h"

namespace cardionode {

/// The networks of a bundle as functions: those of a Predictor, or stand-ins for tests. A function that looks at the
/// whole scan is a Model by itself.
struct Model {
    using First = std::function<Result<Prediction>(const Volume& image, const Progress& progress)>;
    using Second =
        std::function<Result<Prediction>(const Volume& image, const LabelMap* chambers, const Progress& progress)>;

    First first;    ///< as Predictor::run
    Second second;  ///< as Predictor::run_second; empty: no second look, whatever the manifest says

    Model(First whole_scan, Second window) : first(std::move(whole_scan)), second(std::move(window)) {}
    template <class Function, class = std::enable_if_t<std::is_constructible_v<First, Function>>>
    Model(Function whole_scan) : first(std::move(whole_scan)) {}
};

/// The networks of a predictor, which must outlive the model. (Inline: this library itself links no torch.)
inline Model model_of(Predictor& predictor) {
    return {[&predictor](const Volume& image, const Progress& progress) { return predictor.run(image, progress); },
            [&predictor](const Volume& image, const LabelMap* chambers, const Progress& progress) {
                return predictor.run_second(image, chambers, progress);
            }};
}

/// Test-time augmentation: the network sees the same place several times, each time a little shifted (and scaled);
/// probabilities are averaged, and the spread of a point over the passes says how sure its place is. Never mirrored:
/// left and right have names. It is done in the last look that the bundle has.
enum class Augmentation {
    None,
    Shift,          ///< 5 passes: as it is, and shifted by 2.5 voxels four ways
    ShiftAndScale,  ///< 5 passes: the shifted ones 4 % larger or smaller as well
};
/// none | shift | shift_scale
std::optional<Augmentation> augmentation_from(const std::string& word);

/// What a node does unless told otherwise: `wanted`, but a bundle without a second look looks once, because its passes
/// are over the whole scan (5 times a minute instead of 5 times a second).
inline Augmentation usual_augmentation(const BundleManifest& manifest, Augmentation wanted) {
    return manifest.second_look ? wanted : Augmentation::None;
}

struct LookSettings {
    Augmentation augmentation = Augmentation::None;
    double min_landmark_confidence = 0.3;  ///< of the points on which the second window is centred
};

/// The first look. `image` is the CT on the network's grid, from to_network_grid(ct, manifest.input).
Result<Prediction> first_look(const Volume& ct_hu, const Volume& image, const BundleManifest& manifest,
                              const Model& model, const LookSettings& settings, const Progress& progress = {});

/// Adds the second look to the prediction of the first. Does nothing where manifest or model have none.
Result<void> add_second_look(Prediction& prediction, const Volume& ct_hu, const BundleManifest& manifest,
                             const Model& model, const LookSettings& settings, const Progress& progress = {});

/// Where the second look begins; none: the first look saw neither enough points nor the valve. On the first look's
/// probabilities.
Result<std::optional<PatientPoint>> middle_of_root(const Prediction& first, const BundleManifest& manifest,
                                                   double min_landmark_confidence);

}  // namespace cardionode
