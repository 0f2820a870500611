// Audit messages and their spool.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "conf/base/files.h"
#include "scp/audit/message.h"
#include "scp/audit/reader.h"
#include "tests/scp/audit/audit_site.h"
#include "tests/support/fake_clock.h"
#include "tests/support/process.h"

namespace cardionode {
namespace {

namespace fs = std::filesystem;
using test::FakeClock;
using test::kMoment;
using test::kTransfer;
using test::Site;
using test::TemporaryFolder;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<AuditEvent> every_kind_of_event() {
    return {application_started("cardionode-scp", "CARDIONODE"),
            application_stopped("cardionode-pipeline", "CARDIONODE"),
            association_refused({"EVIL", "10.1.2.3"}, "CARDIONODE", "calling_ae_title"),
            association_refused({"CT1", "fe80::1"}, "CARDIONODE", "max_associations"),
            tls_refused({"", "10.1.2.3"}, "CARDIONODE", "certificate has expired"),
            settings_reloaded("cardionode-scp", "CARDIONODE", ""),
            settings_reloaded("cardionode-scp", "CARDIONODE", "node.yaml:3: scp.port"),
            audit_events_lost("cardionode-scp", 17),
            transfer_began(kTransfer, kMoment),
            instances_transferred(kTransfer, 'C', kMoment),
            instances_refused({"CT1", "10.1.2.3"}, {"CARDIONODE", ""}, 3),
            transfer_failed(kTransfer, "no association", false),
            transfer_failed(kTransfer, "refused", true),
            instances_committed({"CT1", "10.1.2.3"}, {"CARDIONODE", ""}, 30, 0),
            instances_committed({"CARDIONODE", ""}, {"PACS1", "10.1.2.4"}, 2, 1),
            study_deleted("cardionode-scp", "CARDIONODE", {"S00AM", "1.2.3.4"}, "age")};
}

// --- what a message says

TEST(AuditMessage, OfEveryKindFitsTheSchemaOfTheStandard) {
    if (!test::installed("python3")) GTEST_SKIP() << "python3 is not installed";
    const TemporaryFolder folder;
    const AuditSource source{"CARDIONODE", "ct-node.hospital.example", "cardionode-scp", 4711, true};
    {
        std::ofstream out(folder / "messages");
        for (const AuditEvent& event : every_kind_of_event()) out << to_syslog(event, source, kMoment) << "\n";
    }
    const auto checked = test::run({"python3", std::string(CARDIONODE_SOURCE_DIR) + "/tests/scp/audit/check_message.py",
                                    (folder / "messages").string()});
    EXPECT_TRUE(checked.ok()) << checked.output << checked.errors;
}

TEST(AuditMessage, HasTheHeaderOfRfc5424) {
    const AuditSource source{"CARDIONODE", "node", "cardionode-scp", 4711, false};
    EXPECT_THAT(to_syslog(application_started("cardionode-scp", "A"), source, kMoment),
                ::testing::StartsWith(
                    "<85>1 2023-11-14T22:13:20.000Z node cardionode-scp 4711 DICOM+RFC3881 - \xEF\xBB\xBF<?xml"));
}

TEST(AuditMessage, NamesAStudyByItsKeyUnlessTheSettingsAskForTheUid) {
    const auto by_key = to_audit_xml(transfer_began(kTransfer, kMoment), {"A", "h", "p", 1, false}, kMoment);
    EXPECT_THAT(by_key, HasSubstr(R"(ParticipantObjectID="S00AM")"));
    EXPECT_THAT(by_key, Not(HasSubstr("1.2.3.4")));
    const auto by_uid = to_audit_xml(transfer_began(kTransfer, kMoment), {"A", "h", "p", 1, true}, kMoment);
    EXPECT_THAT(by_uid, HasSubstr(R"(ParticipantObjectID="1.2.3.4")"));
    EXPECT_THAT(by_uid, HasSubstr(R"(csd-code="110180" codeSystemName="DCM")"));
}

TEST(AuditMessage, CannotBeForgedByAPeersAeTitle) {
    const auto xml = to_audit_xml(association_refused({"A\"/><x>&\n\x80'", "10.0.0.1"}, "B", "called_ae_title"),
                                  {"A", "h", "p", 1, false}, kMoment);
    EXPECT_THAT(xml, HasSubstr(R"(UserID="A&quot;/&gt;&lt;x&gt;&amp;  '")"));
    EXPECT_EQ(xml.find('\n'), std::string::npos);
}

TEST(AuditMessage, TellsAFailedAuthenticationOfANodeFromALimitOfOurs) {
    EXPECT_EQ(association_refused({"X", "1.1.1.1"}, "B", "calling_ae_title").type->value, "110126");
    EXPECT_EQ(association_refused({"X", "1.1.1.1"}, "B", "low_space").type->scheme, "99CARDIONODE");
    EXPECT_EQ(tls_refused({"", "1.1.1.1"}, "B", "unknown CA").type->value, "110126");
}

// --- the spool

TEST(AuditTrail, WithoutARepositoryRecordsNothing) {
    const TemporaryFolder folder;
    NodeSettings settings;
    settings.audit.spool = folder / "audit";
    const auto trail = AuditTrail::open(settings, "cardionode-scp");
    ASSERT_TRUE(trail.ok());
    EXPECT_FALSE(trail->on());
    trail->record(application_started("cardionode-scp", "A"));
    EXPECT_FALSE(fs::exists(settings.audit.spool));
}

TEST(AuditTrail, KeepsEveryEventOfManyProcessesWhole) {
    const Site setup;
    const AuditTrail trail = setup.trail();
    constexpr int kProcesses = 8, kEvents = 50;
    for (int p = 0; p < kProcesses; ++p) {
        if (::fork() != 0) continue;
        for (int i = 0; i < kEvents; ++i) trail.record(association_refused({"CT1", "10.0.0.1"}, "A", "low_space"));
        ::_exit(0);
    }
    while (::wait(nullptr) > 0) {
    }
    EXPECT_EQ(setup.waiting().size(), static_cast<std::size_t>(kProcesses * kEvents));
}

TEST(AuditTrail, AKilledProcessLosesNothingItRecorded) {
    const Site setup;
    const AuditTrail trail = setup.trail();
    const pid_t pid = ::fork();
    if (pid == 0) {
        trail.record(application_started("cardionode-scp", "A"));
        ::raise(SIGKILL);
    }
    ::waitpid(pid, nullptr, 0);
    EXPECT_EQ(setup.waiting().size(), 1U);
}

TEST(AuditTrail, ATornLineDoesNotTakeTheNextOneWithIt) {
    const Site setup;
    const AuditTrail trail = setup.trail();
    trail.record(application_started("cardionode-scp", "A"));
    for (const auto& entry : fs::directory_iterator(setup.settings.audit.spool))
        fs::resize_file(entry.path(), fs::file_size(entry.path()) - 20);
    trail.record(application_stopped("cardionode-scp", "A"));
    const auto waiting = setup.waiting();
    ASSERT_EQ(waiting.size(), 1U);
    EXPECT_THAT(waiting[0], HasSubstr("Application Stop"));
}

TEST(AuditTrail, IsBoundedAndStrangersMayFillOnlyHalfOfIt) {
    Site setup;
    setup.settings.audit.spool_mib = 1;
    const AuditTrail trail = setup.trail();
    for (int i = 0; i < 1'500; ++i) trail.record(association_refused({"X", "10.0.0.1"}, "A", "called_ae_title"));
    EXPECT_LE(audit_spool_use(setup.settings.audit.spool).bytes, 512U << 10);
    EXPECT_GT(audit_spool_use(setup.settings.audit.spool).bytes, 500U << 10);
    const std::uint64_t lost = audit_spool_use(setup.settings.audit.spool).lost;
    EXPECT_EQ(setup.waiting().size() + lost, 1'500U);

    trail.record(transfer_began(kTransfer, kMoment));
    EXPECT_EQ(audit_spool_use(setup.settings.audit.spool).lost, lost) << "a transfer still has room";
    for (int i = 0; i < 1'500; ++i) trail.record(transfer_began(kTransfer, kMoment));
    EXPECT_LE(audit_spool_use(setup.settings.audit.spool).bytes, 1U << 20);
    EXPECT_EQ(setup.waiting().size() + audit_spool_use(setup.settings.audit.spool).lost, 3'001U);
}

TEST(AuditTrail, ASpoolThatCannotBeUsedIsAMistakeInTheSettings) {
    Site setup;
    std::ofstream(setup.folder / "file") << "x";
    setup.settings.audit.spool = setup.folder / "file/audit";
    const auto trail = AuditTrail::open(setup.settings, "cardionode-scp");
    ASSERT_FALSE(trail.ok());
    EXPECT_EQ(trail.error().kind, ErrorKind::Config);
    EXPECT_THAT(trail.error().message, HasSubstr("audit.spool"));
}

TEST(AuditReader, RemovesAFileOnlyWhenItIsDeliveredAndSilent) {
    const Site setup;
    FakeClock clock(Moment(std::chrono::duration_cast<Milliseconds>(system_clock().now().time_since_epoch())));
    setup.trail(clock).record(application_started("cardionode-scp", "A"));
    auto reader = AuditReader::open(setup.settings.audit.spool, clock).value();
    ASSERT_EQ(reader.next(10).value().size(), 1U);
    ASSERT_TRUE(reader.tidy().ok());
    ASSERT_EQ(reader.next(10).value().size(), 1U) << "not delivered: comes again";
    clock.advance(std::chrono::hours(2));
    ASSERT_TRUE(reader.tidy().ok());
    ASSERT_EQ(reader.next(10).value().size(), 1U) << "old, but not delivered";
    ASSERT_TRUE(reader.delivered().ok());
    EXPECT_TRUE(reader.next(10).value().empty());
    ASSERT_TRUE(reader.tidy().ok());
    EXPECT_EQ(audit_spool_use(setup.settings.audit.spool).bytes, 0U);
}

TEST(AuditReader, KnowsAfterACrashWhatWasDelivered) {
    const Site setup;
    const AuditTrail trail = setup.trail();
    trail.record(application_started("cardionode-scp", "A"));
    {
        auto reader = AuditReader::open(setup.settings.audit.spool).value();
        ASSERT_EQ(reader.next(10).value().size(), 1U);
        ASSERT_TRUE(reader.delivered().ok());
    }
    trail.record(application_stopped("cardionode-scp", "A"));
    const auto waiting = setup.waiting();
    ASSERT_EQ(waiting.size(), 1U);
    EXPECT_THAT(waiting[0], HasSubstr("Application Stop"));
}

TEST(AuditReader, ALargeDeliveredFileGoesEarlyWhileProcessesWriteAndLosesNothing) {
    const Site setup;
    const AuditTrail trail = setup.trail();
    constexpr int kProcesses = 4, kEvents = 1'000;  // several MiB
    std::vector<pid_t> writers;
    for (int p = 0; p < kProcesses; ++p) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            for (int i = 0; i < kEvents; ++i)
                trail.record(application_started(std::to_string(p) + "-" + std::to_string(i) + "-", "A"));
            ::_exit(0);
        }
        writers.push_back(pid);
    }
    auto reader = AuditReader::open(setup.settings.audit.spool).value();
    std::set<std::string> seen;
    std::size_t removed = 0;
    const auto drain = [&] {
        const auto batch = reader.next(5'000).value();
        for (const std::string& message : batch) {
            const auto at = message.find("UserID=\"") + 8;
            const std::string user = message.substr(at, message.find('"', at) - at);
            seen.insert(user.substr(user.find('@') + 1));
        }
        ASSERT_TRUE(reader.delivered().ok());
        const auto before = audit_spool_use(setup.settings.audit.spool).bytes;
        ASSERT_TRUE(reader.tidy().ok());
        removed += audit_spool_use(setup.settings.audit.spool).bytes < before ? 1 : 0;
    };
    for (const pid_t pid : writers)
        while (::waitpid(pid, nullptr, WNOHANG) == 0) drain();
    for (int i = 0; i < 3; ++i) drain();
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(kProcesses * kEvents));
    EXPECT_GT(removed, 0U) << "the test must have removed a file";
}

}  // namespace
}  // namespace cardionode
