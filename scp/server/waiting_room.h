// Connections that were accepted and have not sent anything yet: each costs a socket here, not a process.
//
// Who sends something gets a process; who closes or is silent for too long never does. Nothing is read from a socket:
// poll(2) and FIONREAD tell all that is needed. Where many have sent something at one instant, those whose bytes can be
// a whole first message (an A-ASSOCIATE-RQ, a TLS ClientHello) go before those that sent a few bytes and stalled; the
// one that waits longest always has its turn as well.
// Thread safety: one object belongs to one thread. At most kMaxSilentConnections wait (the caller's limit).
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <poll.h>

#include "conf/base/files.h"
#include "scp/server/shared_state.h"

namespace cardionode {

class WaitingRoom {
public:
    using SteadyTime = std::chrono::steady_clock::time_point;
    struct Guest {
        FileDescriptor socket;
        std::string peer_address;
        Slot* slot = nullptr;
        bool tls = false;
        SteadyTime since{};
        SteadyTime until{};  ///< when it has waited for long enough
    };

    void add(Guest guest) { guests_.push_back(std::move(guest)); }
    bool empty() const { return guests_.empty(); }
    /// What poll(2) has to look at, so that it wakes when one of them sends something.
    void watch(std::vector<pollfd>& items) const;

    /// Up to `most` that sent something, in the order in which they are to be served.
    std::vector<Guest> take_ready(std::size_t most);
    /// Those that closed without a word.
    std::vector<Guest> take_closed();
    std::vector<Guest> take_overdue(SteadyTime now);
    std::vector<Guest> take_all();

private:
    std::vector<Guest> guests_;  ///< by arrival
};

}  // namespace cardionode
