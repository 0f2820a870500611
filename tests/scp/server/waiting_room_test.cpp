// Connections that wait for their first byte: who is served, in which order, and who leaves without a process.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <string>

#include "scp/server/waiting_room.h"

namespace cardionode {
namespace {

using std::chrono::seconds;

struct Room {
    WaitingRoom room;
    std::map<std::string, FileDescriptor> peers;
    WaitingRoom::SteadyTime now = std::chrono::steady_clock::now();

    void comes(const std::string& name, std::size_t bytes = 0, seconds patience = seconds(30)) {
        int ends[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        peers[name] = FileDescriptor(ends[1]);
        room.add({FileDescriptor(ends[0]), name, nullptr, false, now, now + patience});
        sends(name, bytes);
    }
    void sends(const std::string& name, std::size_t bytes) {
        const std::string text(bytes, 'x');
        ASSERT_EQ(::write(peers[name].get(), text.data(), bytes), static_cast<ssize_t>(bytes));
    }
};

std::string names(const std::vector<WaitingRoom::Guest>& guests) {
    std::string all;
    for (const auto& guest : guests) all += guest.peer_address + " ";
    return all;
}

}  // namespace

TEST(WaitingRoom, ServesWhoSentSomethingByArrival) {
    Room r;
    r.comes("silent");
    r.comes("a", 1);
    r.comes("b", 200);
    EXPECT_EQ(names(r.room.take_ready(4)), "a b ");
    EXPECT_EQ(names(r.room.take_ready(4)), "");
    r.sends("silent", 3);
    EXPECT_EQ(names(r.room.take_ready(4)), "silent ");
    EXPECT_TRUE(r.room.empty());
}

TEST(WaitingRoom, AWholeRequestGoesBeforeACrowdThatStallsAndTheOldestHasItsTurn) {
    Room r;
    for (int i = 0; i < 9; ++i) r.comes("stalled" + std::to_string(i), 11);
    r.comes("whole", 200);
    EXPECT_EQ(names(r.room.take_ready(2)), "whole stalled0 ");
    r.comes("next", 200);
    r.comes("last", 200);
    EXPECT_EQ(names(r.room.take_ready(2)), "next stalled1 ") << "whole ones may not keep the oldest waiting";
    EXPECT_EQ(names(r.room.take_ready(20)).substr(0, 18), "stalled2 stalled3 ") << "with room for all: by arrival";
}

TEST(WaitingRoom, WhoClosesOrIsSilentForTooLongLeavesWithoutAProcess) {
    Room r;
    r.comes("closes", 0, seconds(5));
    r.comes("speaks and closes", 10, seconds(5));
    r.comes("impatient", 0, seconds(5));
    r.comes("patient");
    r.peers.erase("closes");
    r.peers.erase("speaks and closes");
    EXPECT_EQ(names(r.room.take_closed()), "closes ");
    EXPECT_EQ(names(r.room.take_ready(4)), "speaks and closes ");
    EXPECT_EQ(names(r.room.take_overdue(r.now + seconds(4))), "");
    EXPECT_EQ(names(r.room.take_overdue(r.now + seconds(5))), "impatient ");
    EXPECT_EQ(names(r.room.take_all()), "patient ");
    EXPECT_TRUE(r.room.empty());
}

}  // namespace cardionode
