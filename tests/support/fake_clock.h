// A clock that stands still until the test moves it.
#pragma once

#include <atomic>

#include "conf/base/time.h"

namespace cardionode::test {

class FakeClock final : public Clock {
public:
    explicit FakeClock(Moment start = Moment(Milliseconds(1'700'000'000'000)))
        : now_(start.time_since_epoch().count()) {}
    Moment now() const override { return Moment(Milliseconds(now_.load())); }
    void advance(Milliseconds by) { now_ += by.count(); }

private:
    std::atomic<std::int64_t> now_;
};

}  // namespace cardionode::test
