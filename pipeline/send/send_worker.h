// Sends the outbox to one destination.
//
// A destination has a worker of its own, so that a PACS that is down delays no other. An output is claimed with a
// lease, sent, and reported; a crash between the PACS's answer and the report sends it once more under the same SOP
// Instance UID, which a PACS treats as the one it has. When no output of a study waits any more, the destination is
// asked to commit them (storage commitment), unless the settings say no; its answer may also reach the receiver.
// Thread: none of its own; run() belongs into one. Thread safety: one object belongs to one thread.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "pipeline/send/lease_keeper.h"
#include "pipeline/send/store_scu.h"
#include "scp/queue/queue.h"

namespace cardionode {

struct SendWorkerOptions {
    std::filesystem::path database;
    std::filesystem::path work_folder;  ///< OutputFile::file is relative to it
    DestinationSettings destination;
    SendTimeouts timeouts;
    Milliseconds lease{120'000};
    Milliseconds poll{1'000};  ///< pause when nothing is due
    /// Told of each try, before its outcome is stored; may be empty.
    std::function<void(const ClaimedOutput&, const Result<std::string>& sent)> observe = {};
    /// Told of each answer of the destination about what it keeps, once it is stored; may be empty.
    std::function<void(const CommitmentAnswer&)> committed = {};
    std::function<void()> alive;  ///< called at least once a poll and once an output: for a watchdog; may be empty
};

class SendWorker {
public:
    /// Opens the queue and takes over what a former process held for this destination. Errors: as Queue::open; Config
    /// for TLS files that cannot be used.
    static Result<SendWorker> create(SendWorkerOptions options, const Clock& clock = system_clock());

    /// Sends the next output that is due, or asks for the next study to be committed. false: nothing was due. Errors
    /// are the queue's; those of the destination go to the outbox row and to the log.
    Result<bool> send_next();

    /// Sends until `stop`; finishes the output at hand. Trouble with the queue is logged, and tried again after a
    /// pause.
    void run(const std::stop_token& stop);

private:
    SendWorker(SendWorkerOptions options, Queue queue, std::unique_ptr<LeaseKeeper> keeper, std::string name);
    SendWorkerOptions options_;
    Queue queue_;
    std::unique_ptr<LeaseKeeper> keeper_;
    bool commits() const { return options_.destination.commitment != "off"; }
    Result<bool> commit_next();

    std::string name_;
    std::stop_token stop_;  ///< of run()
};

}  // namespace cardionode
