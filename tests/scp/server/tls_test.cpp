// DICOM over TLS against the real receiver: who is let in, who is not, and that nobody delays the next one.
#include <gmock/gmock.h>

#include <fstream>
#include <thread>

#include <openssl/ssl.h>

#include "conf/base/files.h"
#include "tests/scp/server/receiver.h"
#include "tests/scp/server/tls_peer.h"
#include "tests/support/free_port.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

namespace {

const std::vector<Proposal> kContexts = {{1, std::string(kCtImage), {std::string(kExplicit)}},
                                         {3, "1.2.840.10008.1.1", {std::string(kImplicit)}}};

/// A hospital's CA, a receiver with its certificate, and a scanner with one.
class Tls : public testing::Test {
protected:
    std::string section(const std::string& more = {}) const {
        return "  tls:\n    port: " + std::to_string(port_) + "\n    certificate: " + server_.certificate.string() +
               "\n    key: " + server_.key.string() + "\n    ca: " + hospital_.certificate().string() + "\n" + more;
    }
    TlsPeer::Options scanner() const { return TlsPeer::with(scanner_, hospital_.certificate()); }
    /// What the receiver's log says of a client that must not get in; the next good one is served at once.
    std::string refusal_of(Receiver& receiver, const TlsPeer::Options& options) {
        const std::size_t before = receiver.log().size();
        EXPECT_FALSE(tls_echo_works(port_, options));
        std::string line;
        EXPECT_TRUE(eventually(seconds(5), [&] {
            const std::string news = receiver.log().substr(before);
            const auto at = news.find(" tls_refused ");
            if (at == std::string::npos || news.find('\n', at) == std::string::npos) return false;
            line = news.substr(at, news.find('\n', at) - at);
            return true;
        })) << receiver.log();
        EXPECT_TRUE(tls_echo_works(port_, scanner()));
        return line;
    }

    TemporaryFolder folder_;
    int port_ = free_port();
    Authority hospital_{folder_ / "pki", "hospital"};
    Authority::Issued server_ = hospital_.issue("server");
    Authority::Issued scanner_ = hospital_.issue("scanner", {"CT1"});
};

}  // namespace

