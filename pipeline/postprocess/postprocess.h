// The stage between the model and the measurements: probabilities in, findings out.
//
// Order: heart labels -> is there a heart? -> contrast agent? -> points -> plausibility -> annular plane -> calcium.
// Nothing here knows the queue, the network or DICOM. Safe to run again. Thread safety: pure function.
#pragma once

#include <string>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/postprocess/plausibility.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct PostprocessRules {
    double min_landmark_confidence = 0.3;  ///< 0..1, from the settings
    /// Myocardium, ventricles and atria together. A normal adult heart has 450..900 ml, dilated ones up to about 2 l,
    /// a child's or a partly covered one less.
    double min_heart_ml = 150, max_heart_ml = 2500;
    /// Median HU of left ventricle and aorta together: unenhanced blood has 30..70 HU, a CTA 250..500, a late or thinly
    /// enhanced scan 100..200, on which the root can still be seen.
    double min_contrast_hu = 100;
    RootLimits root;
};

struct Postprocessed {
    Findings findings;           ///< groups, landmarks, annular plane, warnings, model; no measurements yet
    std::string no_calcium_why;  ///< why there is no valve_calcium group; empty where there is one
    double calcium_threshold_hu = 0;
};

/// @param ct  native HU, the grid on which the groups come
/// Where the prediction has a second look: its points win where it found them, its heart labels replace the first
/// look's inside its window (from 4 voxels inside the border on), and its calcium head marks the region of the calcium.
/// Groups: "heart" (all labels of that head), and "valve_calcium" where calcium could be measured (it may be empty:
/// then its segment has no volume).
/// No heart, or no contrast agent: a warning says so, every point is withdrawn with that reason, and nothing of the
/// root is measured; without a heart there is no group at all. Bug: the prediction does not fit the manifest. Config:
/// calcium rule.
Result<Postprocessed> postprocess(const Volume& ct, const Prediction& prediction, const BundleManifest& manifest,
                                  const PostprocessRules& rules);

}  // namespace cardionode
