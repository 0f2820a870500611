// How audit messages reach a repository: in order, once, over TLS, and later where it is away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/scp/audit/audit_site.h"
#include "tests/support/audit_repository.h"
#include "tests/support/process.h"

namespace cardionode {
namespace {

namespace fs = std::filesystem;
using test::kMoment;
using test::kTransfer;
using test::Repository;
using test::Site;
using ::testing::HasSubstr;

class Delivery : public ::testing::TestWithParam<const char*> {};

TEST_P(Delivery, BringsMessagesInOrderAndOnce) {
    Site setup;
    setup.settings.audit.transport = GetParam();
    const Repository repository(setup.port, GetParam());
    const AuditTrail trail = setup.trail();
    for (int i = 0; i < 300; ++i) trail.record(application_started(std::to_string(i) + "-", "A"));
    auto sender = setup.sender();
    std::size_t sent = 0;
    while (sent < 300) {
        const std::size_t now = sender.step().value();
        ASSERT_GT(now, 0U);
        sent += now;
        ASSERT_TRUE(repository.wait_for(sent));
    }
    const auto messages = repository.messages();
    ASSERT_EQ(messages.size(), 300U);
    for (int i = 0; i < 300; ++i)
        EXPECT_THAT(messages[static_cast<std::size_t>(i)], HasSubstr("@" + std::to_string(i) + "-\""));
}

INSTANTIATE_TEST_SUITE_P(Plain, Delivery, ::testing::Values("tcp", "udp"),
                         [](const auto& param) { return std::string(param.param); });

TEST(AuditSender, NoticesThatNobodyTakesItsDatagrams) {
    Site setup;
    setup.settings.audit.transport = "udp";
    setup.trail().record(application_started("cardionode-scp", "A"));
    auto sender = setup.sender();
    EXPECT_FALSE(sender.step().ok());
    EXPECT_EQ(setup.waiting().size(), 1U);
}

TEST(AuditSender, KeepsWhatItCannotDeliverAndDeliversItInOrderLater) {
    const Site setup;
    const AuditTrail trail = setup.trail();
    auto sender = setup.sender();
    for (int i = 0; i < 20; ++i) trail.record(application_started(std::to_string(i) + "-", "A"));
    const auto refused = sender.step();
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Retry);
    EXPECT_THAT(refused.error().message, HasSubstr("Connection refused"));