TEST_F(Tls, AClientOfTheHospitalsCaIsServed) {
    Receiver receiver(section());
    receiver.start();
    const Instance slice = made_slice(1, "1.2.3.1", 300'000);
    TlsPeer peer(port_, scanner());
    EXPECT_EQ(peer.version(), "TLSv1.3");
    EXPECT_EQ(peer.server_certificate(), server_.sha256);
    peer.send(associate_request(kContexts));
    ASSERT_EQ(peer.receive_pdu().substr(0, 1), "\2");
    peer.send(data_pdu(1, 3, store_command(slice)));
    const std::string data(slice.dataset.begin(), slice.dataset.end());
    for (std::size_t at = 0; at < data.size(); at += 100'000)
        peer.send(data_pdu(1, at + 100'000 < data.size() ? 0 : 2, data.substr(at, 100'000)));
    EXPECT_EQ(response_of(peer.receive_pdu()).first, 0);
    peer.send(pdu(5, std::string(4, '\0')));
    EXPECT_EQ(peer.receive_pdu(), pdu(6, std::string(4, '\0')));
    ASSERT_TRUE(receiver.wait_for_stored(1));
    EXPECT_EQ(receiver.stored(), std::multiset<std::string>{sha256_of(slice)});
    EXPECT_THAT(receiver.log(), HasSubstr("security=TLSv1.3"));
    TlsPeer::Options older = scanner();
    older.max_version = TLS1_2_VERSION;
    EXPECT_TRUE(tls_echo_works(port_, older));
}

TEST_F(Tls, StorescuSendsAStudyOverTls) {
    if (!installed("storescu")) GTEST_SKIP() << "dcmtk's tools are not installed";
    Receiver receiver(section());
    receiver.start();
    const Finished sent = run({"storescu", "+tls", scanner_.key.string(), scanner_.certificate.string(), "+cf",
                               hospital_.certificate().string(), "-aec", "CARDIONODE", "+sd", "127.0.0.1",
                               std::to_string(port_), cta_folder().string()});
    EXPECT_TRUE(sent.ok()) << sent.errors;
    ASSERT_TRUE(receiver.wait_for_stored(cta().size()));
    EXPECT_EQ(receiver.stored().size(), cta().size());
}

TEST_F(Tls, WhoIsNotLetInIsLoggedWithTheReasonAndTheNextIsServed) {
    Authority stranger(folder_ / "other", "hospital");  // the same name, another key
    const auto revoked = hospital_.issue("revoked", {"Jane Doe"});
    Receiver receiver(section("    crl: " + hospital_.revoke({revoked.serial}).string() + "\n"));
    receiver.start();
    EXPECT_THAT(refusal_of(receiver, {}), HasSubstr("reason=no_certificate"));
    EXPECT_THAT(refusal_of(receiver, TlsPeer::with(stranger.issue("x"))), HasSubstr("reason=unknown_ca"));
    const auto old = hospital_.issue("old", {"Jane Doe", "", -20, -10});
    const std::string expired = refusal_of(receiver, TlsPeer::with(old));
    EXPECT_THAT(expired, HasSubstr("reason=certificate_expired"));
    EXPECT_THAT(expired, HasSubstr("certificate_sha256=" + old.sha256));
    EXPECT_THAT(expired, HasSubstr("address=127.0.0.1"));
    EXPECT_THAT(refusal_of(receiver, TlsPeer::with(hospital_.issue("new", {"x", "", 10, 20}))),
                HasSubstr("reason=certificate_not_yet_valid"));
    EXPECT_THAT(refusal_of(receiver, TlsPeer::with(revoked)), HasSubstr("reason=certificate_revoked"));
    TlsPeer::Options tls11 = scanner();
    tls11.max_version = TLS1_1_VERSION;
    EXPECT_THAT(refusal_of(receiver, tls11), HasSubstr("reason=old_version"));
    for (const char* weak : {"ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "AES128-GCM-SHA256",
                             "DHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-NULL-SHA"}) {
        TlsPeer::Options options = scanner();
        options.max_version = TLS1_2_VERSION;
        options.ciphers = weak;
        EXPECT_THAT(refusal_of(receiver, options), HasSubstr("reason=no_common_cipher")) << weak;
    }
    EXPECT_THAT(receiver.log(), Not(HasSubstr("Jane")));
    EXPECT_THAT(receiver.log(), Not(HasSubstr("process_ended")));
    EXPECT_TRUE(eventually(seconds(10), [&] { return receiver.children().size() == kHelpers; }));
}

TEST_F(Tls, AClientThatRefusesOurCertificateIsLogged) {
    Authority other(folder_ / "other", "other");
    Receiver receiver(section());
    receiver.start();
    EXPECT_THAT(refusal_of(receiver, TlsPeer::with(scanner_, other.certificate())),
                HasSubstr("reason=refused_by_peer"));
}

TEST_F(Tls, WhatIsNoTlsIsRefusedOnItsPortAndTlsOnThePlainOne) {
    Receiver receiver(section());
    receiver.start();
    for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), associate_request(kContexts)}) {
        RawPeer peer(port_);
        const std::size_t before = receiver.log().size();
        peer.send(bytes);
        EXPECT_TRUE(peer.closed_within(seconds(3)));
        EXPECT_TRUE(eventually(seconds(5), [&] {
            return receiver.log().substr(before).find("reason=not_tls") != std::string::npos;
        })) << bytes.substr(0, 3);
    }
    TlsPeer on_plain(receiver.port(), scanner());
    EXPECT_FALSE(on_plain.connected());
    EXPECT_TRUE(receiver.wait_for_log("reason=not_dicom"));
    EXPECT_TRUE(tls_echo_works(port_, scanner()));
    RawPeer plain(receiver.port());
    plain.send(associate_request(kContexts));
    EXPECT_EQ(plain.receive_pdu().substr(0, 1), "\2");
}

TEST_F(Tls, ThePlainPortCanBeOff) {
    Receiver receiver(section("    only: true\n"));
    receiver.start({}, port_);
    EXPECT_FALSE(listens(receiver.port()));
    EXPECT_TRUE(tls_echo_works(port_, scanner()));
}

TEST_F(Tls, AClientWithoutACertificateIsServedWhereTheSettingsSaySo) {
    Receiver receiver(section("    require_client_certificate: false\n"));
    receiver.start();
    EXPECT_TRUE(tls_echo_works(port_, {}));
    Authority stranger(folder_ / "other", "stranger");
    EXPECT_FALSE(tls_echo_works(port_, TlsPeer::with(stranger.issue("x")))) << "a wrong one is worse than none";
}

TEST_F(Tls, AnAeTitleCanBeBoundToACertificate) {
    const auto second = hospital_.issue("second");
    Receiver receiver(section() + "  peers: [{ae_title: CT1, certificate_sha256: " + scanner_.sha256 + "}]\n");
    receiver.start();
    EXPECT_TRUE(tls_echo_works(port_, scanner()));
    EXPECT_FALSE(tls_echo_works(port_, TlsPeer::with(second)));
    EXPECT_TRUE(tls_echo_works(port_, TlsPeer::with(second), "CT2"));
    RawPeer plain(receiver.port());
    plain.send(associate_request(kContexts));
    EXPECT_EQ(plain.receive_pdu()[0], 3) << "the title came without its certificate";
}

