// The node's way from HU to findings, for evaluation: the stages of analyse_volume(), both looks, in process and one by
// one, because the probabilities are evaluated too, and without the uncertainties of the measurements, which are not.
//
// Thread safety: one object belongs to one thread.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "conf/base/result.h"
#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/runner/looks.h"
#include "pipeline/volume/findings.h"

namespace cardionode {

struct EvaluatedVolume {
    Findings findings;  ///< as the node's, and a group "calcium_region": the calcium head before any threshold
    std::map<std::string, double> seconds;  ///< by stage
};

class EvaluatedModel {
public:
    /// Errors: as Predictor::load.
    /// @param test_time_shifts  as pipeline.test_time_shifts in node.yaml. Config besides: another word.
    static Result<EvaluatedModel> load(const Bundle& bundle, const std::string& device, int threads,
                                       const std::string& test_time_shifts);
    /// Errors: of the stages.
    Result<EvaluatedVolume> run(const Volume& ct);

private:
    EvaluatedModel(BundleManifest manifest, Predictor predictor, LookSettings looks)
        : manifest_(std::move(manifest)), predictor_(std::move(predictor)), looks_(looks) {}
    BundleManifest manifest_;
    Predictor predictor_;
    LookSettings looks_;
};

/// Seconds between calls, by name.
class StageClock {
public:
    explicit StageClock(std::map<std::string, double>& seconds);
    void stage(const std::string& name);

private:
    std::map<std::string, double>& seconds_;
    double last_;
};

}  // namespace cardionode
