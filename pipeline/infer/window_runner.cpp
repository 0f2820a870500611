#include "pipeline/infer/window_runner.h"

#include <algorithm>
#include <new>

namespace cardionode {
namespace {

/// The first line, short: torch adds a stack trace and advice.
std::string first_line(const std::exception& failure) {
    const auto* error = dynamic_cast<const c10::Error*>(&failure);
    const std::string text = error ? error->what_without_backtrace() : failure.what();
    return text.substr(0, std::min<std::size_t>(text.find('\n'), 200));
}

std::string change_text(const Attempt& from, const Attempt& to, ComputeFailure failure, const std::string& reason) {
    if (from.on_gpu && to.on_gpu) {
        return "GPU memory full: batch " + std::to_string(from.batch) + " -> " + std::to_string(to.batch);
    }
    if (from.on_gpu) {
        return (failure == ComputeFailure::MemoryFull ? "GPU memory full: " : "GPU failed (" + reason + "): ") +
               "GPU -> CPU";
    }
    return "memory full: batch " + std::to_string(from.batch) + " -> " + std::to_string(to.batch);
}

}  // namespace

ComputeFailure classify(const std::exception& failure) {
    if (dynamic_cast<const std::bad_alloc*>(&failure)) return ComputeFailure::MemoryFull;
    if (dynamic_cast<const c10::OutOfMemoryError*>(&failure)) return ComputeFailure::MemoryFull;
    // The CPU's allocator, cuDNN and cuBLAS report full memory as a plain error with these words.
    const std::string text = failure.what();
    for (const char* words : {"out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED"}) {
        if (text.find(words) != std::string::npos) return ComputeFailure::MemoryFull;
    }
    return ComputeFailure::Other;
}

std::optional<Attempt> next_attempt(const Attempt& failed, ComputeFailure failure) {
    if (failure == ComputeFailure::MemoryFull && failed.batch > 1) return Attempt{failed.on_gpu, failed.batch / 2};
    if (failed.on_gpu) return Attempt{false, 1};
    return std::nullopt;
}

Result<Attempt> run_windows(SlidingWindow& windows, Attempt attempt, const ComputeWindows& compute,
                            const std::function<bool(std::int64_t, std::int64_t)>& progress,
                            std::vector<std::string>& notes) {
    while (windows.done() < windows.count()) {
        bool computed = false;
        ComputeFailure failure{};
        std::string reason;
        // The next attempt starts after the handler, when the exception has let go of what it holds.
        try {
            windows.add(compute(windows.next(attempt.batch), attempt.on_gpu));
            computed = true;
        } catch (const std::exception& thrown) {
            failure = classify(thrown);
            reason = first_line(thrown);
        }
        if (computed) {
            if (progress && !progress(windows.done(), windows.count())) return retry_error("cancelled");
            continue;
        }
        const auto next = next_attempt(attempt, failure);
        if (!next) {
            if (failure == ComputeFailure::MemoryFull)
                return retry_error("not enough memory for one window: " + reason);
            return bug_error("the network failed: " + reason);
        }
        notes.push_back(change_text(attempt, *next, failure, reason));
        attempt = *next;
    }
    return attempt;
}

}  // namespace cardionode