TEST_F(Tls, AHandshakeThatDoesNotEndIsEndedInTime) {
    Receiver receiver(section() + "  association_timeout_seconds: 1\n");
    receiver.start();
    RawPeer stalled(port_), slow(port_);
    TlsPeer silent_after(port_, scanner());
    ASSERT_TRUE(silent_after.connected());
    const auto begun = std::chrono::steady_clock::now();
    stalled.send(std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
    for (int i = 0; i < 8; ++i) {
        slow.send(std::string(1, i == 0 ? '\x16' : '\x03'));
        pause_for(milliseconds(200));
    }
    EXPECT_TRUE(slow.closed_within(seconds(3)));
    EXPECT_TRUE(stalled.closed_within(seconds(3)));
    EXPECT_EQ(silent_after.receive_pdu(), "");
    EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(5));
    EXPECT_THAT(receiver.log(), Not(HasSubstr("process_hangs")));
}

TEST_F(Tls, WhatIsWrongWithAFileIsNamedAtTheStart) {
    const auto refused = [&](const std::string& settings, const std::string& words) {
        Receiver receiver(settings);
        const Finished finished = receiver.run_to_end();
        EXPECT_EQ(finished.ending.exit_code, 2);
        EXPECT_THAT(finished.errors, HasSubstr(words));
    };
    const Authority::Issued good = server_;
    server_.key = scanner_.key;
    refused(section(), "scp.tls.key: " + scanner_.key.string() + ": does not belong to the certificate");
    server_ = good;
    server_.certificate = folder_ / "gone.pem";
    refused(section(), (folder_ / "gone.pem").string());
    std::ofstream(folder_ / "empty.pem") << "nothing";
    server_.certificate = folder_ / "empty.pem";
    refused(section(), "scp.tls.certificate: " + (folder_ / "empty.pem").string() + ": holds no certificate in PEM");
    server_ = hospital_.issue("expired", {"x", "", -20, -10});
    refused(section(), "scp.tls.certificate: " + server_.certificate.string() + ": expired on 20");
    server_ = good;
    refused(section("    crl: " + hospital_.revoke({}, -1).string() + "\n"), "a newer list was due on 20");
    refused(section("    only: true\n    port: 0\n"), "scp.tls.port: the key stands here twice");
    refused("  tls:\n    only: true\n", "scp.tls.only: expected a port");
}

TEST_F(Tls, ACertificateThatEndsSoonIsAnnounced) {
    server_ = hospital_.issue("short", {"x", "IP:127.0.0.1", -1, 10});
    Receiver receiver(section());
    receiver.start();
    EXPECT_TRUE(receiver.wait_for_log("certificate_ends"));
    EXPECT_THAT(receiver.log(), HasSubstr("hours_left=239"));
    server_ = hospital_.issue("long");
    receiver.change_settings(section());
    const std::size_t before = receiver.log().size();
    receiver.reload();
    EXPECT_TRUE(tls_echo_works(port_, scanner()));
    EXPECT_EQ(receiver.log().find("certificate_ends", before), std::string::npos);
}

TEST_F(Tls, ARevocationListInDerIsTaken) {
    const auto revoked = hospital_.issue("revoked");
    Receiver receiver(section("    crl: " + hospital_.revoke({revoked.serial}, 30, true).string() + "\n"));
    receiver.start();
    EXPECT_THAT(refusal_of(receiver, TlsPeer::with(revoked)), HasSubstr("reason=certificate_revoked"));
}

TEST(UserIdentity, IsLoggedByItsKindAloneAndNotTrusted) {
    Receiver receiver;
    receiver.start();
    std::string request = associate_request(kContexts);
    // PS3.7 Table D.3-14: type 2, positive response requested, name and passcode.
    const std::string identity =
        std::string("\x58\x00\x00\x13\x02\x01\x00\x08", 8) + "JANE.DOE" + std::string("\x00\x05", 2) + "12345";
    const auto at = request.rfind(std::string("\x50\x00", 2));
    const std::size_t size = static_cast<unsigned char>(request[at + 2]) * 256U +
                             static_cast<unsigned char>(request[at + 3]) + identity.size();
    request[at + 2] = static_cast<char>(size >> 8);
    request[at + 3] = static_cast<char>(size & 0xff);
    request += identity;
    const std::size_t whole = request.size() - 6;
    request[4] = static_cast<char>(whole >> 8);
    request[5] = static_cast<char>(whole & 0xff);
    RawPeer peer(receiver.port());
    peer.send(request);
    EXPECT_EQ(peer.receive_pdu().substr(0, 1), "\2");
    EXPECT_TRUE(receiver.wait_for_log("user_identity=username_and_passcode"));
    EXPECT_THAT(receiver.log(), Not(HasSubstr("JANE")));
    EXPECT_THAT(receiver.log(), Not(HasSubstr("12345")));
}
