// Limits of the receiver: associations, times, processes, space.
#include <algorithm>
#include <csignal>
#include <fstream>
#include <memory>

#include "tests/scp/server/receiver.h"
#include "tests/scp/server/small_disk.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const std::vector<Proposal> kContexts = {{1, std::string(kCtImage), {std::string(kExplicit)}},
                                         {3, "1.2.840.10008.1.1", {std::string(kImplicit)}}};
const std::string kRejectedForTheMoment = reject_pdu(2, 3, 2);  // transient, local limit exceeded

}  // namespace

TEST(Limits, TooManyAssociationsAreSentAwayForTheMoment) {
    Receiver receiver("  max_associations: 2\n");
    receiver.start();
    auto first = std::make_unique<RawPeer>(receiver.port());
    RawPeer second(receiver.port()), third(receiver.port());
    for (RawPeer* peer : {first.get(), &second}) {
        peer->send(associate_request(kContexts));
        ASSERT_EQ(peer->receive_pdu()[0], 2);
    }
    third.send(associate_request(kContexts));
    EXPECT_EQ(third.receive_pdu(), kRejectedForTheMoment);
    first.reset();
    EXPECT_TRUE(eventually(seconds(5), [&] { return echo_works(receiver.port()); }));
}

TEST(Limits, OneAddressCannotTakeAllAssociations) {
    Receiver receiver("  max_associations: 4\n  max_associations_per_address: 2\n");
    receiver.start();
    RawPeer first(receiver.port()), second(receiver.port()), third(receiver.port());
    for (RawPeer* peer : {&first, &second}) {
        peer->send(associate_request(kContexts));
        ASSERT_EQ(peer->receive_pdu()[0], 2);
    }
    third.send(associate_request(kContexts));
    EXPECT_EQ(third.receive_pdu(), kRejectedForTheMoment);
    EXPECT_NE(receiver.log().find("max_associations_per_address"), std::string::npos);
    RawPeer elsewhere(receiver.port(), "127.0.0.2");
    elsewhere.send(associate_request(kContexts));
    EXPECT_EQ(elsewhere.receive_pdu()[0], 2);
}

TEST(Limits, AnAssociationHasAnEndEvenWhereSomethingAlwaysComes) {
    Receiver receiver("  longest_association_seconds: 1\n");
    receiver.start();
    RawPeer peer(receiver.port());
    peer.send(associate_request(kContexts));
    ASSERT_EQ(peer.receive_pdu()[0], 2);
    std::string answer;
    const auto begun = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begun < seconds(10)) {
        peer.send(data_pdu(3, 3, echo_command()));
        answer = peer.receive_pdu();
        if (answer.empty() || answer[0] != 4) break;
        pause_for(milliseconds(10));
    }
    EXPECT_EQ(answer, abort_pdu(0, 0));
    EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(5));
    EXPECT_TRUE(receiver.wait_for_log("open for too long"));
}

TEST(Limits, AProcessThatHangsIsEndedAndItsPlaceIsFree) {
    Receiver receiver("  association_timeout_seconds: 1\n  max_associations: 1\n");
    receiver.start();
    ASSERT_TRUE(receiver.wait_for_log("recovered"));
    const auto before = receiver.children();
    RawPeer peer(receiver.port());
    peer.send("\1");  // who sends nothing has no process
    pid_t hanging = 0;
    ASSERT_TRUE(eventually(seconds(5), [&] {
        for (const pid_t child : receiver.children())
            if (std::ranges::find(before, child) == before.end()) hanging = child;
        return hanging != 0;
    }));
    ASSERT_EQ(::kill(hanging, SIGSTOP), 0);  // as a process that waits for a disk that never answers
    EXPECT_TRUE(peer.closed_within(seconds(20)));
    EXPECT_TRUE(receiver.wait_for_log("association_process_hangs"));
    EXPECT_TRUE(eventually(seconds(5), [&] { return echo_works(receiver.port()); }));
    EXPECT_TRUE(eventually(seconds(5), [&] { return receiver.children().size() == kHelpers; }));
}

