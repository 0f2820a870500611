// What the pipeline counts for monitoring.
//
// Thread safety: all methods from any thread.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "conf/base/result.h"
#include "conf/base/time.h"
#include "pipeline/runner/analyse.h"

namespace cardionode {

class PipelineStats {
public:
    PipelineStats(std::string model_name, std::string model_version, std::string software_version,
                  const Clock& clock = system_clock());

    /// A study whose outcome is in the queue: finished, or failed with this kind of error.
    void study(const Result<Analysis>& analysis);
    /// One try to send an output.
    void output(const std::string& destination, const Result<std::string>& sent);
    /// Prometheus' text format.
    std::string metrics() const;

private:
    struct Durations {
        double seconds = 0;
        std::uint64_t count = 0;
    };
    std::string model_name_, model_version_, software_version_;
    const Clock* clock_;
    mutable std::mutex mutex_;
    std::uint64_t finished_ = 0;
    std::map<std::string, std::uint64_t> failed_;  ///< by kind of the error
    std::map<std::string, Durations> stages_;
    double last_inference_seconds_ = 0;
    std::int64_t last_finished_ms_ = 0;
    struct Sending {
        std::uint64_t sent = 0;
        std::map<std::string, std::uint64_t> failed;
    };
    std::map<std::string, Sending> destinations_;
};

}  // namespace cardionode
