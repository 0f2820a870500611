// Waiting between attempts: longer each time, never in step with other hospitals, never past the deadline.
//
// Attempt n waits min(first * 2^n, longest) times a random factor from 0.5 to 1. The clock and the sleeping are given,
// so that tests wait for nothing. Thread safety: one object belongs to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <random>

#include "conf/base/time.h"

namespace cardionode::fed {

/// What a client needs of the world around it. The defaults are the real one.
struct Surroundings {
    const Clock* clock = &system_clock();
    std::function<void(Milliseconds)> sleep;  ///< empty: really sleeps
    std::function<bool()> cancelled;          ///< asked often, from several threads; true ends every call with Retry
    std::uint64_t seed = 0;                   ///< of the jitter; 0: unpredictable

    bool stop() const { return cancelled && cancelled(); }
    /// Sleeps in slices of at most 100 ms and ends early when cancelled.
    void pause(Milliseconds time) const;
};

class Backoff {
public:
    /// @param until  no pause ends later
    Backoff(const Surroundings& surroundings, Moment until, Milliseconds first = Milliseconds(500),
            Milliseconds longest = Milliseconds(30'000));

    /// Waits for the next attempt. false: cancelled, or the deadline has come; do not try again.
    bool wait();
    int waits() const { return waits_; }

private:
    const Surroundings* surroundings_;
    Moment until_;
    Milliseconds next_, longest_;
    int waits_ = 0;
    std::mt19937_64 random_;
};

}  // namespace cardionode::fed
