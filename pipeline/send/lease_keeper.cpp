#include "pipeline/send/lease_keeper.h"

#include "conf/base/log.h"

namespace cardionode {

Result<std::unique_ptr<LeaseKeeper>> LeaseKeeper::start(const std::filesystem::path& database, Milliseconds every,
                                                        const Clock& clock) {
    auto queue = Queue::open(database, clock);
    if (!queue) return std::move(queue).error();
    return std::unique_ptr<LeaseKeeper>(new LeaseKeeper(std::move(*queue), every));
}

LeaseKeeper::LeaseKeeper(Queue queue, Milliseconds every)
    : queue_(std::move(queue)), every_(every), thread_([this](const std::stop_token& stop) { run(stop); }) {}

LeaseKeeper::~LeaseKeeper() {
    thread_.request_stop();
    changed_.notify_all();
}

void LeaseKeeper::hold(Renew renew) {
    const std::lock_guard lock(mutex_);
    renew_ = std::move(renew);
    lost_ = false;
    changed_.notify_all();
}

void LeaseKeeper::release() {
    const std::lock_guard lock(mutex_);
    renew_ = nullptr;
}

bool LeaseKeeper::lost() const {
    const std::lock_guard lock(mutex_);
    return lost_;
}

void LeaseKeeper::run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
        changed_.wait(lock, stop, [&] { return static_cast<bool>(renew_) && !lost_; });
        // The whole pause passes before the first renewal: the claim itself was the first.
        changed_.wait_for(lock, stop, every_, [&] { return !renew_; });
        if (stop.stop_requested() || !renew_ || lost_) continue;
        try {
            const auto held = renew_(queue_);  // under the mutex, so that release() means what it says
            if (!held) log_warning("lease_not_renewed", {{"why", held.error().message}});
            lost_ = held.ok() && !*held;
        } catch (const std::exception& e) {
            log_error("lease_not_renewed", {{"why", e.what()}});
        }
    }
}

}  // namespace cardionode
