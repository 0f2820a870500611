#include "tests/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/support/temporary_folder.h"

extern char** environ;

namespace cardionode::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::vector<char*> c_strings(std::vector<std::string>& words) {
    std::vector<char*> pointers;
    pointers.reserve(words.size() + 1);
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    return pointers;
}

std::vector<std::string> environment_with(const std::map<std::string, std::string>& more) {
    std::vector<std::string> all;
    for (char** entry = environ; *entry; ++entry) {
        const std::string text = *entry;
        if (!more.contains(text.substr(0, text.find('=')))) all.push_back(text);
    }
    for (const auto& [name, value] : more) all.push_back(name + "=" + value);
    return all;
}

pid_t start_with(const std::vector<std::string>& words, int output, int errors, const Process::Options& options) {
    std::vector<std::string> arguments = words;
    std::vector<std::string> variables = environment_with(options.environment);
    std::vector<char*> argv = c_strings(arguments);
    std::vector<char*> envp = c_strings(variables);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (pid > 0) {
        ::setpgid(pid, pid);  // in both, so that the group is there whoever comes first
        return pid;
    }
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that crashes leaves nothing behind
    if (::getppid() != parent) ::_exit(126);
    const int input = ::open("/dev/null", O_RDONLY);
    ::dup2(input, 0);
    ::dup2(output, 1);
    ::dup2(errors, 2);
    if (!options.folder.empty() && ::chdir(options.folder.c_str()) != 0) ::_exit(126);
    if (options.user && (::setgid(*options.user) != 0 || ::setuid(*options.user) != 0)) ::_exit(126);
    // The death signal is cleared by a change of user.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::execvpe(argv[0], argv.data(), envp.data());
    ::_exit(127);
}

std::string text_of(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

int open_for_append(const std::filesystem::path& file) {
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) throw std::runtime_error("cannot write " + file.string() + ": " + std::strerror(errno));
    return fd;
}

}  // namespace

Process Process::start(const std::vector<std::string>& words, const Options& options) {
    const int output = open_for_append(options.output.empty() ? std::filesystem::path("/dev/null") : options.output);
    const pid_t pid = start_with(words, output, output, options);
    ::close(output);
    return Process(pid);
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), ending_(std::exchange(other.ending_, std::nullopt)) {}

Process& Process::operator=(Process&& other) noexcept {
    if (this != &other) {
        kill_hard();
        pid_ = std::exchange(other.pid_, -1);
        ending_ = std::exchange(other.ending_, std::nullopt);
    }
    return *this;
}

Process::~Process() { kill_hard(); }

bool Process::running() { return !wait(milliseconds(0)); }

void Process::signal(int number) {
    if (pid_ > 0 && running()) ::kill(pid_, number);
}

void Process::signal_all(int number) {
    if (pid_ > 0) ::kill(-pid_, number);
}

std::optional<Ending> Process::wait(milliseconds longest) {
    if (pid_ <= 0) return Ending{};
    const auto deadline = steady_clock::now() + longest;
    while (!ending_) {
        int status = 0;
        const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
        if (ended == pid_) {
            ending_ = WIFEXITED(status) ? Ending{WEXITSTATUS(status), 0} : Ending{-1, WTERMSIG(status)};
        } else if (ended < 0 && errno != EINTR) {
            ending_ = Ending{};  // somebody else took it
        } else if (steady_clock::now() >= deadline) {
            return std::nullopt;
        } else {
            pause_for(milliseconds(5));
        }
    }
    return ending_;
}

Ending Process::stop(milliseconds longest) {
    signal(SIGTERM);
    if (!wait(longest)) kill_hard();
    return wait(std::chrono::seconds(10)).value_or(Ending{});
}

void Process::kill_hard() {
    if (pid_ <= 0) return;
    signal_all(SIGKILL);
    (void)wait(std::chrono::seconds(10));
}

Finished run(const std::vector<std::string>& words, milliseconds longest, const Process::Options& options) {
    const TemporaryFolder folder;
    const int output = open_for_append(folder / "out");
    const int errors = open_for_append(folder / "err");
    struct Guard {
        pid_t pid;
        ~Guard() {
            if (pid > 0) ::kill(-pid, SIGKILL);
        }
    } guard{start_with(words, output, errors, options)};
    ::close(output);
    ::close(errors);
    const auto deadline = steady_clock::now() + longest;
    int status = 0;
    while (::waitpid(guard.pid, &status, WNOHANG) == 0) {
        if (steady_clock::now() > deadline) {
            ::kill(-guard.pid, SIGKILL);
            ::waitpid(guard.pid, &status, 0);
            throw std::runtime_error(words.front() + " took longer than " + std::to_string(longest.count()) + " ms\n" +
                                     text_of(folder / "out") + text_of(folder / "err"));
        }
        pause_for(milliseconds(5));
    }
    guard.pid = -1;
    return {WIFEXITED(status) ? Ending{WEXITSTATUS(status), 0} : Ending{-1, WTERMSIG(status)}, text_of(folder / "out"),
            text_of(folder / "err")};
}

bool installed(const std::string& name) {
    if (name.find('/') != std::string::npos) return ::access(name.c_str(), X_OK) == 0;
    const char* path = std::getenv("PATH");
    std::istringstream folders(path ? path : "/usr/bin:/bin");
    for (std::string folder; std::getline(folders, folder, ':');) {
        if (::access((folder + "/" + name).c_str(), X_OK) == 0) return true;
    }
    return false;
}

void pause_for(milliseconds time) { std::this_thread::sleep_for(time); }

std::string program(const std::string& name) { return std::string(CARDIONODE_BINARY_DIR) + "/" + name; }

}  // namespace cardionode::test