TEST(Limits, WithoutItsSentinelTheSpoolTakesNothing) {
    const TemporaryFolder folder;
    const std::filesystem::path spool = folder / "spool", sentinel = spool / "this-is-the-disk";
    Receiver receiver("  spool_sentinel: this-is-the-disk\n", spool);
    const Finished refused = receiver.run_to_end();
    EXPECT_EQ(refused.ending.exit_code, 2);
    EXPECT_NE(refused.errors.find("is its disk mounted?"), std::string::npos) << refused.errors;
    EXPECT_FALSE(std::filesystem::exists(spool)) << "nothing is made in the mount point";

    std::filesystem::create_directories(spool);
    std::ofstream(sentinel).put('x');
    receiver.start();
    const std::vector<Instance> slices = {made_slice(1), made_slice(2), made_slice(3)};
    Scanner scanner(receiver.port(), slices);
    EXPECT_EQ(scanner.store(slices[0]), 0);
    std::filesystem::remove(sentinel);
    ASSERT_TRUE(receiver.wait_for_log("spool_gone"));
    EXPECT_EQ(scanner.store(slices[1]), 0xa700);
    RawPeer peer(receiver.port());
    peer.send(associate_request(kContexts));
    EXPECT_EQ(peer.receive_pdu(), kRejectedForTheMoment);
    std::ofstream(sentinel).put('x');
    ASSERT_TRUE(receiver.wait_for_log("spool_is_back"));
    EXPECT_EQ(scanner.store(slices[2]), 0);
    EXPECT_TRUE(receiver.wait_for_stored(2));
}

TEST(Limits, LittleSpaceSendsAssociationsAwayForTheMoment) {
    Receiver receiver("  min_free_mib: 1000000000\n");
    receiver.start();
    RawPeer peer(receiver.port());
    peer.send(associate_request(kContexts));
    EXPECT_EQ(peer.receive_pdu(), kRejectedForTheMoment);
    EXPECT_NE(receiver.log().find("spool_low_on_space"), std::string::npos);
}

TEST(Limits, AFullDiskIsAnsweredAndNothingIsHalfThere) {
    const TemporaryFolder folder;
    const SmallDisk disk(folder / "disk", "24m");
    if (!disk.mounted()) GTEST_SKIP() << "mounting a small file system is not allowed here";
    const std::filesystem::path ballast = folder / "disk/ballast";
    {
        Receiver receiver({}, folder / "disk/spool");
        receiver.start();
        ASSERT_TRUE(receiver.wait_for_log("recovered"));
        std::ofstream(ballast) << std::string(18'000'000, 'x');
        std::vector<Instance> slices;
        for (int i = 0; i < 6; ++i) slices.push_back(made_slice(i, "1.2.3.1", 3'000'000, static_cast<std::uint8_t>(i)));
        std::size_t stored = 0, refused = 0;
        {
            Scanner scanner(receiver.port(), slices);
            for (const Instance& slice : slices) {
                const auto status = scanner.store(slice);
                stored += status == 0 ? 1 : 0;
                refused += status == 0xa700 ? 1 : 0;
            }
        }
        EXPECT_EQ(stored + refused, slices.size());
        EXPECT_GT(refused, 0U);
        std::filesystem::remove(ballast);
        ASSERT_TRUE(receiver.wait_for_stored(stored));
        ASSERT_TRUE(eventually(seconds(30), [&] { return receiver.files_in("ingest") == 0; }));
        EXPECT_EQ(receiver.stored().size(), stored);
        EXPECT_EQ(receiver.files_in("instances"), stored);
        const Instance later = made_slice(9, "1.2.3.1", 100'000);
        EXPECT_EQ(send_all(receiver.port(), {later}).begin()->second, 0);
        EXPECT_TRUE(receiver.wait_for_stored(stored + 1));
    }
}
