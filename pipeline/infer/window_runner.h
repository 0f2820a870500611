// Running windows so that a full or failing GPU costs time and never the study: smaller batches, then the CPU.
//
// Internal to pipeline/infer. Thread safety: none needed; one caller.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"
#include "models/sliding_window.h"

namespace cardionode {

/// One way to compute the next windows.
struct Attempt {
    bool on_gpu = false;
    std::int64_t batch = 1;
    friend bool operator==(const Attempt&, const Attempt&) = default;
};

enum class ComputeFailure {
    MemoryFull,
    Other,  ///< driver, kernel or device trouble
};

/// Tells full memory, of the GPU or the CPU, from everything else.
ComputeFailure classify(const std::exception& failure);

/// What to try after `failed`: half the batch on the same device; after batch 1, or any other GPU trouble, the CPU with
/// batch 1. None: nothing is left to try.
std::optional<Attempt> next_attempt(const Attempt& failed, ComputeFailure failure);

/// Logits of a batch of windows, one tensor a head; may throw.
using ComputeWindows = std::function<std::vector<torch::Tensor>(const torch::Tensor& batch, bool on_gpu)>;

/// Computes all windows that are left, in order.
/// @param notes  gets a line for each change of the attempt, for the log
/// @return the attempt that worked in the end. Retry: memory full on the CPU, or `progress` cancelled. Bug: any other
///         failure on the CPU.
Result<Attempt> run_windows(SlidingWindow& windows, Attempt attempt, const ComputeWindows& compute,
                            const std::function<bool(std::int64_t, std::int64_t)>& progress,
                            std::vector<std::string>& notes);

}  // namespace cardionode
