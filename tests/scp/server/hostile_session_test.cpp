// Valid sessions that are cut, dripped, sent in the smallest pieces, or come in crowds.
#include <memory>

#include "tests/scp/server/hostile_cases.h"
#include "tests/scp/server/tls_peer.h"
#include "tests/support/free_port.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const std::string kTlsHello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);  // of 512 bytes that never come

/// An association with one small C-STORE, as a scanner sends it.
struct Session {
    Instance slice = made_slice(1, "1.2.3.1", 16);
    std::string request = associate_request({{1, std::string(kCtImage), {std::string(kExplicit)}}});
    std::string store;
    std::size_t whole_instance = 0;  ///< bytes until the data set is there to its last
    std::string bytes;

    Session() {
        const std::string data(slice.dataset.begin(), slice.dataset.end());
        store =
            data_pdu(1, 3, store_command(slice)) + data_pdu(1, 0, data.substr(0, 40)) + data_pdu(1, 2, data.substr(40));
        whole_instance = request.size() + store.size();
        bytes = request + store + release_pdu();
    }
    /// Sends the first `length` bytes, waiting for each answer as a scanner does.
    void begin(RawPeer& peer, std::size_t length) const {
        peer.send(bytes.substr(0, std::min(length, request.size())));
        if (length < request.size()) return;
        EXPECT_EQ(peer.receive_pdu().substr(0, 1), "\2") << length;
        peer.send(bytes.substr(request.size(), std::min(length, whole_instance) - request.size()));
        if (length < whole_instance) return;
        EXPECT_EQ(response_of(peer.receive_pdu()).first, 0) << length;
        peer.send(bytes.substr(whole_instance, length - whole_instance));
    }
};

}  // namespace

TEST(Hostile, AValidSessionAbortedAtAnyByteHarmsNobodyAndLeavesNothingHalf) {
    Receiver receiver;
    receiver.start();
    ASSERT_TRUE(receiver.wait_for_log("recovered"));
    const auto helpers = receiver.children();
    const Session session;
    const auto abort_after = [&](std::size_t length) {
        SCOPED_TRACE("after byte " + std::to_string(length) + " of " + std::to_string(session.bytes.size()));
        RawPeer peer(receiver.port());
        session.begin(peer, length);
        length % 2 == 0 ? peer.reset() : peer.close_half();
        expect_next_client_served(receiver.port());
    };
    for (std::size_t length = 0; length < session.whole_instance; ++length) abort_after(length);
    ASSERT_TRUE(eventually(seconds(20), [&] { return receiver.children() == helpers; }));
    ASSERT_TRUE(eventually(seconds(20), [&] { return receiver.files_in("ingest") == 0; }));
    EXPECT_TRUE(receiver.stored().empty()) << "nothing was whole yet";
    EXPECT_EQ(receiver.files_in("instances"), 0U);

    for (std::size_t length = session.whole_instance; length <= session.bytes.size(); ++length) abort_after(length);
    ASSERT_TRUE(receiver.wait_for_stored(1));
    ASSERT_TRUE(eventually(seconds(20), [&] { return receiver.children() == helpers; }));
    ASSERT_TRUE(eventually(seconds(20), [&] { return receiver.files_in("ingest") == 0; }));
    EXPECT_EQ(receiver.stored(), std::multiset<std::string>{sha256_of(session.slice)});
    EXPECT_EQ(receiver.files_in("instances"), 1U);
    EXPECT_EQ(receiver.log().find("process_ended"), std::string::npos) << "a process crashed";
    EXPECT_EQ(receiver.log().find("association_failed"), std::string::npos);
}

