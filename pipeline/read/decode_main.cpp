// cardionode-decode: turns compressed CT frames into stored values, locked away from everything else.
//
// Not for use by hand: the reader starts it, one process a series, and talks to it by decode_protocol.h. It opens no
// file and no connection; what a hostile image can reach is this process, which ends with the series.
//   cardionode-decode --try WHAT   shows that the sandbox holds: does what a hostile image might do (open, socket,
//                                  fork, memory, cpu) after the sandbox is closed. It must not end with exit status 0.

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pipeline/read/decode_codecs.h"
#include "pipeline/read/decode_protocol.h"
#include "pipeline/read/decode_sandbox.h"

namespace {

using namespace cardionode::decode;

constexpr unsigned kFrameCpuSeconds = 20;
// Exit statuses; the reader words them.
constexpr int kBadPeer = 64;
constexpr int kNoSandbox = 65;
constexpr int kUsage = 66;

/// false: the end of the stream before the first byte. Exits on a stream that is cut in the middle.
bool read_exactly(std::span<std::byte> into) {
    for (std::size_t have = 0; have < into.size();) {
        const ssize_t n = ::read(STDIN_FILENO, into.data() + have, into.size() - have);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0 && have == 0) return false;
        if (n <= 0) _exit(kBadPeer);
        have += static_cast<std::size_t>(n);
    }
    return true;
}

void write_exactly(std::span<const std::byte> from) {
    while (!from.empty()) {
        const ssize_t n = ::write(STDOUT_FILENO, from.data(), from.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(kBadPeer);
        from = from.subspan(static_cast<std::size_t>(n));
    }
}

void serve() {
    std::array<std::byte, kRequestBytes> head{};
    std::vector<std::byte> codestream;
    while (read_exactly(head)) {
        Request request;
        if (!unpack(head, request)) _exit(kBadPeer);
        codestream.resize(request.length);
        if (!read_exactly(codestream)) _exit(kBadPeer);
        limit_frame_cpu(kFrameCpuSeconds);
        const Decoded d = decode_frame(request, codestream);
        limit_frame_cpu(0);
        Answer answer{0, d.precision, d.is_signed, 0};
        if (d.values.empty()) {
            const std::string reason = d.reason.substr(0, kMaxReason);
            answer.status = 1;
            answer.length = static_cast<std::uint32_t>(reason.size());
            write_exactly(pack(answer));
            write_exactly(std::as_bytes(std::span(reason)));
        } else {
            answer.length = static_cast<std::uint32_t>(2 * d.values.size());
            write_exactly(pack(answer));
            write_exactly(std::as_bytes(std::span(d.values)));  // little endian, as all machines this is built for
        }
    }
}

int try_to_escape(std::string_view what) {
    if (what == "open") return ::open("/etc/hostname", O_RDONLY) >= 0 ? 0 : 1;
    if (what == "socket") return ::socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1;
    if (what == "fork") return ::fork() >= 0 ? 0 : 1;
    if (what == "memory") {
        std::vector<std::vector<char>> taken;
        try {
            for (int n = 0; n < 64; ++n) taken.emplace_back(64U << 20, 'x');
        } catch (const std::bad_alloc&) {
            return 1;
        }
        return 0;
    }
    if (what == "cpu") {
        limit_frame_cpu(1);
        volatile unsigned long n = 0;
        while (n < 60'000'000'000UL) n = n + 1;
        return 0;
    }
    return kUsage;
}

}  // namespace

int main(int argc, char** argv) {
    // Whatever the parent had open is none of our business.
    if (::close_range(3, ~0U, 0) != 0) return kNoSandbox;
    std::signal(SIGPROF, SIG_DFL);
    if (argc != 1 && !(argc == 3 && std::string_view(argv[1]) == "--try")) {
        std::fputs("cardionode-decode is started by the reader of cardionode; see --try in its source\n", stderr);
        return kUsage;
    }
    prepare_codecs();
    if (const std::string problem = close_sandbox({}); !problem.empty()) {
        std::fprintf(stderr, "cardionode-decode: %s\n", problem.c_str());
        return kNoSandbox;
    }
    if (argc == 3) _exit(try_to_escape(argv[2]));
    serve();
    _exit(0);
}
