// One study from its files to its outputs, as a chain of stages: read, preprocess, infer, second_look (where the
// bundle has one), postprocess, measure, outputs, check. No queue and no network: the service, the operator's command
// and tests call the same function.
//
// Each stage is logged as `stage_started study=... stage=...` and `stage_done study=... stage=... seconds=...`. A run
// that is repeated with the same input writes the same outputs under the same UIDs. Thread safety: safe for different
// studies at once, each with a model of its own.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "conf/base/time.h"
#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/outputs/outputs.h"
#include "pipeline/read/read_study.h"
#include "pipeline/runner/looks.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct AnalysisSettings {
    SeriesSettings series;
    OutputSettings outputs;
    std::filesystem::path work_folder;
    std::string device_name;       ///< what the node calls itself in the outputs: its AE title
    std::string software_version;  ///< "0.1.0"
    ReadLimits limits;
    Augmentation augmentation = Augmentation::None;
};

struct StudyInput {
    std::string study_key;
    int revision = 1;
    Moment moment{};                    ///< content time of the outputs; the same for each run of this revision
    std::vector<StudyFile> files;       ///< in the spool
    std::vector<std::string> warnings;  ///< for people, of the receiver: go into the findings
};

/// true: stop as soon as possible. Asked between stages, after each file that is read and each window of the model.
using Cancelled = std::function<bool()>;

struct StageTime {
    std::string stage;
    double seconds = 0;
};

struct Analysis {
    Findings findings;
    WrittenOutputs outputs;
    std::string why_chosen;               ///< why this series
    std::vector<std::string> not_chosen;  ///< the others, and why not
    std::vector<StageTime> stages;
};

/// What is found in a CT, whatever file it came from: preprocess, infer, second_look (where the bundle has one),
/// postprocess, measure. Errors: as analyse().
struct VolumeAnalysis {
    Findings findings;
    std::vector<StageTime> stages;
};
Result<VolumeAnalysis> analyse_volume(const Volume& ct_hu, const std::string& study_key,
                                      const AnalysisSettings& settings, const BundleManifest& manifest,
                                      const Model& model, const Cancelled& cancelled);

/// Reject: no usable CT, and what else read_study and write_outputs refuse. Retry: `cancelled`, disk or
/// memory full. Config: the bundle does not fit, the work folder cannot be written. Bug: a check of the outputs failed.
Result<Analysis> analyse(const StudyInput& input, const AnalysisSettings& settings, const BundleManifest& manifest,
                         const Model& model, const Cancelled& cancelled);

}  // namespace cardionode
