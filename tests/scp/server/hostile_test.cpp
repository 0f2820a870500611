// Peers that break the rules, are silent, or come in crowds.
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <memory>

#include "tests/scp/server/receiver.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const std::string kCt(kCtImage), kSyntax(kExplicit), kVerification = "1.2.840.10008.1.1";
const std::vector<Proposal> kContexts = {{1, kCt, {kSyntax}}, {3, kVerification, {std::string(kImplicit)}}};

std::string bytes_of(std::initializer_list<int> values) {
    std::string out;
    for (const int value : values) out += static_cast<char>(value);
    return out;
}
std::string reject(int result, int source, int reason) {
    return bytes_of({3, 0, 0, 0, 0, 4, 0, result, source, reason});
}
std::string abort_pdu(int source, int reason) { return bytes_of({7, 0, 0, 0, 0, 4, 0, 0, source, reason}); }

bool echo_works(int port) {
    RawPeer peer(port);
    peer.send(associate_request(kContexts));
    if (peer.receive_pdu().substr(0, 1) != "\2") return false;
    peer.send(data_pdu(3, 3, echo_command()));
    return response_of(peer.receive_pdu()).first == 0;
}

/// A small file system of its own, where the test may mount one.
class SmallDisk {
public:
    SmallDisk(const std::filesystem::path& folder, const std::string& size) : folder_(folder) {
        std::filesystem::create_directories(folder);
        mounted_ = ::mount("tmpfs", folder.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    }
    ~SmallDisk() {
        if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
    }
    bool mounted() const { return mounted_; }
    bool make_read_only() const {
        return ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0;
    }

private:
    std::filesystem::path folder_;
    bool mounted_ = false;
};

}  // namespace

TEST(Refusals, HaveTheNumbersOfTheStandard) {
    Receiver receiver(
        "  accept_unknown_peers: false\n  peers: [{ae_title: CT1, addresses: [127.0.0.0/8]}, {ae_title: CT2, "
        "addresses: [10.0.0.0/8]}]\n");
    receiver.start();
    const auto answer = [&](const std::string& request) {
        RawPeer peer(receiver.port());
        peer.send(request);
        return peer.receive_pdu();
    };
    EXPECT_EQ(answer(associate_request(kContexts))[0], 2);
    EXPECT_EQ(answer(associate_request(kContexts, "OTHER")), reject(1, 1, 7));
    EXPECT_EQ(answer(associate_request(kContexts, "CARDIONODE", "STRANGER")), reject(1, 1, 3));
    EXPECT_EQ(answer(associate_request(kContexts, "CARDIONODE", "CT2")), reject(1, 1, 3));
    EXPECT_EQ(answer(associate_request(kContexts, "CARDIONODE", "CT1", "1.2.3")), reject(1, 1, 2));
    EXPECT_EQ(answer(associate_request(kContexts, "CARDIONODE", "CT1", "1.2.840.10008.3.1.1.1", 2)), reject(1, 2, 2));
    EXPECT_EQ(answer(associate_request({})), abort_pdu(2, 6));
    const std::string whole = associate_request({{1, "1.2.3", {kSyntax}}, {3, kCt, {"1.2.3"}}, {5, kCt, {kSyntax}}});
    const std::string accept = answer(whole);
    EXPECT_NE(accept.find(bytes_of({1, 0, 3, 0})), std::string::npos);
    EXPECT_NE(accept.find(bytes_of({3, 0, 4, 0})), std::string::npos);
    EXPECT_NE(accept.find(bytes_of({5, 0, 0, 0})), std::string::npos);
}

