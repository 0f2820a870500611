// Renews the lease of a piece of work while another thread does it.
//
//   keeper.hold([&](Queue& q) { return q.renew_study(claim, lease); });
//   ... work, asking keeper.lost() between steps ...
//   keeper.release();
//
// Thread: one, started by start(), ended by the destructor; it has a Queue of its own, as Queue demands.
// Thread safety: all methods from any thread; one piece of work at a time.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "conf/base/result.h"
#include "scp/queue/queue.h"

namespace cardionode {

class LeaseKeeper {
public:
    /// Renews; false: the lease is lost.
    using Renew = std::function<Result<bool>(Queue&)>;

    /// @param every  pause between renewals; a third of the lease or less
    /// Errors: as Queue::open.
    static Result<std::unique_ptr<LeaseKeeper>> start(const std::filesystem::path& database, Milliseconds every,
                                                      const Clock& clock = system_clock());
    ~LeaseKeeper();
    LeaseKeeper(const LeaseKeeper&) = delete;
    LeaseKeeper& operator=(const LeaseKeeper&) = delete;

    /// From now on `renew` is called at the set pace. What the former work lost is forgotten.
    void hold(Renew renew);
    /// No renewal runs any more when this returns.
    void release();
    /// Since hold(): the queue said that the work belongs to somebody else, or that it is pointless now.
    /// A queue that cannot be asked for the moment is logged and is no loss: nobody else can claim the work either.
    bool lost() const;

private:
    LeaseKeeper(Queue queue, Milliseconds every);
    void run(const std::stop_token& stop);

    Queue queue_;  // of the thread alone
    Milliseconds every_;
    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    Renew renew_;  // empty: nothing is held
    bool lost_ = false;
    std::jthread thread_;  // last: it uses all of the above
};

}  // namespace cardionode
