// A connection to a peer as bytes, within times: TCP, or TLS over it.
//
// Thread safety: one object belongs to one thread. Errors: Retry, with the reason in words.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"

namespace cardionode {

class ByteStream {
public:
    using SteadyTime = std::chrono::steady_clock::time_point;
    enum class End { Bytes, Closed, TimedOut };
    struct ReadSome {
        End end = End::Closed;
        std::size_t size = 0;
    };

    virtual ~ByteStream() = default;
    /// At least one byte, unless the peer closed or the time is over.
    virtual ReadSome read_some(std::span<std::byte> into, SteadyTime until) = 0;
    /// All of them. Retry: closed, or not within the time.
    virtual Result<void> write(std::span<const std::byte> bytes, SteadyTime until) = 0;
    /// Until bytes can come or go on the socket. false: the time is over.
    virtual bool wait(bool writable, SteadyTime until) = 0;
    virtual int socket() const = 0;
};

/// Opens a connection to host and port.
using Dial =
    std::function<Result<std::unique_ptr<ByteStream>>(const std::string& host, int port, ByteStream::SteadyTime until)>;

/// Plain TCP with TCP_NODELAY; of several addresses of a host the first that answers. Retry: unknown, refused, silent.
Result<std::unique_ptr<ByteStream>> dial_tcp(const std::string& host, int port, ByteStream::SteadyTime until);

/// TLS over it, with the checks of scp/dicom/tls.h. @param name  of the destination, for messages
Dial dial_tls(const DestinationTlsSettings& settings, const std::string& name);

}  // namespace cardionode