TEST(Hostile, SmallestPiecesAreTakenAndGiven) {
    Receiver receiver;
    receiver.start();
    const Instance slice = made_slice(1, "1.2.3.1", 100);
    RawPeer peer(receiver.port());
    for (const char byte : associate_request(kHostileContexts, "CARDIONODE", "CT1", "1.2.840.10008.3.1.1.1", 1, 16))
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

TEST(Hostile, AByteASecondHasAnEndEverywhere) {
    Receiver receiver("  association_timeout_seconds: 2\n  dimse_timeout_seconds: 2\n");
    receiver.start();
    const std::string request = associate_request(kHostileContexts), echo = data_pdu(3, 3, echo_command());
    RawPeer silent(receiver.port()), slow_request(receiver.port()), open(receiver.port()),
        slow_command(receiver.port());
    for (RawPeer* peer : {&open, &slow_command}) {
        peer->send(request);
        ASSERT_EQ(peer->receive_pdu().substr(0, 1), "\2");
    }
    const auto begun = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < 4; ++i) {
        slow_request.send(request.substr(i, 1));
        slow_command.send(echo.substr(i, 1));
        expect_next_client_served(receiver.port());
        pause_for(milliseconds(1'000));
    }
    EXPECT_TRUE(silent.closed_within(seconds(3)));
    EXPECT_TRUE(slow_request.closed_within(seconds(3)));
    EXPECT_EQ(answers_of(open), "A-ABORT 0,0; closed") << "silence between messages";
    EXPECT_EQ(answers_of(slow_command), "A-ABORT 0,0; closed") << "bytes that come must not prolong a PDU";
    EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(9));
    EXPECT_EQ(receiver.log().find("process_hangs"), std::string::npos);
}

/// 50 silent TCP peers, 50 stalled TLS handshakes, 5 that send a byte a second.
class Crowd : public testing::Test {
protected:
    void SetUp() override {
        receiver_.emplace("  max_associations: 4\n  tls:\n    port: " + std::to_string(tls_port_) +
                          "\n    certificate: " + server_.certificate.string() + "\n    key: " + server_.key.string() +
                          "\n    ca: " + hospital_.certificate().string() + "\n");
        receiver_->start();
        ASSERT_TRUE(receiver_->wait_for_log("recovered"));
    }
    void all_connect() {
        const int plain = receiver_->port();
        for (int i = 0; i < 50; ++i) peers_.push_back(std::make_unique<RawPeer>(i % 2 == 0 ? plain : tls_port_));
        for (int i = 0; i < 50; ++i) {
            peers_.push_back(std::make_unique<RawPeer>(tls_port_));
            peers_.back()->send(kTlsHello);
        }
        for (int i = 0; i < 5; ++i) slow_.push_back(std::make_unique<RawPeer>(i % 2 == 0 ? plain : tls_port_));
        drip();
    }
    void drip() {
        const std::string request = associate_request(kHostileContexts);
        for (std::size_t i = 0; i < slow_.size(); ++i)
            slow_[i]->send((i % 2 == 0 ? request : kTlsHello).substr(dripped_, 1));
        ++dripped_;
    }
    void expect_both_served() {
        const auto begun = std::chrono::steady_clock::now();
        EXPECT_TRUE(in_under_a_second([&] { return echo_works(receiver_->port()); }));
        const auto plain = std::chrono::steady_clock::now();
        EXPECT_TRUE(in_under_a_second(
            [&] { return tls_echo_works(tls_port_, TlsPeer::with(scanner_, hospital_.certificate())); }));
        const auto ms = [](auto time) { return std::chrono::duration_cast<milliseconds>(time).count(); };
        std::cout << "C-ECHO " << ms(plain - begun) << " ms, over TLS " << ms(std::chrono::steady_clock::now() - plain)
                  << " ms\n";
    }

    TemporaryFolder folder_;
    int tls_port_ = free_port();
    Authority hospital_{folder_ / "pki", "hospital"};
    Authority::Issued server_ = hospital_.issue("server"), scanner_ = hospital_.issue("scanner", {"CT1"});
    std::optional<Receiver> receiver_;
    std::vector<std::unique_ptr<RawPeer>> peers_, slow_;
    std::size_t dripped_ = 0;
};

TEST_F(Crowd, ACEchoIsAnsweredInUnderASecondWhileItIsConnected) {
    all_connect();
    ASSERT_TRUE(eventually(seconds(20), [&] { return echo_works(receiver_->port()); }));  // all that came is served
    for (int second = 0; second < 3; ++second) {
        expect_both_served();
        pause_for(milliseconds(1'000));
        drip();
    }
}

TEST_F(Crowd, ACEchoIsAnsweredInUnderASecondInTheVeryInstantItArrives) {
    all_connect();
    expect_both_served();
}
