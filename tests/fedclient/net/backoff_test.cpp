#include "fedclient/net/backoff.h"

#include <vector>

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace cardionode::fed {
namespace {

struct World {
    test::FakeClock clock;
    std::vector<std::int64_t> pauses;
    bool cancelled = false;

    Surroundings surroundings(std::uint64_t seed = 1) {
        Surroundings s;
        s.clock = &clock;
        s.sleep = [this](Milliseconds time) {
            pauses.push_back(time.count());
            clock.advance(time);
        };
        s.cancelled = [this] { return cancelled; };
        s.seed = seed;
        return s;
    }
};

TEST(Backoff, WaitsLongerEachTimeUpToItsLongest) {
    World world;
    const Surroundings s = world.surroundings();
    Backoff backoff(s, world.clock.now() + std::chrono::hours(1), Milliseconds(500), Milliseconds(30'000));
    for (int i = 0; i < 12; ++i) ASSERT_TRUE(backoff.wait());
    std::int64_t full = 500;
    for (const std::int64_t pause : world.pauses) {
        EXPECT_GE(pause, full / 2);
        EXPECT_LE(pause, full);
        full = std::min<std::int64_t>(full * 2, 30'000);
    }
}

TEST(Backoff, NeverWaitsPastTheDeadline) {
    World world;
    const Surroundings s = world.surroundings();
    const Moment until = world.clock.now() + Milliseconds(10'000);
    Backoff backoff(s, until, Milliseconds(500), Milliseconds(30'000));
    while (backoff.wait()) EXPECT_LT(world.clock.now(), until);
    EXPECT_EQ(world.clock.now(), until);
}

TEST(Backoff, IsNotInStepWithAnotherHospital) {
    World one, other;
    const Surroundings a = one.surroundings(1), b = other.surroundings(2);
    Backoff first(a, one.clock.now() + std::chrono::hours(1)), second(b, other.clock.now() + std::chrono::hours(1));
    for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(first.wait());
        ASSERT_TRUE(second.wait());
    }
    EXPECT_NE(one.pauses, other.pauses);
}

TEST(Backoff, EndsWhenCancelled) {
    World world;
    const Surroundings s = world.surroundings();
    Backoff backoff(s, world.clock.now() + std::chrono::hours(1));
    ASSERT_TRUE(backoff.wait());
    world.cancelled = true;
    EXPECT_FALSE(backoff.wait());
}

}  // namespace
}  // namespace cardionode::fed
