#include "conf/command/predict.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/time.h"
#include "conf/command/predict_files.h"
#include "conf/command/shipped.h"
#include "conf/command/table.h"
#include "models/bundle.h"
#include "pipeline/infer/predictor.h"
#include "pipeline/outputs/check.h"
#include "pipeline/outputs/html_report.h"
#include "pipeline/outputs/outputs.h"
#include "pipeline/outputs/point_set.h"
#include "pipeline/read/nifti.h"
#include "pipeline/runner/analyse.h"

namespace cardionode {
namespace {

using Json = nlohmann::ordered_json;

/// What the node would name a study; here only a folder name that disappears.
constexpr const char* kStudyKey = "study";

const char* words_of(Augmentation augmentation) {
    switch (augmentation) {
        case Augmentation::None: return "none";
        case Augmentation::Shift: return "shift";
        case Augmentation::ShiftAndScale: return "shift_scale";
    }
    return "none";
}

class Run {
public:
    Run(const PredictOptions& options, Bundle bundle, Predictor predictor, ResultFolder folder)
        : options_(options), bundle_(std::move(bundle)), predictor_(std::move(predictor)), folder_(std::move(folder)) {}
    Augmentation augmentation() const {
        return options_.augmentation.value_or(usual_augmentation(bundle_.manifest, Augmentation::Shift));
    }

    Result<std::string> work() {
        auto input = timed("read", [&] {
            return read_input(options_.input, options_.choice, options_.with_identity, {}, [&](int done, int total) {
                options_.show("reading images", done, total);
                return !options_.stop();
            });
        });
        if (!input) return std::move(input).error();
        auto findings = find(input->series);
        if (!findings) return std::move(findings).error();
        device_ = findings->model.device;
        findings->warnings.insert(findings->warnings.begin(), input->series.warnings.begin(),
                                  input->series.warnings.end());
        if (Result<void> written = timed("write", [&] { return write_all(*input, *findings); }); !written) {
            return std::move(written).error();
        }
        if (options_.stop()) return retry_error("cancelled");
        if (Result<void> published = folder_.publish(); !published) return std::move(published).error();
        return summary(*input, *findings);
    }

private:
    template <class Work>
    auto timed(const char* stage, Work&& work) -> decltype(work()) {
        const auto start = std::chrono::steady_clock::now();
        auto result = work();
        seconds_.push_back({stage, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()});
        return result;
    }

    Result<Findings> find(const CtSeries& series);
    Result<void> write_all(const PredictInput& input, const Findings& findings);
    Result<void> write_dicom(const CtSeries& series, const Findings& findings);
    Result<void> write_point_sets(const Findings& findings);
    Result<void> write(const std::string& name, const std::string& text) {
        files_.push_back(name);
        return write_file_durably(folder_.path() / name, text);
    }
    std::string run_json(const PredictInput& input, const Findings& findings) const;
    std::string summary(const PredictInput& input, const Findings& findings) const;
    ReportFacts facts(const PredictInput& input) const;

