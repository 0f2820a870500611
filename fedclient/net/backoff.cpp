#include "fedclient/net/backoff.h"

#include <algorithm>
#include <thread>

namespace cardionode::fed {

void Surroundings::pause(Milliseconds time) const {
    if (sleep) return sleep(time);
    constexpr Milliseconds kSlice{100};
    while (time.count() > 0 && !stop()) {
        std::this_thread::sleep_for(std::min(time, kSlice));
        time -= kSlice;
    }
}

Backoff::Backoff(const Surroundings& surroundings, Moment until, Milliseconds first, Milliseconds longest)
    : surroundings_(&surroundings), until_(until), next_(first), longest_(longest) {
    random_.seed(surroundings.seed != 0 ? surroundings.seed : std::random_device{}());
}

bool Backoff::wait() {
    const Moment now = surroundings_->clock->now();
    if (surroundings_->stop() || now >= until_) return false;
    const double factor = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
    const auto jittered = Milliseconds(static_cast<std::int64_t>(static_cast<double>(next_.count()) * factor));
    const Milliseconds left = until_ - now;
    surroundings_->pause(std::min(std::max(jittered, Milliseconds(1)), left));
    next_ = std::min(next_ * 2, longest_);
    ++waits_;
    return !surroundings_->stop() && surroundings_->clock->now() < until_;
}

}  // namespace cardionode::fed
