// New settings for a receiver that runs: SIGHUP.
#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "tests/scp/server/receiver.h"
#include "tests/scp/server/tls_peer.h"
#include "tests/support/free_port.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

namespace {

const std::vector<Proposal> kContexts = {{1, std::string(kCtImage), {std::string(kExplicit)}}};
const std::string kOnlyCt1 = "  accept_unknown_peers: false\n  peers: [{ae_title: CT1}]\n";

bool accepted(int port, const std::string& calling) {
    RawPeer peer(port);
    peer.send(associate_request(kContexts, "CARDIONODE", calling));
    return peer.receive_pdu().substr(0, 1) == "\2";
}

std::string tls_section(int port, const Authority::Issued& server, const Authority& ca, const std::string& more = {}) {
    return "  tls:\n    port: " + std::to_string(port) + "\n    certificate: " + server.certificate.string() +
           "\n    key: " + server.key.string() + "\n    ca: " + ca.certificate().string() + "\n" + more;
}

}  // namespace

TEST(Reload, PeersAndLimitsChangeAndOpenAssociationsGoOn) {
    Receiver receiver;
    receiver.start();
    const std::vector<Instance> slices = {made_slice(1), made_slice(2)};
    Scanner open(receiver.port(), slices, {"CT2", "CARDIONODE"});
    ASSERT_EQ(open.store(slices[0]), 0);
    EXPECT_TRUE(accepted(receiver.port(), "CT2"));
    receiver.change_settings(kOnlyCt1 + "  max_associations: 2\n  dimse_timeout_seconds: 1\n");
    EXPECT_THAT(receiver.reload(), HasSubstr(" reloaded"));
    EXPECT_FALSE(accepted(receiver.port(), "CT2"));
    EXPECT_TRUE(accepted(receiver.port(), "CT1"));
    EXPECT_EQ(open.store(slices[1]), 0);
    RawPeer second(receiver.port()), third(receiver.port());
    second.send(associate_request(kContexts));
    ASSERT_EQ(second.receive_pdu().substr(0, 1), "\2");
    third.send(associate_request(kContexts));
    EXPECT_EQ(third.receive_pdu().substr(0, 1), "\3") << "two are open: the one of before, and one of now";
    EXPECT_TRUE(receiver.wait_for_stored(2));
}

TEST(Reload, SettingsOfTheIndexerChangeToo) {
    Receiver receiver("  series_quiet_seconds: 600\n  study_quiet_seconds: 600\n");
    receiver.start();
    EXPECT_EQ(send_all(receiver.port(), {made_slice(1)}).begin()->second, 0);
    ASSERT_TRUE(receiver.wait_for_stored(1));
    receiver.change_settings("  series_quiet_seconds: 1\n  study_quiet_seconds: 1\n");
    EXPECT_THAT(receiver.reload(), HasSubstr(" reloaded"));
    EXPECT_TRUE(receiver.wait_for_log("study_ready"));
    EXPECT_EQ(receiver.log().find("indexer_ended"), std::string::npos);
}

TEST(Reload, WrongSettingsKeepTheOldOnesAndSaySo) {
    Receiver receiver(kOnlyCt1);
    receiver.start();
    receiver.change_settings("  max_associations: none\n");
    const std::string wrong = receiver.reload();
    EXPECT_THAT(wrong, HasSubstr(" reload_failed"));
    EXPECT_THAT(wrong, HasSubstr("scp.max_associations: expected a whole number"));
    EXPECT_FALSE(accepted(receiver.port(), "CT2"));
    EXPECT_TRUE(accepted(receiver.port(), "CT1"));
    std::filesystem::remove(receiver.folder() / "node.yaml");
    EXPECT_THAT(receiver.reload(), HasSubstr(" reload_failed"));
    receiver.change_settings("");
    EXPECT_THAT(receiver.reload(), HasSubstr(" reloaded"));
    EXPECT_TRUE(accepted(receiver.port(), "CT2"));
}

