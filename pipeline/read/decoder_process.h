// The reader's end of cardionode-decode: starts it, sends it frames, takes back stored values, ends it.
//
// Whatever the decoder does, a call returns within the time-out of a frame. After an error the process is gone; the
// next decode() of a new object starts another one.
// Thread safety: one object belongs to one thread; start() may be called from any.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "conf/base/files.h"
#include "conf/base/result.h"
#include "pipeline/read/decode_protocol.h"

namespace cardionode {

struct DecodedFrame {
    std::vector<std::uint16_t> values;  ///< rows * columns stored values as 16-bit patterns
    int precision = 16;                 ///< bits of a sample as the codestream says
    bool is_signed = false;             ///< as the codestream says
};

class DecoderProcess {
public:
    /// @param program        cardionode-decode; empty: beside the running program
    /// @param frame_timeout  wall clock for one frame, from the first byte sent to the last one received
    /// Config: the program is missing or cannot be run. Retry: no process or memory for it now.
    static Result<DecoderProcess> start(const std::filesystem::path& program, std::chrono::milliseconds frame_timeout);
    DecoderProcess(DecoderProcess&& other) noexcept;
    DecoderProcess& operator=(DecoderProcess&& other) noexcept;
    ~DecoderProcess();  ///< ends the process and waits for it, at most a second before it is killed

    /// Reject: the frame is damaged, makes the decoder crash, or needs more time or memory than any CT image does.
    /// Retry: the decoder was killed from outside, or gave no answer in time. Config: its sandbox cannot be set up.
    Result<DecodedFrame> decode(const decode::Request& request, std::span<const std::byte> codestream);

    pid_t pid() const { return pid_; }

private:
    DecoderProcess(pid_t pid, FileDescriptor socket, std::chrono::milliseconds timeout)
        : pid_(pid), socket_(std::move(socket)), timeout_(timeout) {}
    void end(bool kill) noexcept;
    Error broken();
    pid_t pid_ = -1;
    int wait_status_ = 0;
    bool status_known_ = false;
    FileDescriptor socket_;
    std::chrono::milliseconds timeout_{};
};

/// The folder of the running program / "cardionode-decode".
std::filesystem::path default_decoder_program();

}  // namespace cardionode