TEST(Hostile, EveryBrokenRuleIsAnsweredAndTheNextPeerServed) {
    Receiver receiver("  max_pdu_bytes: 16384\n");
    receiver.start();
    struct Case {
        const char* name;
        std::string bytes;
        std::string answer;
    };
    const std::string command = store_command(made_slice(1));
    const std::vector<Case> before = {
        {"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", abort_pdu(0, 0)},
        {"TLS", bytes_of({0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc}), abort_pdu(0, 0)},
        {"data first", data_pdu(1, 3, command), abort_pdu(0, 0)},
        {"release first", pdu(5, std::string(4, '\0')), abort_pdu(0, 0)},
        {"4 GB length", bytes_of({1, 0, 0xff, 0xff, 0xff, 0xff}), abort_pdu(0, 0)},
        {"empty request", pdu(1, ""), abort_pdu(2, 6)},
        {"request of zeros", pdu(1, std::string(200, '\0')), abort_pdu(2, 6)},
    };
    for (const Case& c : before) {
        RawPeer peer(receiver.port());
        peer.send(c.bytes);
        EXPECT_EQ(peer.receive_all(), c.answer) << c.name;
    }
    const std::vector<Case> after = {
        {"unknown PDU", pdu(0x33, "abcd"), abort_pdu(2, 1)},
        {"second request", associate_request(kContexts), abort_pdu(2, 2)},
        {"accept from the requestor", pdu(2, std::string(70, '\0')), abort_pdu(2, 2)},
        {"longer than agreed", pdu(4, std::string(20'000, 'x')), abort_pdu(2, 6)},
        {"empty data PDU", pdu(4, ""), abort_pdu(2, 6)},
        {"value past its PDU", pdu(4, bytes_of({0, 0, 1, 0, 1, 3, 0})), abort_pdu(2, 6)},
        {"value of length 1", pdu(4, bytes_of({0, 0, 0, 1, 1})), abort_pdu(2, 6)},
        {"context never accepted", data_pdu(9, 3, command), abort_pdu(2, 6)},
        {"data before command", data_pdu(1, 2, "abcdefgh"), abort_pdu(2, 5)},
        {"command inside a data set", data_pdu(1, 3, command) + data_pdu(1, 3, command), abort_pdu(2, 5)},
        {"data in another context", data_pdu(1, 3, command) + data_pdu(3, 2, "abcdefgh"), abort_pdu(2, 6)},
        {"release inside a message", data_pdu(1, 3, command) + pdu(5, std::string(4, '\0')), abort_pdu(2, 2)},
        {"command that is none", data_pdu(1, 3, "no command at all"), abort_pdu(2, 6)},
        {"endless command", data_pdu(1, 1, std::string(9'000, '\0')) + data_pdu(1, 1, std::string(9'000, '\0')),
         abort_pdu(2, 6)},
        {"release", pdu(5, std::string(4, '\0')), pdu(6, std::string(4, '\0'))},
        {"abort", pdu(7, std::string(4, '\0')), ""},
    };
    for (const Case& c : after) {
        RawPeer peer(receiver.port());
        peer.send(associate_request(kContexts));
        ASSERT_EQ(peer.receive_pdu().substr(0, 1), "\2") << c.name;
        peer.send(c.bytes);
        EXPECT_EQ(peer.receive_all(), c.answer) << c.name;
    }
    EXPECT_TRUE(echo_works(receiver.port()));
    EXPECT_EQ(receiver.log().find("process_ended"), std::string::npos) << "a process crashed";
    EXPECT_TRUE(eventually(seconds(10), [&] { return receiver.children().size() == kHelpers; }));
}

TEST(Hostile, AValidSessionCutAtAnyByteHarmsNobody) {
    Receiver receiver;
    receiver.start();
    const Instance slice = made_slice(1, "1.2.3.1", 200);
    const std::string data(slice.dataset.begin(), slice.dataset.end());
    const std::string session = associate_request(kContexts) + data_pdu(1, 3, store_command(slice)) +
                                data_pdu(1, 0, data.substr(0, 100)) + data_pdu(1, 2, data.substr(100)) +
                                pdu(5, std::string(4, '\0'));
    for (std::size_t length = 0; length < session.size(); length += 7)
        RawPeer(receiver.port()).send(session.substr(0, length));
    // More at once than max_associations: some are sent away for the moment.
    EXPECT_TRUE(eventually(seconds(10), [&] { return echo_works(receiver.port()); }));
    EXPECT_TRUE(eventually(seconds(20), [&] { return receiver.children().size() == kHelpers; }));
    EXPECT_EQ(receiver.log().find("process_ended"), std::string::npos);
}

TEST(Hostile, SmallestPiecesAreTakenAndGiven) {
    Receiver receiver;
    receiver.start();
    const Instance slice = made_slice(1, "1.2.3.1", 100);
    RawPeer peer(receiver.port());
    for (const char byte : associate_request(kContexts, "CARDIONODE", "CT1", "1.2.840.10008.3.1.1.1", 1, 16))
        peer.send(std::string(1, byte));
    ASSERT_EQ(peer.receive_pdu()[0], 2);
    const std::string command = store_command(slice);
    for (std::size_t i = 0; i < command.size(); ++i)
        peer.send(data_pdu(1, i + 1 < command.size() ? 1 : 3, command.substr(i, 1)));
    for (std::size_t i = 0; i < slice.dataset.size(); ++i)
        peer.send(
            data_pdu(1, i + 1 < slice.dataset.size() ? 0 : 2, std::string(1, static_cast<char>(slice.dataset[i]))));
    std::string response = pdu(4, std::string(6, '\0'));
    for (bool last = false; !last;) {
        const std::string part = peer.receive_pdu();
        ASSERT_GE(part.size(), 12U);
        EXPECT_LE(part.size(), 6U + 16U);
        last = (part[11] & 2) != 0;
        response += part.substr(12);
    }
    EXPECT_EQ(response_of(response).first, 0);
}

TEST(Hostile, FiftySilentPeersDelayNobody) {
    Receiver receiver("  max_associations: 4\n");
    receiver.start();
    std::vector<std::unique_ptr<RawPeer>> silent;
    for (int i = 0; i < 50; ++i) {
        silent.push_back(std::make_unique<RawPeer>(receiver.port()));
        if (i % 2 == 1) silent.back()->send(bytes_of({1, 0, 0}));
    }
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_TRUE(echo_works(receiver.port()));
    EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(1));
}

TEST(Hostile, SilenceHasAnEnd) {
    Receiver receiver("  association_timeout_seconds: 1\n  dimse_timeout_seconds: 1\n");
    receiver.start();
    RawPeer silent(receiver.port()), slow(receiver.port()), open(receiver.port());
    open.send(associate_request(kContexts));
    ASSERT_EQ(open.receive_pdu()[0], 2);
    const auto begun = std::chrono::steady_clock::now();
    for (int i = 0; i < 8; ++i) {  // a byte every 0.2 s
        slow.send(std::string(1, i == 0 ? '\1' : '\0'));
        pause_for(milliseconds(200));
    }
    EXPECT_TRUE(slow.closed_within(seconds(3)));
    EXPECT_TRUE(silent.closed_within(seconds(3)));
    EXPECT_EQ(open.receive_all(), abort_pdu(0, 0));
    EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(6));
}

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
    EXPECT_EQ(third.receive_pdu(), reject(2, 3, 2));
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
    EXPECT_EQ(third.receive_pdu(), reject(2, 3, 2));
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
    EXPECT_EQ(peer.receive_pdu(), reject(2, 3, 2));
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
    EXPECT_EQ(peer.receive_pdu(), reject(2, 3, 2));
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

TEST(Start, SaysWhatIsWrongAndEndsWithTwo) {
    Receiver running;
    running.start();
    const auto ends_with_two = [](Receiver& receiver, const std::string& reason) {
        const Finished finished = receiver.run_to_end();
        EXPECT_EQ(finished.ending.exit_code, 2) << finished.errors;
        EXPECT_NE(finished.errors.find(reason), std::string::npos) << finished.errors;
    };
    Receiver bad_key("  prot: 1\n");
    ends_with_two(bad_key, "prot");
    const TemporaryFolder folder;
    std::ofstream(folder / "file") << "x";
    Receiver no_folder({}, folder / "file");
    ends_with_two(no_folder, (folder / "file").string());
    Receiver forbidden({}, "/proc/cardionode");
    ends_with_two(forbidden, "/proc/cardionode");
    Receiver same_spool({}, running.spool());
    ends_with_two(same_spool, "another receiver");
    const SmallDisk disk(folder / "disk", "8m");
    if (disk.mounted() && disk.make_read_only()) {
        Receiver read_only({}, folder / "disk/spool");
        ends_with_two(read_only, "Read-only file system");
    }
}

TEST(Start, APortInUseIsNamed) {
    Receiver running;
    running.start();
    Receiver second;
    second.write_settings();
    std::ifstream in(second.folder() / "node.yaml");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    const std::string own = "port: " + std::to_string(second.port());
    text.replace(text.find(own), own.size(), "port: " + std::to_string(running.port()));
    std::ofstream(second.folder() / "busy.yaml") << text;
    const Finished finished = run({program("cardionode-scp"), "--config", (second.folder() / "busy.yaml").string()});
    EXPECT_EQ(finished.ending.exit_code, 2);
    EXPECT_NE(finished.errors.find("port " + std::to_string(running.port()) + ": Address already in use"),
              std::string::npos)
        << finished.errors;
}

TEST(Stop, OpenAssociationsFinish) {
    Receiver receiver;
    receiver.start();
    const std::vector<Instance> slices = {made_slice(1), made_slice(2)};
    RawPeer silent(receiver.port());
    Scanner scanner(receiver.port(), slices);
    ASSERT_EQ(scanner.store(slices[0]), 0);
    receiver.process().signal_all(SIGTERM);  // as systemd does it
    ASSERT_TRUE(receiver.wait_for_log("receiver_stopping"));
    EXPECT_TRUE(silent.closed_within(seconds(3)));
    EXPECT_THROW(RawPeer(receiver.port()), std::runtime_error);
    EXPECT_EQ(scanner.store(slices[1]), 0);
    scanner.release();
    const auto ending = receiver.process().wait(seconds(20));
    ASSERT_TRUE(ending.has_value());
    EXPECT_EQ(ending->exit_code, 0);
    EXPECT_EQ(receiver.stored().size(), 2U);
    EXPECT_EQ(receiver.files_in("ingest"), 0U);
}
