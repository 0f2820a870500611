// C-STORE of one Part 10 file to one destination (DCMTK inside).
//
// One association an output. Proposed: the file's SOP class in the file's transfer syntax, and, unless the file is
// compressed, in the default one (Implicit VR Little Endian) in a context of its own (PS3.5 10.1); nothing else.
// An answer counts only if it names our message and our instance.
// With `tls` in the destination: TLS 1.2 or 1.3, the certificate must come from the given CA and carry the host's name,
// or be the pinned one (tls_transport.h); names are checked by OpenSSL, as DCMTK 3.6.7 checks none.
// Thread safety: calls for different files may run at once, after prepare_dicom_network().
#pragma once

#include <filesystem>
#include <string>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "scp/queue/queue.h"

namespace cardionode {

struct SendTimeouts {
    int acse_seconds = 30;   ///< for a TLS handshake, for the answer to an association request, and to a release
    int dimse_seconds = 60;  ///< for the answer to a request; a peer that parses slowly needs more than 30
    int linger_seconds = 5;  ///< for the report of a storage commitment on the association that asked for it
};

/// Once at the start of a program, before any thread: silences DCMTK's own log (it prints UIDs), ignores SIGPIPE, asks
/// for TCP_NODELAY, and sets the process's time-outs for connecting and for a peer that stops reading.
/// @param connect_seconds  TCP connect
void prepare_dicom_network(int connect_seconds = 10, int write_seconds = 60);

/// Sends the file. @return what the destination said beside success: "already there (status 0x0111)"; mostly empty
/// Every message begins with the destination: "pacs1 (PACS1 at 10.0.0.5:104): connection refused".
/// Retry: no connection, no TLS or another certificate than expected, transient rejection, abort, no answer in time,
/// out of resources, an answer for another message. Reject: permanent rejection, SOP class or transfer syntax not
/// accepted, the peer refuses the object, the file is missing or not the announced instance.
Result<std::string> store_output(const std::filesystem::path& file, const OutputFile& output,
                                 const DestinationSettings& destination, const SendTimeouts& timeouts);

}  // namespace cardionode
