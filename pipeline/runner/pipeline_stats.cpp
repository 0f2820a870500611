#include "pipeline/runner/pipeline_stats.h"

#include "scp/metrics/exposition.h"

namespace cardionode {
namespace {

using Type = Exposition::Type;
constexpr ErrorKind kKinds[] = {ErrorKind::Retry, ErrorKind::Reject, ErrorKind::Config, ErrorKind::Bug};

}  // namespace

PipelineStats::PipelineStats(std::string model_name, std::string model_version, std::string software_version,
                             const Clock& clock)
    : model_name_(std::move(model_name)),
      model_version_(std::move(model_version)),
      software_version_(std::move(software_version)),
      clock_(&clock) {}

void PipelineStats::study(const Result<Analysis>& analysis) {
    const std::scoped_lock lock(mutex_);
    if (!analysis) {
        ++failed_[std::string(to_string(analysis.error().kind))];
        return;
    }
    ++finished_;
    last_finished_ms_ = clock_->now().time_since_epoch().count();
    for (const StageTime& stage : analysis->stages) {
        Durations& durations = stages_[stage.stage];
        durations.seconds += stage.seconds;
        ++durations.count;
        if (stage.stage == "infer") last_inference_seconds_ = stage.seconds;
    }
}

void PipelineStats::output(const std::string& destination, const Result<std::string>& sent) {
    const std::scoped_lock lock(mutex_);
    Sending& sending = destinations_[destination];
    if (sent) ++sending.sent;
    else ++sending.failed[std::string(to_string(sent.error().kind))];
}

std::string PipelineStats::metrics() const {
    const std::scoped_lock lock(mutex_);
    Exposition out;
    out.family("cardionode_build_info", Type::Gauge, "The version that runs.");
    out.sample(1, {{"version", software_version_}});
    out.family("cardionode_model_info", Type::Gauge, "The model bundle that runs.");
    out.sample(1, {{"name", model_name_}, {"version", model_version_}});
    out.counter("cardionode_studies_finished_total", "Studies whose outputs are in the outbox.",
                static_cast<double>(finished_));
    out.family("cardionode_studies_failed_total", Type::Counter, "Tries of a study that failed, by kind of error.");
    for (const ErrorKind kind : kKinds) {
        const auto found = failed_.find(std::string(to_string(kind)));
        out.sample(found == failed_.end() ? 0 : static_cast<double>(found->second), {{"kind", to_string(kind)}});
    }
    out.gauge("cardionode_last_study_finished_timestamp_seconds",
              "When the last study was finished; 0: none since start.", static_cast<double>(last_finished_ms_) / 1000);
    out.gauge("cardionode_last_inference_seconds", "What the model took for the last study.", last_inference_seconds_);
    out.family("cardionode_stage_duration_seconds", Type::Summary, "Time of finished studies, by stage.");
    for (const auto& [stage, durations] : stages_) {
        out.sample(durations.seconds, {{"stage", stage}}, "_sum");
        out.sample(static_cast<double>(durations.count), {{"stage", stage}}, "_count");
    }
    out.family("cardionode_outputs_sent_total", Type::Counter, "Outputs that a destination took.");
    for (const auto& [name, sending] : destinations_)
        out.sample(static_cast<double>(sending.sent), {{"destination", name}});
    out.family("cardionode_output_tries_failed_total", Type::Counter,
               "Tries to send an output that failed: retry is tried again, any other kind is set aside.");
    for (const auto& [name, sending] : destinations_)
        for (const auto& [kind, number] : sending.failed)
            out.sample(static_cast<double>(number), {{"destination", name}, {"kind", kind}});
    return out.text();
}

}  // namespace cardionode
