// A training run's metrics.jsonl, read and drawn: what the curves show and what `train status` prints.
//
// Lines of metrics.jsonl: {"step", "loss", "rate", "norm", "seconds", "heads": {head: loss}} a step, and
// {"step", "validation" | "holdout": {"dice": {"head/class": v}, "landmarks": {name: {"median_mm": v | null}}}}.
// Thread safety: free functions without state.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

struct CurvePoint {
    double step = 0, value = 0;
};
using Curve = std::vector<CurvePoint>;

struct RunMetrics {
    Curve loss, rate, seconds;
    std::map<std::string, Curve> head_loss;
    /// By head: mean over its classes; by point: median error in mm, infinite where half of them were missed.
    std::map<std::string, Curve> phantom_dice, phantom_mm, holdout_dice, holdout_mm;
    std::int64_t last_step = 0;
};

/// Config: no such file. A last line that is cut off (the run is writing) is left out.
Result<RunMetrics> read_metrics(const std::filesystem::path& metrics_jsonl);

/// Loss by head (smoothed), learning rate, Dice and landmark error at each validation, as a PNG of 1400 x 1000 pixels.
Result<void> draw_curves(const RunMetrics& metrics, const std::filesystem::path& png);

/// The state of a run's folder for people: steps, time left, last losses, last validation.
Result<std::string> run_status(const std::filesystem::path& folder);

}  // namespace cardionode
