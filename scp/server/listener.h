// The listening socket.
//
// Thread safety: plain functions.
#pragma once

#include <string>

#include "conf/base/files.h"
#include "conf/base/result.h"

namespace cardionode {

/// Listens on a numeric address. Config: in use, forbidden, not an address of this machine.
Result<FileDescriptor> listen_on(const std::string& address, int port);

struct Accepted {
    FileDescriptor socket;  ///< invalid: nobody waits
    std::string peer_address;
    int error_number = 0;  ///< why not, when it is not only that nobody waits
};
Accepted accept_from(int listener);

}  // namespace cardionode
