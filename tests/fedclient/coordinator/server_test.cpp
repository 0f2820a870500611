// The HTTP server itself: TLS 1.3 with client certificates, idle connections, answers and limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "fedclient/coordinator/http_server.h"
#include "tests/fedclient/coordinator/scripted_node.h"
#include "tests/support/authority.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using test::Answer;
using test::ScriptedNode;
using test::TlsIdentity;

class Server : public ::testing::Test {
protected:
    void start(HttpServerOptions options = {}) {
        auto made = HttpServer::start(options, [](const HttpQuestion& question) {
            HttpReply reply;
            reply.body = question.client_name + "|" + question.body;
            return reply;
        });
        ASSERT_TRUE(made.ok()) << made.error().message;
        server = std::move(*made);
    }
    Answer post(ScriptedNode& node, const std::string& body = "hello") { return node.post("/x", body, {}); }
    ScriptedNode client(std::optional<TlsIdentity> tls = {}) {
        return ScriptedNode(server->port(), system_clock(), false, std::move(tls));
    }

    test::TemporaryFolder folder;
    std::unique_ptr<HttpServer> server;
};

TEST_F(Server, KeepsConnectionsAndClosesIdleOnes) {
    HttpServerOptions options;
    options.idle_seconds = 1.5;
    start(options);
    auto node = client();
    EXPECT_EQ(post(node).body, "|hello");
    EXPECT_EQ(post(node, "again").body, "|again");
    test::pause_for(std::chrono::milliseconds(2500));
    EXPECT_EQ(post(node).status, 0) << "the idle connection was kept";
    EXPECT_EQ(post(node).status, 200);
}

TEST_F(Server, SaysTheTimeAndTakesLargeBodies) {
    start();
    auto node = client();
    const std::string body(6U << 20, 'x');
    const auto answer = post(node, body);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body.size(), body.size() + 1);
    EXPECT_THAT(answer.headers.at("date"), ::testing::EndsWith(" GMT"));
}

TEST_F(Server, BodyBeyondTheLimitEndsTheConnectionAlone) {
    start();
    auto node = client();
    EXPECT_EQ(node.post("/x", std::string((64U << 20) + 1, 'x'), {}).status, 0) << "the body was taken";
    auto other = client();
    EXPECT_EQ(post(other).status, 200) << "the server is gone";
}

TEST_F(Server, PortThatIsTakenIsAnErrorOfTheSettings) {
    start();
    HttpServerOptions options;
    options.port = server->port();
    const auto second = HttpServer::start(options, [](const HttpQuestion&) { return HttpReply(); });
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().kind, ErrorKind::Config);
}

class MutualTls : public Server {
protected:
    void SetUp() override {
        const auto own = authority.issue("server");
        options.certificate = own.certificate;
        options.key = own.key;
        options.client_ca = authority.certificate();
        test::Authority::Wish wish;
        wish.common_name = "aachen";
        const auto hospital = authority.issue("aachen", wish);
        serial = hospital.serial;
        identity = {authority.certificate(), hospital.certificate, hospital.key};
    }
    test::TemporaryFolder files;
    test::Authority authority{files.path(), "ca"};
    HttpServerOptions options;
    TlsIdentity identity;
    long serial = 0;
};

TEST_F(MutualTls, ClientCertificateNamesTheHospital) {
    start(options);
    auto node = client(identity);
    EXPECT_EQ(post(node).body, "aachen|hello");
}

TEST_F(MutualTls, RefusesNoneAnOlderProtocolAndAStrangersCertificate) {
    start(options);
    auto bare = identity;
    bare.certificate.clear();
    auto without = client(bare);
    EXPECT_EQ(post(without).status, 0);
    auto old = identity;
    old.version = 0x0303;
    auto with_tls12 = client(old);
    EXPECT_EQ(post(with_tls12).status, 0);
    test::TemporaryFolder elsewhere;
    test::Authority other(elsewhere.path(), "other");
    const auto forged = other.issue("aachen");
    auto stranger = client(TlsIdentity{identity.ca, forged.certificate, forged.key});
    EXPECT_EQ(post(stranger).status, 0);
    auto plain = client();
    EXPECT_EQ(post(plain).status, 0);
    auto good = client(identity);
    EXPECT_EQ(post(good).status, 200);
}

TEST_F(MutualTls, RefusesRevokedAndExpiredCertificates) {
    options.client_crl = authority.revoke({serial});
    start(options);
    auto revoked = client(identity);
    EXPECT_EQ(post(revoked).status, 0);
    test::Authority::Wish wish;
    wish.common_name = "bonn";
    wish.from_days = -10;
    wish.to_days = -1;
    const auto late = authority.issue("bonn", wish);
    auto expired = client(TlsIdentity{identity.ca, late.certificate, late.key});
    EXPECT_EQ(post(expired).status, 0);
    wish.to_days = 10;
    const auto fresh = authority.issue("essen", wish);
    auto good = client(TlsIdentity{identity.ca, fresh.certificate, fresh.key});
    EXPECT_EQ(post(good).body, "bonn|hello");
}

TEST_F(MutualTls, MissingCertificateFilesAreNamed) {
    options.certificate = files / "absent.pem";
    const auto made = HttpServer::start(options, [](const HttpQuestion&) { return HttpReply(); });
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().kind, ErrorKind::Config);
    EXPECT_THAT(made.error().message, ::testing::HasSubstr("absent.pem"));
}

}  // namespace
}  // namespace cardionode::fed
