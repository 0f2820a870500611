// A process beside the receiving: forked by the supervisor, started again with growing pauses when it ends.
//
// No answer to a peer waits for one. Thread safety: of the supervisor's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace cardionode {

class SideProcess {
public:
    SideProcess() = default;  ///< one that is never due
    /// @param name  for the log: "NAME_ended"  @param run  in the child; returns its exit code
    SideProcess(std::string name, int signal_when_parent_dies, std::function<int()> run)
        : name_(std::move(name)), signal_when_parent_dies_(signal_when_parent_dies), run_(std::move(run)) {}

    /// Forks when it does not run and is due. true: this is the child; call run() and end.
    bool start_if_due();
    int run() const { return run_(); }
    int signal_when_parent_dies() const { return signal_when_parent_dies_; }

    bool running() const { return pid_ >= 0; }
    std::uint64_t starts() const { return starts_; }
    void signal(int number) const;
    /// One that ended well was asked to, for new settings, and starts again soon.
    /// @param how  for the log. false: the process is none of this
    bool ended(int pid, bool clean, const std::string& how);
    /// Asks it to end, waits for at most `longest`, then kills it.
    void end(std::chrono::milliseconds longest);

private:
    std::string name_;
    int signal_when_parent_dies_ = 0;
    std::function<int()> run_;
    int pid_ = -1;
    std::uint64_t starts_ = 0;
    std::chrono::steady_clock::time_point started_{};
    std::chrono::steady_clock::time_point next_{};
    std::chrono::milliseconds pause_{0};
};

}  // namespace cardionode
