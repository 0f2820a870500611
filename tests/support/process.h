// Programs that a test starts: each dies with its Process object, and with the test itself.
//
// Thread safety: one object belongs to one thread. Errors: throws std::runtime_error, which fails the test.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cardionode::test {

/// How a program ended.
struct Ending {
    int exit_code = -1;  ///< -1: by a signal
    int signal = 0;      ///< 0: by itself
    bool operator==(const Ending&) const = default;
};

/// One running program with its children. The destructor ends them all with SIGKILL.
class Process {
public:
    struct Options {
        std::filesystem::path output;                    ///< stdout and stderr are appended here; empty: discarded
        std::map<std::string, std::string> environment;  ///< beside the test's own
        std::filesystem::path folder;                    ///< working folder; empty: the test's
        /// user to run as (by setuid); none: the test's own
        std::optional<uid_t> user;
    };
    static Process start(const std::vector<std::string>& words, const Options& options);
    Process(Process&& other) noexcept;
    Process& operator=(Process&& other) noexcept;
    ~Process();

    pid_t pid() const { return pid_; }
    bool running();
    /// To the program alone.
    void signal(int number);
    /// To the program and its children (its process group).
    void signal_all(int number);
    /// none: still running after `longest`.
    std::optional<Ending> wait(std::chrono::milliseconds longest);
    /// SIGTERM, then SIGKILL after `longest`.
    Ending stop(std::chrono::milliseconds longest = std::chrono::seconds(15));
    /// SIGKILL to the program and its children: what a crash or a power cut leaves behind.
    void kill_hard();

private:
    explicit Process(pid_t pid) : pid_(pid) {}
    pid_t pid_ = -1;
    std::optional<Ending> ending_;
};

struct Finished {
    Ending ending;
    std::string output;  ///< stdout
    std::string errors;  ///< stderr
    bool ok() const { return ending.exit_code == 0; }
};

/// Runs a program to its end; one that takes longer is killed, and the call throws.
Finished run(const std::vector<std::string>& words, std::chrono::milliseconds longest = std::chrono::seconds(60),
             const Process::Options& options = {});

/// Is the program on PATH?
bool installed(const std::string& program);

/// Asks every 20 ms until `happened` is true; false: not within `longest`.
template <class Happened>
bool eventually(std::chrono::milliseconds longest, Happened happened);

void pause_for(std::chrono::milliseconds time);

template <class Happened>
bool eventually(std::chrono::milliseconds longest, Happened happened) {
    const auto deadline = std::chrono::steady_clock::now() + longest;
    while (!happened()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        pause_for(std::chrono::milliseconds(20));
    }
    return true;
}

/// A program of this build: build/<preset>/bin/<name>.
std::string program(const std::string& name);

}  // namespace cardionode::test
