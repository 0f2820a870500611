#include "pipeline/read/decoder_process.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <thread>

namespace cardionode {

namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr int kNoSandbox = 65;  // exit status of decode_main.cpp

enum class Io { Done, Closed, TimedOut };

/// Waits until the socket can be read or written, at most until `deadline`.
Io wait_for(int fd, short what, SteadyClock::time_point deadline) {
    while (true) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SteadyClock::now()).count();
        if (left <= 0) return Io::TimedOut;
        pollfd p{fd, what, 0};
        const int n = ::poll(&p, 1, static_cast<int>(std::min<long long>(left, 1000)));
        if (n < 0 && errno != EINTR) return Io::Closed;
        if (n > 0) return Io::Done;  // an error or hang-up shows in the call that follows
    }
}

Io send_all(int fd, std::span<const std::byte> bytes, SteadyClock::time_point deadline) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(n));
            continue;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return Io::Closed;
        if (const Io waited = wait_for(fd, POLLOUT, deadline); waited != Io::Done) return waited;
    }
    return Io::Done;
}

Io receive_all(int fd, std::span<std::byte> bytes, SteadyClock::time_point deadline) {
    while (!bytes.empty()) {
        const ssize_t n = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (n > 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(n));
            continue;
        }
        if (n == 0) return Io::Closed;
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) return Io::Closed;
        if (const Io waited = wait_for(fd, POLLIN, deadline); waited != Io::Done) return waited;
    }
    return Io::Done;
}

}  // namespace

std::filesystem::path default_decoder_program() {
    std::error_code error;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
    return (error ? std::filesystem::path(".") : self.parent_path()) / "cardionode-decode";
}

Result<DecoderProcess> DecoderProcess::start(const std::filesystem::path& chosen, std::chrono::milliseconds timeout) {
    const std::filesystem::path program = chosen.empty() ? default_decoder_program() : chosen;
    if (::access(program.c_str(), X_OK) != 0) {
        return config_error("the program for compressed images is missing: " + program.string());
    }
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        return retry_error(std::string("no socket for the decoder: ") + std::strerror(errno));
    }
    FileDescriptor ours(ends[0]);
    const FileDescriptor theirs(ends[1]);

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDOUT_FILENO);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    std::string path = program.string();
    std::array<char*, 2> arguments = {path.data(), nullptr};
    // Nothing of our environment but where DCMTK's dictionary lies and how a sanitizer is to behave.
    std::vector<std::string> kept;
    for (const char* name : {"DCMDICTPATH", "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LD_LIBRARY_PATH"}) {
        if (const char* value = std::getenv(name)) kept.push_back(std::string(name) + "=" + value);
    }
    std::vector<char*> environment;
    environment.reserve(kept.size() + 1);
    for (std::string& line : kept) environment.push_back(line.data());
    environment.push_back(nullptr);

    pid_t pid = -1;
    const int error = ::posix_spawn(&pid, path.c_str(), &actions, &attributes, arguments.data(), environment.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error == EAGAIN || error == ENOMEM) {
        return retry_error(std::string("no process for the decoder: ") + std::strerror(error));
    }
    if (error != 0) {
        return config_error("the program for compressed images cannot be run: " + path + ": " + std::strerror(error));
    }
    return DecoderProcess(pid, std::move(ours), timeout);
}

DecoderProcess::DecoderProcess(DecoderProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), socket_(std::move(other.socket_)), timeout_(other.timeout_) {}

DecoderProcess& DecoderProcess::operator=(DecoderProcess&& other) noexcept {
    if (this != &other) {
        end(false);
        pid_ = std::exchange(other.pid_, -1);
        socket_ = std::move(other.socket_);
        timeout_ = other.timeout_;
    }
    return *this;
}

DecoderProcess::~DecoderProcess() { end(false); }

