// What cardionode-decode may still do once it has its libraries: read standard input, write standard output, compute.
//
// Thread safety: call from the only thread, once.
#pragma once

#include <cstdint>
#include <string>

namespace cardionode::decode {

struct SandboxLimits {
    std::uint64_t memory_bytes = 1536ULL << 20;  ///< address space, libraries included
    std::uint64_t cpu_seconds = 3600;            ///< of the whole process; a frame has a limit of its own
};

/// rlimits (memory, CPU time, no files, no children, no core dump), no new privileges, dies with its parent, and a
/// seccomp allow-list: any other system call kills the process. Programs built with a sanitizer keep the rlimits on
/// files and children only: the sanitizers' own memory and system calls do not fit.
/// @return empty, or what could not be set up (the caller must then not decode)
std::string close_sandbox(const SandboxLimits& limits);

/// Arms a limit of CPU seconds for the frame that follows; 0 disarms. The process is ended by SIGPROF beyond it.
void limit_frame_cpu(unsigned seconds);

}  // namespace cardionode::decode