    const PredictOptions& options_;
    Bundle bundle_;
    Predictor predictor_;
    ResultFolder folder_;
    Moment moment_ = system_clock().now();
    std::vector<StageTime> seconds_;
    std::string device_;              ///< where the model ran
    std::vector<std::string> files_;  ///< relative to the folder
    std::vector<std::string> notes_;  ///< for people: what was not written, and why
};

Result<Findings> Run::find(const CtSeries& series) {
    // Each look tells how far it is; the number of looks is known when they are over.
    const auto shown = [this](const char* doing, const Progress& progress) {
        return [this, doing, &progress](int done, int total) {
            options_.show(doing, done, total);
            return !options_.stop() && (!progress || progress(done, total));
        };
    };
    const Model model(
        [&](const Volume& image, const Progress& progress) {
            return predictor_.run(image, shown("looking at the whole scan", progress));
        },
        [&](const Volume& image, const LabelMap* chambers, const Progress& progress) {
            return predictor_.run_second(image, chambers, shown("looking at the root", progress));
        });
    options_.show("preparing the images", 0, 0);
    AnalysisSettings settings;
    settings.augmentation = augmentation();
    auto analysis = analyse_volume(series.volume, kStudyKey, settings, bundle_.manifest, model, options_.stop);
    if (!analysis) return std::move(analysis).error();
    seconds_.insert(seconds_.end(), analysis->stages.begin(), analysis->stages.end());
    return std::move(analysis->findings);
}

ReportFacts Run::facts(const PredictInput& input) const {
    ReportFacts facts;
    facts.software_version = CARDIONODE_VERSION;
    facts.moment = moment_;
    facts.images = input.series.why_chosen;
    facts.identity = input.identity;
    facts.settings = {{"device", device_}, {"augmentation", words_of(augmentation())}};
    return facts;
}

Result<void> Run::write_dicom(const CtSeries& series, const Findings& findings) {
    OutputRequest request;
    request.work_folder = folder_.path();
    request.study_key = kStudyKey;
    request.software_version = CARDIONODE_VERSION;
    request.moment = moment_;
    const auto written = write_outputs(series, findings, request);
    if (!written) return written.error();
    notes_.insert(notes_.end(), written->notes.begin(), written->notes.end());
    if (Result<void> checked = check_outputs(series, written->files, folder_.path()); !checked) return checked;
    if (Result<void> made = make_folder(folder_.path() / "dicom"); !made) return made;
    std::error_code error;
    for (const OutputFile& file : written->files) {
        const std::string name = "dicom/" + std::filesystem::path(file.file).filename().string();
        std::filesystem::rename(folder_.path() / file.file, folder_.path() / name, error);
        if (error) return file_error("moving", folder_.path() / name, error.value());
        files_.push_back(name);
    }
    std::filesystem::remove_all(folder_.path() / kStudyKey, error);
    if (error) return file_error("removing", folder_.path() / kStudyKey, error.value());
    return sync_folder(folder_.path() / "dicom");
}

Result<void> Run::write_point_sets(const Findings& findings) {
    for (const PointSet& set : point_sets(findings)) {
        const std::string name = set.name + ".mps";
        if (set.points.empty()) {
            notes_.push_back(name +
                             " is not written: its points have no names but their order, and some were not "
                             "found (" +
                             set.missing + ")");
            continue;
        }
        if (Result<void> written = write(name, point_set_mps(set.points)); !written) return written;
    }
    return {};
}

Result<void> Run::write_all(const PredictInput& input, const Findings& findings) {
    options_.show("writing results", 0, 0);
    if (Result<void> r = write("landmarks.json", landmarks_json(findings)); !r) return r;
    if (Result<void> r = write("measurements.json", measurements_json(findings)); !r) return r;
    if (Result<void> r = write("measurements.csv", measurements_csv(findings)); !r) return r;
    if (Result<void> r = write_point_sets(findings); !r) return r;
    for (const SegmentGroup& group : findings.groups) {
        files_.push_back(group.name + ".nii.gz");
        if (Result<void> r = write_nifti(group.labels, folder_.path() / files_.back()); !r) return r;
    }
    if (options_.stop()) return retry_error("cancelled");
    if (input.dicom) {
        if (Result<void> r = write_dicom(input.series, findings); !r) return r;
    } else {
        notes_.emplace_back("no DICOM SEG and SR: a NIfTI file names no patient and no study that they could refer to");
    }
    options_.show("drawing", 0, 0);
    files_.emplace_back("overview.png");
    if (Result<void> r = write_overview_png(input.series, findings, folder_.path() / "overview.png"); !r) return r;
    if (Result<void> r = write("report.html", html_report(input.series, findings, facts(input))); !r) return r;
    return write(std::string(kRunFile), run_json(input, findings));
}

std::string Run::run_json(const PredictInput& input, const Findings& findings) const {
    const ModelIdentity& model = findings.model;
    Json json = {{"program", std::string("cardionode ") + CARDIONODE_VERSION},
                 {"command", "predict"},
                 {"time", to_iso8601(moment_)},
                 {"research_use_only", true},
                 {"images",
                  {{"kind", input.dicom ? "DICOM" : "NIfTI"},
                   {"chosen", input.series.why_chosen},
                   {"not_chosen", input.series.not_chosen}}},
                 {"model", {{"name", model.name}, {"version", model.version}, {"sha256", model.sha256}}},
                 {"device", model.device},
                 {"augmentation", words_of(augmentation())},
                 {"threads", options_.threads},
                 {"warnings", findings.warnings},
                 {"notes", notes_},
                 {"files", files_},
                 {"seconds", Json::object()}};
    for (const StageTime& t : seconds_) json["seconds"][t.stage] = std::round(t.seconds * 100) / 100;
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string Run::summary(const PredictInput& input, const Findings& findings) const {
    std::string text = printable(input.series.why_chosen) + "\n";
    for (const std::string& other : input.series.not_chosen) text += "  not used: " + printable(other) + "\n";
    text += fmt::format("model {} {} on {}\n\n", findings.model.name, findings.model.version, findings.model.device);
    Table points({"POINT", ">L", ">P", ">S mm", ">PROBABILITY", ">ERROR mm*", "WHY NOT"});
    for (const Landmark& l : findings.landmarks) {
        if (l.position) {
            const Vec3& p = l.position->lps_mm;
            points.add({l.title, fmt::format("{:.1f}", p[0]), fmt::format("{:.1f}", p[1]), fmt::format("{:.1f}", p[2]),
                        fmt::format("{:.2f}", l.confidence),
                        l.expected_error_mm ? fmt::format("{:.1f}", *l.expected_error_mm) : ""});
        } else {
            points.add({l.title, "-", "-", "-", fmt::format("{:.2f}", l.confidence), "", l.reason});
        }
    }
    text += points.text();
    const bool any_error = std::any_of(findings.landmarks.begin(), findings.landmarks.end(),
                                       [](const Landmark& l) { return l.position && l.expected_error_mm; });
    if (any_error) text += "* median on synthetic phantoms that the model never saw; no clinical figure\n";
    text += "\n";
    Table numbers({"MEASUREMENT", ">VALUE", ">+-", "UNIT", "WHY NOT"});
    for (const Measurement& m : findings.measurements) {
        const auto shown = [](double value) { return fmt::format("{:.{}f}", value, std::abs(value) < 10 ? 2 : 1); };
        if (m.value) numbers.add({m.title, shown(*m.value), m.uncertainty ? shown(*m.uncertainty) : "", m.unit.value});
        else numbers.add({m.title, "-", "", m.unit.value, m.reason});
    }
    text += numbers.text() + "\n";
    for (const std::string& warning : findings.warnings) text += "warning: " + printable(warning) + "\n";
    for (const std::string& note : notes_) text += "note: " + printable(note) + "\n";
    text += fmt::format("\nReport: {}\nResearch use only: no basis for any decision on a patient.\n",
                        (folder_.target() / "report.html").string());
    return text;
}

}  // namespace

Result<std::string> run_predict(const PredictOptions& options) {
    // What can be wrong with the command itself is found before any work; the folder is the last, so that a wrong
    // bundle leaves no trace.
    std::error_code error;
    if (!std::filesystem::exists(options.input, error)) {
        return file_error("reading", options.input, error ? error.value() : ENOENT);
    }
    options.show("loading the model", 0, 0);
    const std::filesystem::path folder = options.bundle.empty() ? shipped_bundle() : options.bundle;
    auto bundle = load_bundle(folder);
    if (!bundle) return std::move(bundle).error().in("model bundle " + folder.string());
    auto predictor = Predictor::load(*bundle, {options.device, true, options.threads});
    if (!predictor) return std::move(predictor).error().in("model bundle");
    auto results = ResultFolder::create(options.output, options.overwrite);
    if (!results) return std::move(results).error();
    return Run(options, std::move(*bundle), std::move(*predictor), std::move(*results)).work();
}

}  // namespace cardionode
