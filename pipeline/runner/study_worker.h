// Takes studies from the queue one after the other and analyses them.
//
// Whatever a study does, it ends as one of: finished with outputs in the outbox; given back (the program stops, or the
// installation is wrong); waiting for its next try; set aside with a reason; or nothing at all, because its lease was
// lost to a late image. No exception leaves a study.
// Threads: run() belongs into one; a LeaseKeeper renews the lease in another. Thread safety: one object, one thread.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "pipeline/runner/analyse.h"
#include "pipeline/send/lease_keeper.h"
#include "scp/queue/queue.h"

namespace cardionode {

struct StudyWorkerOptions {
    std::filesystem::path database;
    std::filesystem::path spool;
    AnalysisSettings analysis;
    BundleManifest manifest;
    PipelineSettings pipeline;
    std::vector<std::string> destinations;  ///< names: each output gets a row of the outbox for each
    std::function<void(const Result<Analysis>&)> observe = {};  ///< told of each outcome that was stored; may be empty
    std::function<void()> alive;  ///< called at least once a poll and once a window of the model; may be empty
};

class StudyWorker {
public:
    /// Opens the queue and takes over what a former process held. Errors: as Queue::open.
    static Result<StudyWorker> create(StudyWorkerOptions options, Model model, const Clock& clock = system_clock());

    /// Works on the next study. false: none was ready.
    /// Config: the installation is wrong; the study was given back, and no other should be taken. Else the queue's.
    Result<bool> work_next(const std::stop_token& stop);

    /// Works until `stop`. Config: see work_next(). Other trouble is logged, and tried again after a pause.
    Result<void> run(const std::stop_token& stop);

private:
    StudyWorker(StudyWorkerOptions options, Model model, Queue queue, std::unique_ptr<LeaseKeeper> keeper);
    Result<StudyInput> input_of(const ClaimedStudy& claim);
    Result<void> store(const ClaimedStudy& claim, const Result<Analysis>& analysis, bool stopping);
    void sign_of_life() const;

    StudyWorkerOptions options_;
    Model model_;
    Queue queue_;
    std::unique_ptr<LeaseKeeper> keeper_;
};

}  // namespace cardionode
