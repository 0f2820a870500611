#include "conf/command/evaluate_model.h"

#include <chrono>
#include <cmath>

#include "pipeline/evaluate/phantom_truth.h"
#include "pipeline/measure/measure.h"
#include "pipeline/postprocess/calcium.h"
#include "pipeline/postprocess/postprocess.h"
#include "pipeline/preprocess/preprocess.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

const HeadProbabilities* calcium_of(const std::vector<HeadProbabilities>& heads) {
    for (const HeadProbabilities& head : heads) {
        if (head.head == names::kCalciumHead) return &head;
    }
    return nullptr;
}

/// From the look that the node takes its calcium from: the second one, where there was one.
Result<void> add_region(Findings& findings, const Prediction& prediction, const Grid& grid) {
    const HeadProbabilities* head = prediction.second ? calcium_of(prediction.second->heads) : nullptr;
    if (!head) head = calcium_of(prediction.heads);
    if (!head) return {};
    auto labels = labels_on_source(head->channels, grid);
    if (!labels) return std::move(labels).error();
    Segment segment;
    segment.label = 1;
    segment.name = kCalciumRegion;
    findings.groups.push_back({std::string(kCalciumRegion), "", std::move(*labels), {segment}});
    return {};
}

}  // namespace

StageClock::StageClock(std::map<std::string, double>& seconds) : seconds_(seconds), last_(now()) {}

void StageClock::stage(const std::string& name) {
    const double t = now();
    seconds_[name] = std::round((t - last_) * 1000) / 1000;
    last_ = t;
}

Result<EvaluatedModel> EvaluatedModel::load(const Bundle& bundle, const std::string& device, int threads,
                                            const std::string& test_time_shifts) {
    const auto augmentation = augmentation_from(test_time_shifts);
    if (!augmentation) return config_error("expected none, shift or shift_scale, not " + test_time_shifts);
    LookSettings looks;
    looks.augmentation = usual_augmentation(bundle.manifest, *augmentation);
    auto predictor = Predictor::load(bundle, {device, true, threads});
    if (!predictor) return std::move(predictor).error();
    return EvaluatedModel(bundle.manifest, std::move(*predictor), looks);
}

Result<EvaluatedVolume> EvaluatedModel::run(const Volume& ct) {
    EvaluatedVolume result;
    StageClock clock(result.seconds);
    auto image = to_network_grid(ct, manifest_.input);
    if (!image) return std::move(image).error();
    clock.stage("preprocess");
    const Model model = model_of(predictor_);
    auto prediction = first_look(ct, *image, manifest_, model, looks_);
    if (!prediction) return std::move(prediction).error();
    clock.stage("infer");
    if (manifest_.second_look) {
        if (auto added = add_second_look(*prediction, ct, manifest_, model, looks_); !added)
            return std::move(added).error();
        clock.stage("second_look");
    }
    auto done = postprocess(ct, *prediction, manifest_, {});
    if (!done) return std::move(done).error();
    clock.stage("postprocess");
    MeasureRules rules;
    rules.samples = 0;  // uncertainties are not evaluated
    done->findings.measurements =
        measure(done->findings, ct, {done->no_calcium_why, done->calcium_threshold_hu, in_words(manifest_.calcium)},
                rules)
            .measurements;
    clock.stage("measure");
    if (auto added = add_region(done->findings, *prediction, ct.grid); !added) return std::move(added).error();
    result.findings = std::move(done->findings);
    return result;
}

}  // namespace cardionode
