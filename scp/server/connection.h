// One accepted TCP connection: reads whole PDUs and writes answers, each within a time.
//
// Plain, or TLS after secure(); what is above reads and writes the same way.
// Thread safety: one object belongs to one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "conf/base/files.h"
#include "conf/base/result.h"
#include "scp/dicom/pdu.h"
#include "scp/dicom/tls.h"

namespace cardionode {

using SteadyTime = std::chrono::steady_clock::time_point;

enum class ReadEnd {
    Pdu,         ///< a whole PDU is there
    Closed,      ///< the peer closed or reset the connection
    TimedOut,    ///< silence, or a PDU that comes too slowly
    NotAllowed,  ///< the type or length of the PDU was refused by the caller's rule; its header is in `header`
    Stopped,     ///< this process was asked to end
};

struct ReadPdu {
    ReadEnd end = ReadEnd::Closed;
    PduHeader header;
    std::span<const std::byte> body;  ///< valid until the next read
};

enum class Handshake { Done, Refused, Closed, TimedOut, Stopped };

class Connection {
public:
    /// @param socket    TCP, is made non-blocking; TCP_NODELAY is set: without it each answer waits 40 ms for the
    ///                  peer's delayed acknowledgement
    /// @param stop      read between waits; true: end
    /// @param progress  called whenever bytes came in or went out
    static Result<Connection> create(FileDescriptor socket, std::size_t longest_pdu, std::function<bool()> stop,
                                     std::function<void()> progress);

    /// The server's side of TLS, before anything is read. After Refused, tls()->failure() says why; the peer knows.
    /// Retry: no memory.
    Result<Handshake> secure(const TlsContext& context, SteadyTime until);
    /// none: plain
    const TlsSession* tls() const { return tls_ ? &*tls_ : nullptr; }

    /// @param first     until when the first byte must come
    /// @param whole     how long the rest may take from then on
    /// @param allowed   looks at type and length before the body is waited for
    /// @param latest    when all of it is over, however it came
    ReadPdu read_pdu(SteadyTime first, std::chrono::milliseconds whole,
                     const std::function<bool(const PduHeader&)>& allowed, SteadyTime latest = SteadyTime::max());
    /// false: closed, or not within the time.
    bool write(std::span<const std::byte> bytes, std::chrono::milliseconds longest);
    /// Says that nothing more comes and waits until the peer closes, so that the last answer reaches it.
    void close_after_answer(std::chrono::milliseconds longest);

    int fd() const { return socket_.get(); }

private:
    Connection(FileDescriptor socket, std::size_t longest_pdu, std::function<bool()> stop,
               std::function<void()> progress);
    enum class Wait { Ready, TimedOut, Stopped };
    struct Moved {
        std::size_t bytes = 0;
        short wait_for = 0;  ///< poll(2) events to wait for when no bytes moved; 0: closed
    };
    Moved receive(std::span<std::byte> into);
    Moved transmit(std::span<const std::byte> bytes);
    Wait wait_for(short events, SteadyTime until);
    ReadEnd fill(std::size_t wanted, SteadyTime until);

    FileDescriptor socket_;
    std::function<bool()> stop_;
    std::function<void()> progress_;
    std::size_t capacity_;
    std::unique_ptr<std::byte[]> buffer_;  ///< not cleared: pages that no peer fills cost nothing
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::optional<TlsSession> tls_;
};

}  // namespace cardionode
