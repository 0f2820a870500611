// The samples of coming steps, drawn while the network learns. Internal to the trainer.
//
// Thread safety: one object belongs to one thread. The source outlives it. What the source throws, next() throws.
#pragma once

#include <ATen/Parallel.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "models/train/trainer.h"

namespace cardionode::train {

/// Draws the samples of coming steps on one thread of its own; ends when the object goes.
class Prefetch {
public:
    Prefetch(const SampleSource& source, std::uint64_t first, std::uint64_t end)
        : thread_([this, &source, first, end] { work(source, first, end); }) {}
    ~Prefetch() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }
    Prefetch(const Prefetch&) = delete;
    Prefetch& operator=(const Prefetch&) = delete;

    Sample next() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !ready_.empty() || failure_; });
        if (ready_.empty()) std::rethrow_exception(failure_);
        Sample sample = std::move(ready_.front());
        ready_.pop_front();
        changed_.notify_all();
        return sample;
    }

private:
    void work(const SampleSource& source, std::uint64_t first, std::uint64_t end) {
        try {
            at::set_num_threads(1);  // of this thread: the cores belong to the network
            for (std::uint64_t n = first; n < end; ++n) {
                {
                    std::unique_lock lock(mutex_);
                    changed_.wait(lock, [&] { return stop_ || ready_.size() < 4; });
                    if (stop_) return;
                }
                Sample sample = source.sample(n);
                const std::lock_guard lock(mutex_);
                ready_.push_back(std::move(sample));
                changed_.notify_all();
            }
        } catch (...) {
            const std::lock_guard lock(mutex_);
            failure_ = std::current_exception();
            changed_.notify_all();
        }
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Sample> ready_;
    std::exception_ptr failure_;
    bool stop_ = false;
    std::thread thread_;  // last: it uses the others
};

}  // namespace cardionode::train