    const Repository repository(setup.port);
    EXPECT_EQ(sender.step().value(), 20U);
    ASSERT_TRUE(repository.wait_for(20));
    for (int i = 0; i < 20; ++i)
        EXPECT_THAT(repository.messages()[static_cast<std::size_t>(i)], HasSubstr("@" + std::to_string(i) + "-\""));
    EXPECT_EQ(sender.step().value(), 0U);
}

TEST(AuditSender, SendsAgainWhatARepositoryThatClosesDidNotTake) {
    const Site setup;
    const AuditTrail trail = setup.trail();
    const Repository repository(setup.port, "tcp", {}, 50);
    for (int i = 0; i < 120; ++i) trail.record(application_started(std::to_string(i) + "-", "A"));
    auto sender = setup.sender();
    std::size_t failures = 0;
    for (int i = 0; i < 20 && repository.count("@119-\"") == 0; ++i) failures += sender.step().ok() ? 0 : 1;
    // Resetting connections end some batches; a message may come twice then, none may be left out.
    EXPECT_GT(failures, 0U);
    for (int i = 0; i < 50; ++i) EXPECT_GE(repository.count("@" + std::to_string(i) + "-\""), 1) << i;
}

TEST(AuditSender, TellsTheRepositoryHowManyEventsWereLost) {
    Site setup;
    setup.settings.audit.spool_mib = 1;
    const AuditTrail trail = setup.trail();
    for (int i = 0; i < 1'200; ++i) trail.record(transfer_began(kTransfer, kMoment));
    const auto lost = audit_spool_use(setup.settings.audit.spool).lost;
    ASSERT_GT(lost, 0U);
    const Repository repository(setup.port);
    auto sender = setup.sender();
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(sender.step().ok());
    EXPECT_TRUE(test::eventually(std::chrono::seconds(5),
                                 [&] { return repository.count(std::to_string(lost) + " events were lost") == 1; }));
    EXPECT_EQ(audit_spool_use(setup.settings.audit.spool).lost, 0U);
}

class AuditTls : public ::testing::Test {
protected:
    void SetUp() override {
        if (!test::installed("openssl")) GTEST_SKIP() << "openssl is not installed";
        for (const char* name : {"site", "other"}) {
            fs::create_directories(setup.folder / name);
            test::make_ca(setup.folder / name);
        }
        test::make_certificate(site(), "repository");
        test::make_certificate(site(), "node");
        test::make_certificate(setup.folder / "other", "repository");
        test::make_certificate(setup.folder / "other", "node");
        setup.settings.audit.transport = "tls";
        setup.settings.audit.ca_file = site() / "ca.pem";
        setup.trail().record(application_started("cardionode-scp", "A"));
    }
    fs::path site() const { return setup.folder / "site"; }
    Repository::Tls server(const std::string& ca = "site") const {
        return {setup.folder / ca / "repository.pem", setup.folder / ca / "repository.key", {}};
    }
    Site setup;
};

TEST_F(AuditTls, DeliversWithMutualCertificates) {
    setup.settings.audit.certificate_file = site() / "node.pem";
    setup.settings.audit.key_file = site() / "node.key";
    Repository::Tls tls = server();
    tls.client_ca = site() / "ca.pem";
    const Repository repository(setup.port, "tls", tls);
    auto sender = setup.sender();
    const auto sent = sender.step();
    ASSERT_TRUE(sent.ok()) << sent.error().message;
    EXPECT_TRUE(repository.wait_for(1));
}

TEST_F(AuditTls, DoesNotTalkToARepositoryOfAnotherCa) {
    const Repository repository(setup.port, "tls", server("other"));
    auto sender = setup.sender();
    const auto sent = sender.step();
    ASSERT_FALSE(sent.ok());
    EXPECT_THAT(sent.error().message, HasSubstr("certificate"));
    EXPECT_TRUE(repository.messages().empty());
}

TEST_F(AuditTls, DoesNotTalkToARepositoryOfAnotherName) {
    setup.settings.audit.host = "127.0.0.2";  // is this machine as well, but not what the certificate says
    const Repository repository(setup.port, "tls", server());
    auto sender = setup.sender();
    EXPECT_FALSE(sender.step().ok());
    EXPECT_EQ(setup.waiting().size(), 1U);
}

TEST_F(AuditTls, KeepsWhatARepositoryRefusesThatDoesNotKnowTheNodesCertificate) {
    setup.settings.audit.certificate_file = setup.folder / "other/node.pem";
    setup.settings.audit.key_file = setup.folder / "other/node.key";
    Repository::Tls tls = server();
    tls.client_ca = site() / "ca.pem";
    const Repository repository(setup.port, "tls", tls);
    auto sender = setup.sender();
    EXPECT_FALSE(sender.step().ok()) << "TLS 1.3 refuses after the handshake: it must be noticed all the same";
    EXPECT_EQ(setup.waiting().size(), 1U);
}

TEST_F(AuditTls, AKeyFileThatIsAbsentIsNamed) {
    setup.settings.audit.certificate_file = site() / "node.pem";
    setup.settings.audit.key_file = site() / "absent.key";
    const Repository repository(setup.port, "tls", server());
    auto sender = setup.sender();
    const auto sent = sender.step();
    ASSERT_FALSE(sent.ok());
    EXPECT_EQ(sent.error().kind, ErrorKind::Config);
    EXPECT_THAT(sent.error().message, HasSubstr("audit.key_file"));
}

}  // namespace
}  // namespace cardionode
