#include "pipeline/read/decode_sandbox.h"

#include <cerrno>
#include <csignal>
#include <cstring>

#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

namespace cardionode::decode {

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

std::string failed(const char* what) { return std::string(what) + ": " + std::strerror(errno); }

bool limit(__rlimit_resource_t what, rlim_t value) {
    const rlimit both{value, value};
    return ::setrlimit(what, &both) == 0;
}

class Filter {
public:
    Filter() : context_(seccomp_init(SCMP_ACT_KILL_PROCESS)) {}
    ~Filter() {
        if (context_ != nullptr) seccomp_release(context_);
    }
    Filter(const Filter&) = delete;
    Filter& operator=(const Filter&) = delete;

    bool valid() const { return context_ != nullptr; }
    template <class... Comparisons>
    void allow(int call, Comparisons... comparisons) {
        if (seccomp_rule_add(context_, SCMP_ACT_ALLOW, call, sizeof...(comparisons), comparisons...) != 0)
            good_ = false;
    }
    bool load() { return good_ && seccomp_load(context_) == 0; }

private:
    scmp_filter_ctx context_;
    bool good_ = true;
};

constexpr scmp_datum_t kWord = 0xffffffff;

std::string close_system_calls() {
    Filter f;
    if (!f.valid()) return "seccomp is not available";
    f.allow(SCMP_SYS(read), SCMP_A0(SCMP_CMP_EQ, STDIN_FILENO));
    f.allow(SCMP_SYS(write), SCMP_A0(SCMP_CMP_EQ, STDOUT_FILENO));
    f.allow(SCMP_SYS(exit_group));
    f.allow(SCMP_SYS(exit));
    // Memory: anonymous and never executable.
    f.allow(SCMP_SYS(brk));
    f.allow(SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0), SCMP_A4(SCMP_CMP_MASKED_EQ, kWord, kWord));
    f.allow(SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    f.allow(SCMP_SYS(mremap));
    f.allow(SCMP_SYS(munmap));
    f.allow(SCMP_SYS(madvise));
    f.allow(SCMP_SYS(futex));
    f.allow(SCMP_SYS(rt_sigreturn));
    f.allow(SCMP_SYS(rt_sigprocmask));  // longjmp out of libjpeg's errors
    f.allow(SCMP_SYS(clock_gettime));
    f.allow(SCMP_SYS(setitimer));
    if (!f.load()) return "the system call filter could not be installed";
    return {};
}

}  // namespace

std::string close_sandbox(const SandboxLimits& limits) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return failed("prctl PDEATHSIG");
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("prctl NO_NEW_PRIVS");
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return failed("prctl DUMPABLE");
    // A sanitizer asks for memory and descriptors of its own: it looks through a pipe whether an address is readable
    // (without one it calls every object invalid), and its report into a file would end the process by SIGXFSZ.
    if (kSanitized) return {};
    // NOFILE 0: descriptors that are open stay, no other can be made.
    if (!limit(RLIMIT_NOFILE, 0) || !limit(RLIMIT_FSIZE, 0) || !limit(RLIMIT_NPROC, 0) || !limit(RLIMIT_CORE, 0)) {
        return failed("setrlimit");
    }
    if (!limit(RLIMIT_CPU, limits.cpu_seconds)) return failed("setrlimit CPU");
    if (!limit(RLIMIT_AS, limits.memory_bytes)) return failed("setrlimit AS");
    return close_system_calls();
}

void limit_frame_cpu(unsigned seconds) {
    itimerval timer{};
    timer.it_value.tv_sec = seconds;
    ::setitimer(ITIMER_PROF, &timer, nullptr);
}

}  // namespace cardionode::decode
