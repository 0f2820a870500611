#include "scp/server/peer_rules.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "scp/server/connection.h"
#include "scp/server/listener.h"
#include "scp/server/negotiation.h"
#include "tests/support/free_port.h"

using namespace cardionode;

namespace {

PeerRules rules_with(std::vector<PeerSettings> peers, bool unknown) {
    ScpSettings settings;
    settings.peers = std::move(peers);
    settings.accept_unknown_peers = unknown;
    return PeerRules::create(settings).value();
}

bool allowed(const PeerRules& rules, const char* title, const char* address) {
    return rules.calling_allowed(title, parse_address(address).value());
}

}  // namespace

TEST(PeerRules, BindTitlesToAddresses) {
    const PeerRules rules =
        rules_with({{"CT1", {"10.1.2.0/23", "192.168.1.7"}}, {"CT2", {}}, {"CT3", {"fd00::/8", "::1"}}}, false);
    EXPECT_TRUE(allowed(rules, "CT1", "10.1.3.255"));
    EXPECT_FALSE(allowed(rules, "CT1", "10.1.4.0"));
    EXPECT_TRUE(allowed(rules, "CT1", "::ffff:10.1.2.1"));
    EXPECT_TRUE(allowed(rules, "CT1", "192.168.1.7"));
    EXPECT_FALSE(allowed(rules, "CT1", "192.168.1.6"));
    EXPECT_TRUE(allowed(rules, "CT2", "8.8.8.8"));
    EXPECT_TRUE(allowed(rules, "CT3", "fd12::1"));
    EXPECT_FALSE(allowed(rules, "CT3", "fe80::1%eth0"));
    EXPECT_FALSE(allowed(rules, "CT4", "10.1.2.1"));
    EXPECT_FALSE(allowed(rules, "ct1", "10.1.2.1"));
}

TEST(PeerRules, ANamedTitleIsBoundEvenWhereStrangersAreWelcome) {
    const PeerRules rules = rules_with({{"CT1", {"10.0.0.1"}}, {"CT1", {"0.0.0.0/1"}}}, true);
    EXPECT_TRUE(allowed(rules, "ANY", "8.8.8.8"));
    EXPECT_TRUE(allowed(rules, "CT1", "10.0.0.1"));
    EXPECT_TRUE(allowed(rules, "CT1", "127.0.0.1"));
    EXPECT_FALSE(allowed(rules, "CT1", "128.0.0.1"));
}

TEST(Negotiation, TakesTheFirstSyntaxThatIsKept) {
    AssociateRequest request;
    request.contexts = {{1, "1.2.840.10008.5.1.4.1.1.2", {"1.2.3", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2"}},
                        {3, "1.2.840.10008.5.1.4.1.1.2", {"1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"}},
                        {5, "1.2.3.4", {"1.2.840.10008.1.2"}},
                        {7, "1.2.840.10008.5.1.4.1.1.2", {"1.2.3"}}};
    const auto answers = answer_contexts(request);
    EXPECT_EQ(answers[0].transfer_syntax, "1.2.840.10008.1.2.4.90");
    EXPECT_EQ(answers[1].transfer_syntax, "1.2.840.10008.1.2");
    EXPECT_EQ(answers[2].result, ContextResult::UnknownAbstractSyntax);
    EXPECT_EQ(answers[3].result, ContextResult::UnknownTransferSyntax);
}

TEST(Connection, AnswersWithoutWaitingForTheNagleAlgorithm) {
    const int port = test::free_port();
    const auto listener = listen_on("127.0.0.1", port).value();
    const FileDescriptor client(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    Accepted accepted = accept_from(listener.get());
    ASSERT_TRUE(accepted.socket.valid());
    EXPECT_EQ(accepted.peer_address, "127.0.0.1");
    const auto connection = Connection::create(
        std::move(accepted.socket), 16384, [] { return false; }, [] {});
    ASSERT_TRUE(connection.ok());
    int on = 0;
    socklen_t size = sizeof on;
    ASSERT_EQ(::getsockopt(connection->fd(), IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    EXPECT_NE(on, 0);
}

TEST(Listener, SaysWhyItCannotListen) {
    const int port = test::free_port();
    const auto first = listen_on("127.0.0.1", port);
    ASSERT_TRUE(first.ok());
    for (const auto& [where, number] : {std::pair{"127.0.0.1", port}, std::pair{"203.0.113.1", port}}) {
        const auto second = listen_on(where, number);
        ASSERT_FALSE(second.ok());
        EXPECT_EQ(second.error().kind, ErrorKind::Config);
        EXPECT_NE(second.error().message.find(std::to_string(port)), std::string::npos) << second.error().message;
    }
}
