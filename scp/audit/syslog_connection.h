// One connection to the audit repository: TLS with octet counting (RFC 5425), plain TCP the same (RFC 6587 3.4.1), or
// one UDP datagram a message (RFC 5426); the last two only to this machine, as the settings see to.
//
// Syslog has no answers. So a message counts as delivered when the peer's TCP has acknowledged its last byte and the
// connection is still open: what stays undelivered is sent again over the next connection.
// TLS: 1.2 or newer, the server's certificate must be signed by a CA of ca_file and name the host; the node shows its
// own certificate where the settings have one.
// Thread safety: one object belongs to one thread. Every call returns within its time. Errors: Retry for the peer and
// the network; Config for files of the settings that cannot be used.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "conf/base/files.h"
#include "conf/base/node_settings.h"
#include "conf/base/result.h"

namespace cardionode {

class SyslogConnection {
public:
    static Result<SyslogConnection> open(const AuditSettings& settings, std::chrono::milliseconds longest);
    SyslogConnection(SyslogConnection&&) noexcept;
    SyslogConnection& operator=(SyslogConnection&&) noexcept;
    ~SyslogConnection();  ///< with the polite end of TLS

    Result<void> send(std::string_view message);
    /// Waits until everything sent has arrived at the peer.
    Result<void> all_arrived(std::chrono::milliseconds longest);

private:
    struct Tls;
    SyslogConnection(FileDescriptor socket, bool datagrams);
    Result<void> write(std::string_view bytes);
    Result<void> still_open();

    FileDescriptor socket_;
    bool datagrams_;
    std::unique_ptr<Tls> tls_;  ///< null: plain
};

}  // namespace cardionode