TEST(Reload, WhatNeedsARestartIsNamedAndStaysAsItIs) {
    Receiver receiver;
    receiver.start();
    receiver.change_settings("  spool_sentinel: here\n  bind_address: 127.0.0.2\n" + kOnlyCt1);
    EXPECT_THAT(receiver.reload(), HasSubstr(" reloaded"));
    EXPECT_TRUE(receiver.wait_for_log("reload_needs_restart keys=\"scp.bind_address scp.spool_sentinel\""));
    EXPECT_TRUE(accepted(receiver.port(), "CT1"));
    EXPECT_FALSE(accepted(receiver.port(), "CT2"));
}

TEST(Reload, ACertificateThatWasRevokedIsRefusedFromThenOn) {
    const TemporaryFolder folder;
    Authority ca(folder.path(), "hospital");
    const auto server = ca.issue("server"), scanner = ca.issue("scanner"), lost = ca.issue("lost");
    const int port = free_port();
    Receiver receiver(tls_section(port, server, ca, "    crl: " + ca.revoke({}).string() + "\n"));
    receiver.start();
    EXPECT_TRUE(tls_echo_works(port, TlsPeer::with(lost)));
    ca.revoke({lost.serial});
    EXPECT_THAT(receiver.reload(), HasSubstr(" reloaded"));
    EXPECT_FALSE(tls_echo_works(port, TlsPeer::with(lost)));
    EXPECT_TRUE(tls_echo_works(port, TlsPeer::with(scanner)));
    std::ofstream(ca.revoke({})) << "no list";
    EXPECT_THAT(receiver.reload(), HasSubstr("holds no revocation list"));
    EXPECT_FALSE(tls_echo_works(port, TlsPeer::with(lost))) << "the list of before holds";
    EXPECT_TRUE(tls_echo_works(port, TlsPeer::with(scanner)));
}

TEST(Reload, CertificatesChangeUnderLoadAndNothingIsLost) {
    const TemporaryFolder folder;
    Authority ca(folder.path(), "hospital");
    const auto scanner = ca.issue("scanner");
    auto server = ca.issue("server");
    const int port = free_port();
    Receiver receiver(tls_section(port, server, ca));
    receiver.start();

    std::atomic<bool> over{false};
    std::atomic<int> next{0}, failed{0};
    std::mutex mutex;
    std::multiset<std::string> sent;
    std::set<std::string> servers;
    const auto send_one = [&] {
        const Instance slice = made_slice(next++, "1.2.3.1", 60'000);
        TlsPeer peer(port, TlsPeer::with(scanner, ca.certificate()));
        peer.send(associate_request(kContexts));
        if (peer.receive_pdu(seconds(20)).substr(0, 1) != "\2") return false;
        peer.send(data_pdu(1, 3, store_command(slice)));
        peer.send(data_pdu(1, 2, std::string(slice.dataset.begin(), slice.dataset.end())));
        if (response_of(peer.receive_pdu(seconds(20))).first != 0) return false;
        peer.send(pdu(5, std::string(4, '\0')));
        const bool released = peer.receive_pdu(seconds(20)).substr(0, 1) == "\6";
        const std::lock_guard lock(mutex);
        sent.insert(sha256_of(slice));
        servers.insert(peer.server_certificate());
        return released;
    };
    std::vector<std::thread> senders;
    for (int i = 0; i < 3; ++i)
        senders.emplace_back([&] {
            while (!over) failed += send_one() ? 0 : 1;
        });
    for (int i = 0; i < 10; ++i) {
        pause_for(milliseconds(100));
        server = ca.issue("server");
        EXPECT_THAT(receiver.reload(), HasSubstr(" reloaded"));
    }
    std::ofstream(server.key) << "half a key";  // as a copy that was cut off
    EXPECT_THAT(receiver.reload(), HasSubstr("scp.tls.key: " + server.key.string()));
    pause_for(milliseconds(100));
    over = true;
    for (std::thread& sender : senders) sender.join();
    EXPECT_EQ(failed, 0);
    EXPECT_GT(servers.size(), 3U);
    EXPECT_GT(sent.size(), 10U);
    ASSERT_TRUE(receiver.wait_for_stored(sent.size()));
    EXPECT_EQ(receiver.stored(), sent);
    EXPECT_EQ(receiver.log().find("process_ended"), std::string::npos);
}
