#include "scp/server/side_process.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "conf/base/log.h"

namespace cardionode {
namespace {

constexpr std::chrono::milliseconds kFirstPause{200};
constexpr std::chrono::milliseconds kLongestPause{30'000};

}  // namespace

bool SideProcess::start_if_due() {
    const auto now = std::chrono::steady_clock::now();
    if (!run_ || pid_ >= 0 || now < next_) return false;
    const int pid = ::fork();
    if (pid == 0) return true;
    if (pid < 0) {
        log_error("cannot_fork", {{"process", name_}, {"reason", std::strerror(errno)}});
        next_ = now + kFirstPause;
        return false;
    }
    pid_ = pid;
    ++starts_;
    started_ = now;
    return false;
}

bool SideProcess::ended(int pid, bool clean, const std::string& how) {
    if (pid_ < 0 || pid != pid_) return false;
    const auto now = std::chrono::steady_clock::now();
    pid_ = -1;
    if (clean || now - started_ > kLongestPause) pause_ = std::chrono::milliseconds(0);
    pause_ = std::clamp(pause_ * 2, kFirstPause, kLongestPause);
    next_ = now + pause_;
    if (!clean) log_error(name_ + "_ended", {{"how", how}, {"again_in_ms", pause_.count()}});
    return true;
}

void SideProcess::signal(int number) const {
    if (pid_ >= 0) ::kill(pid_, number);
}

void SideProcess::end(std::chrono::milliseconds longest) {
    if (pid_ < 0) return;
    const auto until = std::chrono::steady_clock::now() + longest;
    ::kill(pid_, SIGUSR1);
    while (::waitpid(pid_, nullptr, WNOHANG) == 0) {
        if (std::chrono::steady_clock::now() > until) ::kill(pid_, SIGKILL);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    pid_ = -1;
}

}  // namespace cardionode
