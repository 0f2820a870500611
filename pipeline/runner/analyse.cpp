#include "pipeline/runner/analyse.h"

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "conf/base/log.h"
#include "pipeline/measure/measure.h"
#include "pipeline/outputs/check.h"
#include "pipeline/postprocess/calcium.h"
#include "pipeline/postprocess/postprocess.h"
#include "pipeline/preprocess/preprocess.h"

namespace cardionode {
namespace {

/// Runs stages one after the other: asks whether to go on, takes the time, logs, and names the stage in its errors.
class Stages {
public:
    Stages(const std::string& study_key, const Cancelled& cancelled) : study_key_(study_key), cancelled_(cancelled) {}

    template <class Work>
    auto run(const char* name, Work&& work) -> decltype(work()) {
        if (stop()) return retry_error("cancelled").in(name);
        log_info("stage_started", {{"study", study_key_}, {"stage", name}});
        const auto start = std::chrono::steady_clock::now();
        auto result = work();
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        log_info(result ? "stage_done" : "stage_failed",
                 {{"study", study_key_}, {"stage", name}, {"seconds", fmt::format("{:.2f}", seconds)}});
        times_.push_back({name, seconds});
        // A refusal is written for people already; the name of the stage would not help them.
        if (!result && result.error().kind != ErrorKind::Reject) return std::move(result).error().in(name);
        return result;
    }
    const std::string& study_key() const { return study_key_; }
    bool stop() const { return cancelled_ && cancelled_(); }
    std::vector<StageTime> times() && { return std::move(times_); }

private:
    const std::string& study_key_;
    const Cancelled& cancelled_;
    std::vector<StageTime> times_;
};

/// A line of the log every ten seconds, and the question whether to go on.
class InferenceProgress {
public:
    explicit InferenceProgress(const Stages& stages) : stages_(stages) {}
    bool operator()(int done, int total) {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ >= std::chrono::seconds(10)) {
            last_ = now;
            log_info("inference_progress", {{"study", stages_.study_key()}, {"windows", done}, {"of", total}});
        }
        return !stages_.stop();
    }

private:
    const Stages& stages_;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// The images of the networks' grids live no longer than the model needs them.
Result<Prediction> predict(const Volume& ct, const AnalysisSettings& settings, const BundleManifest& manifest,
                           const Model& model, Stages& stages) {
    LookSettings looks;
    looks.augmentation = settings.augmentation;
    looks.min_landmark_confidence = settings.outputs.min_landmark_confidence;
    InferenceProgress progress(stages);
    const Progress report = [&](int done, int total) { return progress(done, total); };
    auto prediction = [&]() -> Result<Prediction> {
        auto image = stages.run("preprocess", [&] { return to_network_grid(ct, manifest.input); });
        if (!image) return std::move(image).error();
        return stages.run("infer", [&] { return first_look(ct, *image, manifest, model, looks, report); });
    }();
    if (!prediction) return prediction;
    if (manifest.second_look && model.second) {
        const auto added =
            stages.run("second_look", [&] { return add_second_look(*prediction, ct, manifest, model, looks, report); });
        if (!added) return added.error();
    }
    for (const std::string& note : prediction->notes) {
        log_info("inference_note", {{"study", stages.study_key()}, {"note", note}});
    }
    return prediction;
}

/// The probabilities, many times the size of the volume, live no longer than the findings need them.
Result<Findings> find(const Volume& ct, const AnalysisSettings& settings, const BundleManifest& manifest,
                      const Model& model, Stages& stages) {
    auto done = [&]() -> Result<Postprocessed> {
        const auto prediction = predict(ct, settings, manifest, model, stages);
        if (!prediction) return prediction.error();
        PostprocessRules rules;
        rules.min_landmark_confidence = settings.outputs.min_landmark_confidence;
        return stages.run("postprocess", [&] { return postprocess(ct, *prediction, manifest, rules); });
    }();
    if (!done) return std::move(done).error();
    Findings& findings = done->findings;
    auto measured = stages.run("measure", [&]() -> Result<Measured> {
        return measure(findings, ct, {done->no_calcium_why, done->calcium_threshold_hu, in_words(manifest.calcium)});
    });
    if (!measured) return std::move(measured).error();
    findings.measurements = std::move(measured->measurements);
    findings.outlines = std::move(measured->outlines);
    findings.warnings.insert(findings.warnings.end(), measured->notes.begin(), measured->notes.end());
    return std::move(done->findings);
}

}  // namespace

Result<VolumeAnalysis> analyse_volume(const Volume& ct, const std::string& study_key, const AnalysisSettings& settings,
                                      const BundleManifest& manifest, const Model& model, const Cancelled& cancelled) {
    Stages stages(study_key, cancelled);
    auto findings = find(ct, settings, manifest, model, stages);
    if (!findings) return std::move(findings).error();
    return VolumeAnalysis{std::move(*findings), std::move(stages).times()};
}

Result<Analysis> analyse(const StudyInput& input, const AnalysisSettings& settings, const BundleManifest& manifest,
                         const Model& model, const Cancelled& cancelled) {
    Stages stages(input.study_key, cancelled);
    Analysis analysis;

    auto series = stages.run("read", [&] {
        return read_study(input.files, settings.series, settings.limits, [&](int, int) { return !stages.stop(); });
    });
    if (!series) return std::move(series).error();
    log_info("series_chosen", {{"study", input.study_key}, {"why", series->why_chosen}});

    auto found = find(series->volume, settings, manifest, model, stages);
    if (!found) return std::move(found).error();
    Findings& findings = *found;
    findings.warnings.insert(findings.warnings.begin(), series->warnings.begin(), series->warnings.end());
    findings.warnings.insert(findings.warnings.begin(), input.warnings.begin(), input.warnings.end());

    OutputRequest request;
    request.work_folder = settings.work_folder;
    request.study_key = input.study_key;
    request.revision = input.revision;
    request.settings = settings.outputs;
    request.software_version = settings.software_version;
    request.device_name = settings.device_name;
    request.moment = input.moment;
    auto written = stages.run("outputs", [&] { return write_outputs(*series, findings, request); });
    if (!written) return std::move(written).error();
    for (const std::string& note : written->notes) {
        log_info("output_note", {{"study", input.study_key}, {"note", note}});
    }
    const auto checked =
        stages.run("check", [&] { return check_outputs(*series, written->files, settings.work_folder); });
    if (!checked) return checked.error();

    analysis.findings = std::move(findings);
    analysis.outputs = std::move(*written);
    analysis.why_chosen = std::move(series->why_chosen);
    analysis.not_chosen = std::move(series->not_chosen);
    analysis.stages = std::move(stages).times();
    return analysis;
}

}  // namespace cardionode
