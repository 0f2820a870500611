// Loaded into a program by LD_PRELOAD: moves its wall clock by what a file says, in milliseconds. Clocks that measure
// durations are left alone. See shifted_clock.h.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <ctime>

namespace {

/// Shared with the test and with every child of the program.
const std::atomic<std::int64_t>* offset_ms() {
    static const std::atomic<std::int64_t>* const shared = [] {
        const std::atomic<std::int64_t>* none = nullptr;
        const char* file = std::getenv("CARDIONODE_TEST_CLOCK");
        const int fd = file ? ::open(file, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0) return none;
        void* memory = ::mmap(nullptr, sizeof(std::int64_t), PROT_READ, MAP_SHARED, fd, 0);
        ::close(fd);
        return memory == MAP_FAILED ? none : static_cast<const std::atomic<std::int64_t>*>(memory);
    }();
    return shared;
}

}  // namespace

extern "C" int clock_gettime(clockid_t id, timespec* time) noexcept {
    const long result = ::syscall(SYS_clock_gettime, id, time);
    if (result != 0 || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return static_cast<int>(result);
    const auto* offset = offset_ms();
    const std::int64_t ms = offset ? offset->load() : 0;
    time->tv_sec += ms / 1000;
    time->tv_nsec += ms % 1000 * 1'000'000;
    if (time->tv_nsec >= 1'000'000'000) {
        time->tv_nsec -= 1'000'000'000;
        ++time->tv_sec;
    }
    return 0;
}

extern "C" int gettimeofday(timeval* time, void*) noexcept {
    timespec precise{};
    clock_gettime(CLOCK_REALTIME, &precise);
    if (time) *time = {precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}

extern "C" time_t time(time_t* out) noexcept {
    timespec precise{};
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}
