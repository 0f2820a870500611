// A process beside the receiving: forked by the supervisor, started again with growing pauses when it ends.
//
// Nothing that comes in waits for one. Thread safety: of the supervisor's thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace cardionode {

class SideProcess {
public:
    /// @param run  in the child; returns its exit code
    SideProcess(std::string name, std::function<int()> run) : name_(std::move(name)), run_(std::move(run)) {}

    /// Forks when it does not run and is due. true: this is the child; call run() and end.
    bool start_if_due();
    int run() const { return run_(); }
    /// @param how  for the log. false: the process is none of this
    bool ended(int pid, bool clean, const std::string& how);
    /// Asks it to end, waits for at most `longest`, then kills it.
    void end(std::chrono::milliseconds longest);

private:
    std::string name_;
    std::function<int()> run_;
    int pid_ = -1;
    std::chrono::steady_clock::time_point started_{};
    std::chrono::steady_clock::time_point next_{};
    std::chrono::milliseconds pause_{0};
};

}  // namespace cardionode
