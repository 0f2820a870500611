#include "scp/server/process_control.h"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cardionode {
namespace {

std::atomic<bool> end_asked{false};

/// What sched_setattr(2) takes; glibc 2.36 knows neither, and the kernel's header redefines what <sched.h> has.
struct SchedulingWish {
    std::uint32_t size = sizeof(SchedulingWish);
    std::uint32_t policy = SCHED_OTHER;
    std::uint64_t flags = 0;
    std::int32_t nice = 0;
    std::uint32_t priority = 0;
    std::uint64_t runtime_ns = 0;
    std::uint64_t deadline_ns = 0;
    std::uint64_t period_ns = 0;
};

/// An answer waits for two wake-ups: data from the peer, and the disk. Where a program that computes (the pipeline)
/// holds the CPU, each would wait for the next tick of 4 ms: 8 ms for an image whose work takes 0.5 ms. A short time
/// slice is the kernel's way to say "little to do, but soon" (Linux 6.12; older ones ignore it); it gives no more CPU
/// time than others get. A lower nice value is taken where the unit or the user allows it.
void be_scheduled(int nice) {
    const sched_param ordinary{};
    (void)::sched_setscheduler(0, SCHED_OTHER, &ordinary);
    (void)::setpriority(PRIO_PROCESS, 0, nice);
    SchedulingWish wish;
    wish.nice = ::getpriority(PRIO_PROCESS, 0);
    wish.runtime_ns = 100'000;
    (void)::syscall(SYS_sched_setattr, 0, &wish, 0U);
}

/// ioprio_set(2): best effort, the lowest of its levels. <linux/ioprio.h> of later kernels is no C++ (`class` is a name
/// in it), and glibc has nothing.
constexpr int kIoprioWhoProcess = 1, kIoprioClassBestEffort = 2, kIoprioClassShift = 13, kIoprioLowestLevel = 7;

}  // namespace

bool become_child(int parent_process, int signal_when_parent_dies) {
    struct sigaction action {};
    action.sa_handler = [](int) { end_asked = true; };
    sigaction(SIGUSR1, &action, nullptr);
    action.sa_handler = SIG_IGN;
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGXFSZ}) sigaction(number, &action, nullptr);
    action.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &action, nullptr);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_SETMASK, &blocked, nullptr);
    end_asked = false;
    ::prctl(PR_SET_PDEATHSIG, signal_when_parent_dies);
    return ::getppid() == parent_process;
}

bool asked_to_end() { return end_asked; }

void wait_for_work(int event_fd, std::chrono::milliseconds longest) {
    sigset_t none;
    sigemptyset(&none);
    const timespec time{longest.count() / 1000, longest.count() % 1000 * 1'000'000};
    pollfd item{event_fd, POLLIN, 0};
    if (::ppoll(&item, 1, &time, &none) <= 0) return;
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t read = ::read(event_fd, &count, sizeof count);
}

void be_prompt() {
    if (::sched_getscheduler(0) == SCHED_OTHER) be_scheduled(-10);  // otherwise the unit chose, and better
}

/// Receiving goes first: what is durable in a segment can wait (IndexerLoop). But not for ever behind programs that
/// compute: so no higher nice value. Nor the idle class of I/O: a journal commit of the file system may wait for these
/// writes, and everybody's answers for the commit.
void be_patient() {
    be_scheduled(0);
    (void)::syscall(SYS_ioprio_set, kIoprioWhoProcess, 0,
                    kIoprioClassBestEffort << kIoprioClassShift | kIoprioLowestLevel);
}

}  // namespace cardionode