void DecoderProcess::end(bool kill) noexcept {
    socket_.reset();
    if (pid_ <= 0) return;
    if (kill) ::kill(pid_, SIGKILL);
    const auto deadline = SteadyClock::now() + std::chrono::seconds(1);
    while (true) {
        const pid_t n = ::waitpid(pid_, &wait_status_, WNOHANG);
        if (n == pid_) {
            status_known_ = true;
            break;
        }
        if (n < 0 && errno != EINTR) break;  // somebody else took the status
        if (!kill && SteadyClock::now() > deadline) {
            ::kill(pid_, SIGKILL);
            kill = true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    pid_ = -1;
}

Error DecoderProcess::broken() {
    end(false);
    if (!status_known_) return retry_error("the decoder of compressed images ended for an unknown reason");
    if (WIFSIGNALED(wait_status_)) {
        const int signal = WTERMSIG(wait_status_);
        if (signal == SIGKILL || signal == SIGTERM || signal == SIGINT || signal == SIGHUP) {
            return retry_error("the decoder of compressed images was killed from outside");
        }
        if (signal == SIGPROF || signal == SIGXCPU) {
            return reject_error("the compressed image keeps the decoder busy without end");
        }
        return reject_error(std::string("the compressed image makes the decoder fail (") + ::strsignal(signal) + ")");
    }
    if (WEXITSTATUS(wait_status_) == kNoSandbox) {
        return config_error("cardionode-decode cannot close its sandbox on this machine (see its message)");
    }
    return reject_error("the compressed image makes the decoder fail (exit status " +
                        std::to_string(WEXITSTATUS(wait_status_)) + ")");
}

Result<DecodedFrame> DecoderProcess::decode(const decode::Request& wanted, std::span<const std::byte> codestream) {
    if (pid_ <= 0) return bug_error("decode() of a decoder that has ended");
    if (codestream.empty()) return reject_error("the compressed image is empty");
    if (codestream.size() > decode::kMaxCodestream) return reject_error("the compressed image is too large");
    decode::Request request = wanted;
    request.length = static_cast<std::uint32_t>(codestream.size());
    const auto head = decode::pack(request);
    decode::Request checked;
    if (!decode::unpack(head, checked)) return reject_error("the image is larger than any CT image");

    const auto deadline = SteadyClock::now() + timeout_;
    const auto failed = [&](Io io) -> Error {
        if (io == Io::TimedOut) {
            end(true);
            return retry_error("the decoder of compressed images gave no answer within " +
                               std::to_string(timeout_.count() / 1000) + " s");
        }
        return broken();
    };
    Io io = send_all(socket_.get(), head, deadline);
    if (io == Io::Done) io = send_all(socket_.get(), codestream, deadline);
    if (io != Io::Done) return failed(io);

    std::array<std::byte, decode::kAnswerBytes> answer_head{};
    io = receive_all(socket_.get(), answer_head, deadline);
    if (io != Io::Done) return failed(io);
    decode::Answer answer;
    const std::size_t pixels = static_cast<std::size_t>(request.rows) * request.columns;
    if (!decode::unpack(answer_head, pixels, answer)) {
        end(true);
        return reject_error("the compressed image makes the decoder answer nonsense");
    }
    if (answer.status != 0) {
        std::string reason(answer.length, '\0');
        io = receive_all(socket_.get(), std::as_writable_bytes(std::span(reason)), deadline);
        if (io != Io::Done) return failed(io);
        for (char& c : reason) {
            if (c < 0x20 || c > 0x7e) c = '?';
        }
        return reject_error(std::move(reason));
    }
    DecodedFrame frame;
    frame.values.resize(pixels);
    io = receive_all(socket_.get(), std::as_writable_bytes(std::span(frame.values)), deadline);
    if (io != Io::Done) return failed(io);
    frame.precision = static_cast<int>(answer.precision);
    frame.is_signed = answer.is_signed != 0;
    return frame;
}

}  // namespace cardionode
