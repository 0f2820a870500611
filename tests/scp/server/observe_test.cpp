// What the running receiver tells: audit messages, metrics, health; and how it drains.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <fstream>
#include <regex>
#include <sstream>

#include "tests/scp/server/commitment_peers.h"
#include "tests/scp/server/receiver.h"
#include "tests/scp/server/tls_peer.h"
#include "tests/support/audit_repository.h"
#include "tests/support/free_port.h"

namespace cardionode {
namespace {

using std::chrono::seconds;
using test::eventually;
using test::Instance;
using test::Receiver;
using test::Repository;
using test::Scanner;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string ask(int port, const std::string& path) {
    try {
        test::RawPeer peer(port);
        peer.send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
        return peer.receive_all(seconds(10));
    } catch (const std::runtime_error&) {
        return {};  // nobody listens yet
    }
}

/// The samples of a scrape by "name{labels}"; checks every line of the exposition format, and that each sample has its
/// HELP and TYPE before it.
std::map<std::string, double> samples_of(const std::string& answer) {
    std::map<std::string, double> samples;
    std::set<std::string> helped, typed;
    std::istringstream lines(answer.substr(answer.find("\r\n\r\n") + 4));
    const std::regex help(R"(# HELP ([a-z_]+) \S.*)"), type(R"(# TYPE ([a-z_]+) (counter|gauge|summary|histogram))"),
        sample(R"(([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (-?[0-9.e+]+))");
    std::string family, kind;
    for (std::string line; std::getline(lines, line);) {
        std::smatch match;
        if (std::regex_match(line, match, help)) {
            EXPECT_TRUE(helped.insert(match[1]).second) << "twice: " << line;
        } else if (std::regex_match(line, match, type)) {
            EXPECT_TRUE(helped.contains(match[1]) && typed.insert(match[1]).second) << line;
            family = match[1];
            kind = match[2];
            EXPECT_EQ(family.ends_with("_total"), kind == "counter") << line;
        } else if (std::regex_match(line, match, sample)) {
            const std::string name = match[1];
            EXPECT_TRUE(name == family || (kind == "summary" && name.starts_with(family))) << line;
            EXPECT_TRUE(samples.emplace(name + match[2].str(), std::stod(match[4])).second) << "twice: " << line;
        } else {
            ADD_FAILURE() << "no line of the exposition format: " << line;
        }
    }
    return samples;
}

struct Observed {
    int audit_port = test::free_port();
    int metrics_port = test::free_port();
    Receiver receiver;
    explicit Observed(const std::string& scp = {}, const std::string& audit = {})
        : receiver(scp + "metrics:\n  receiver_port: " + std::to_string(metrics_port) +
                   "\naudit:\n  host: 127.0.0.1\n" + "  port: " + std::to_string(audit_port) + "\n  transport: tcp\n" +
                   audit) {}
    /// The spool of the audit is beside the receiver's.
    void start() {
        receiver.more_settings("  spool: " + (receiver.folder() / "audit").string() + "\n");
        receiver.start();
    }
    std::map<std::string, double> metrics() const { return samples_of(ask(metrics_port, "/metrics")); }
};

TEST(Audit, OfAStudyNamesBothSidesTheStudyKeyAndTheNumberOfInstancesAndNoIdentity) {
    Observed o;
    const Repository repository(o.audit_port);
    o.start();
    std::vector<Instance> study;
    for (int i = 0; i < 5; ++i) study.push_back(test::made_slice(i, "1.2.77"));
    for (const auto& [uid, status] : test::send_all(o.receiver.port(), study, {"CT1", "CARDIONODE"}))
        EXPECT_EQ(status, 0);
    ASSERT_TRUE(eventually(seconds(20), [&] { return repository.count("DICOM Instances Transferred") == 1; }));
    EXPECT_EQ(repository.count("Application Start"), 1);
    EXPECT_EQ(repository.count("Begin Transferring DICOM Instances"), 1);
    const auto messages = repository.messages();
    for (const std::string& message : messages) {
        EXPECT_THAT(message, Not(HasSubstr("1.2.77"))) << "a UID of the study";
        EXPECT_THAT(message, Not(HasSubstr("DOE"))) << "a patient's name";
        if (message.find("\"110104\"") == std::string::npos) continue;
        EXPECT_THAT(message, HasSubstr(R"(AlternativeUserID="AETITLES=CT1")"));
        EXPECT_THAT(message, HasSubstr(R"(NetworkAccessPointID="127.0.0.1")"));
        EXPECT_THAT(message, HasSubstr(R"(AlternativeUserID="AETITLES=CARDIONODE")"));
        EXPECT_THAT(message, HasSubstr(R"(NumberOfInstances="5")"));
        EXPECT_THAT(message, HasSubstr(R"(EventActionCode="C")"));
        EXPECT_THAT(message, HasSubstr("<ParticipantObjectName>" + o.receiver.queue().studies().value()[0].study_key));
    }
    test::send_all(o.receiver.port(), study, {"CT1", "CARDIONODE"});
    ASSERT_TRUE(eventually(seconds(20), [&] { return repository.count("\"110104\"") == 2; }));
    EXPECT_EQ(repository.count(R"(EventActionCode="R")"), 1) << "all of it was there already";
    o.receiver.process().stop();
    EXPECT_TRUE(eventually(seconds(5), [&] { return repository.count("Application Stop") == 1; }));
}

TEST(Audit, OfStorageCommitmentSaysHowManyAreKeptAndTheMetricsCountThem) {
    Observed o;
    const Repository repository(o.audit_port);
    o.start();
    test::CtScanner scanner(o.receiver.port());
    const std::vector<Instance> images = {test::made_slice(1, "1.2.77"), test::made_slice(2, "1.2.77")};
    for (const Instance& image : images) ASSERT_EQ(scanner.store(image), 0);
    ASSERT_EQ(scanner.ask(test::about("2.25.1", images)), 0);
    ASSERT_TRUE(scanner.report(seconds(10)));
    ASSERT_EQ(scanner.ask(test::about("2.25.2", {images[0], test::made_slice(3, "1.2.77")})), 0);
    ASSERT_TRUE(scanner.report(seconds(10)));
    EXPECT_NE(scanner.ask(test::about("2.25.3", {})), 0) << "about nothing";
    EXPECT_TRUE(eventually(seconds(20), [&] {
        return repository.count("2 instances are kept, 0 are not") == 1 &&
               repository.count("1 instances are kept, 1 are not") == 1;
    }));
    EXPECT_EQ(repository.count("Storage commitment"), 2);
    for (const std::string& message : repository.messages()) EXPECT_THAT(message, Not(HasSubstr("1.2.77")));
    auto metrics = o.metrics();
    EXPECT_EQ(metrics[R"(cardionode_commitment_requests_total{outcome="taken"})"], 2);
    EXPECT_EQ(metrics[R"(cardionode_commitment_requests_total{outcome="refused"})"], 1);
    EXPECT_EQ(metrics[R"(cardionode_commitment_reports_total{outcome="taken"})"], 2);
    EXPECT_EQ(metrics[R"(cardionode_commitment_instances_total{outcome="kept"})"], 3);
    EXPECT_EQ(metrics[R"(cardionode_commitment_instances_total{outcome="failed"})"], 1);
    EXPECT_EQ(metrics["cardionode_commitments_owed"], 0);
    // One that nobody waits for, and that no host is set for, stays owed.
    ASSERT_EQ(scanner.ask(test::about("2.25.4", images)), 0);
    scanner.release();
    EXPECT_TRUE(eventually(seconds(10), [&] { return o.metrics()["cardionode_commitments_owed"] == 1; }));
    EXPECT_TRUE(eventually(
        seconds(10), [&] { return o.metrics()[R"(cardionode_commitment_reports_total{outcome="failed"})"] >= 1; }));
}

TEST(Audit, NamesStudiesByTheirUidWhereTheSettingsAskForIt) {
    Observed o({}, "  study_uids: true\n");
    const Repository repository(o.audit_port);
    o.start();
    const Instance instance = test::made_slice(1, "1.2.77");
    test::send_all(o.receiver.port(), {instance}, {"CT1", "CARDIONODE"});
    EXPECT_TRUE(eventually(seconds(20), [&] {
        return repository.count("\"110104\"") == 1 && repository.count(R"(ParticipantObjectID="1.2.77)") == 2;
    }));
}

TEST(Audit, OfARefusedAssociationIsASecurityAlert) {
    Observed o;
    const Repository repository(o.audit_port);
    o.start();
    EXPECT_FALSE(Scanner(o.receiver.port(), {}, {"EVIL", "SOMEBODY"}).accepted());
    ASSERT_TRUE(eventually(seconds(20), [&] { return repository.count("\"110113\"") == 1; }));
    EXPECT_EQ(repository.count("\"110126\""), 1);
    EXPECT_EQ(repository.count("EVIL"), 1);
    EXPECT_EQ(repository.count("<EventOutcomeDescription>called_ae_title"), 1);
}

TEST(Audit, OfARefusedTlsHandshakeIsASecurityAlertAndNamesNobody) {
    const test::TemporaryFolder folder;
    test::Authority hospital(folder / "pki", "hospital");
    test::Authority stranger(folder / "other", "hospital");
    const auto server = hospital.issue("server");
    const auto evil = stranger.issue("evil", {"Jane Doe"});
    const int port = test::free_port();
    Observed o("  tls:\n    port: " + std::to_string(port) + "\n    certificate: " + server.certificate.string() +
               "\n    key: " + server.key.string() + "\n    ca: " + hospital.certificate().string() + "\n");
    const Repository repository(o.audit_port);
    o.start();
    EXPECT_FALSE(test::tls_echo_works(port, test::TlsPeer::with(evil)));
    ASSERT_TRUE(eventually(seconds(20), [&] { return repository.count("\"110113\"") == 1; }));
    EXPECT_EQ(repository.count("\"110126\""), 1);
    EXPECT_EQ(repository.count("<EventOutcomeDescription>unknown_ca"), 1);
    EXPECT_EQ(repository.count(R"(NetworkAccessPointID="127.0.0.1")"), 1);
    EXPECT_EQ(repository.count("Jane"), 0);
    EXPECT_EQ(o.metrics()["cardionode_associations_rejected_total{reason=\"tls\"}"], 1);
    EXPECT_TRUE(test::tls_echo_works(port, test::TlsPeer::with(hospital.issue("scanner", {"CT1"}))));
    EXPECT_EQ(o.metrics()["cardionode_associations_accepted_total"], 1);
}

TEST(Audit, OfAReloadSaysWhetherTheNewSettingsAreInUseAndThoseOfTheAuditWaitForARestart) {
    Observed o;
    const Repository repository(o.audit_port);
    o.start();
    o.receiver.more_settings("  study_uids: true\n");
    o.receiver.write_settings();
    EXPECT_THAT(o.receiver.reload(), HasSubstr(" reloaded"));
    EXPECT_TRUE(o.receiver.wait_for_log("reload_needs_restart keys=audit"));
    ASSERT_TRUE(eventually(seconds(20), [&] { return repository.count("\"110129\"") == 1; }));
    EXPECT_EQ(repository.count("<EventOutcomeDescription>settings reloaded"), 1);
    o.receiver.more_settings("  no_such_key: 1\n");
    o.receiver.write_settings();
    EXPECT_THAT(o.receiver.reload(), HasSubstr(" reload_failed"));
    ASSERT_TRUE(eventually(seconds(20), [&] { return repository.count("\"110129\"") == 2; }));
    EXPECT_EQ(repository.count("audit.no_such_key"), 1);
    EXPECT_EQ(repository.count(R"(EventOutcomeIndicator="4")"), 1);
}

TEST(Audit, ARepositoryThatIsAwayDelaysNoAnswerAndGetsEverythingLater) {
    Observed o;
    o.start();  // nobody listens on the audit port
    std::vector<Instance> study;
    for (int i = 0; i < 20; ++i) study.push_back(test::made_slice(i, "1.2.78"));
    const auto start = std::chrono::steady_clock::now();
    for (const auto& [uid, status] : test::send_all(o.receiver.port(), study, {"CT1", "CARDIONODE"}))
        EXPECT_EQ(status, 0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(5));
    ASSERT_TRUE(o.receiver.wait_for_log("audit_repository_away"));
    ASSERT_TRUE(o.receiver.wait_for_stored(20));
    const Repository repository(o.audit_port);
    ASSERT_TRUE(eventually(seconds(30), [&] { return repository.count("\"110104\"") == 1; }));
    EXPECT_THAT(repository.messages()[0], HasSubstr("Application Start"));
}

TEST(Audit, AKilledSenderIsStartedAgainAndLosesNothing) {
    Observed o;
    o.start();
    const Instance instance = test::made_slice(1, "1.2.79");
    test::send_all(o.receiver.port(), {instance}, {"CT1", "CARDIONODE"});
    ASSERT_TRUE(o.receiver.wait_for_stored(1));
    const auto children = o.receiver.children();
    for (const pid_t child : children) ::kill(child, SIGKILL);  // indexer, reporter, audit sender and metrics
    const Repository repository(o.audit_port);
    EXPECT_TRUE(eventually(seconds(30), [&] {
        return repository.count("\"110104\"") >= 1 && repository.count("Application Start") == 1;
    }));
    EXPECT_TRUE(eventually(seconds(10), [&] {
        const auto metrics = o.metrics();
        return metrics.contains("cardionode_indexer_restarts_total") &&
               metrics.at("cardionode_indexer_restarts_total") == 1;
    }));
}

TEST(Metrics, CountWhatHappenedAcrossTheProcessesOfTheReceiver) {
    Observed o("  accept_unknown_peers: false\n  peers: [{ae_title: CT1}]\n");
    o.start();
    std::vector<Instance> study;
    for (int i = 0; i < 7; ++i) study.push_back(test::made_slice(i, "1.2.80"));
    test::send_all(o.receiver.port(), study, {"CT1", "CARDIONODE"});
    test::send_all(o.receiver.port(), {study[0]}, {"CT1", "CARDIONODE"});
    EXPECT_FALSE(Scanner(o.receiver.port(), {}, {"CT2", "CARDIONODE"}).accepted());
    {
        test::RawPeer web(o.receiver.port());
        web.send("GET / HTTP/1.1\r\n\r\n");
        web.receive_all(seconds(3));
    }
    Instance wrong = study[1];
    wrong.sop_instance_uid += ".9";  // not what the data set says
    Scanner scanner(o.receiver.port(), {wrong}, {"CT1", "CARDIONODE"});
    EXPECT_EQ(scanner.store(wrong), 0xa900);

    std::map<std::string, double> m;
    ASSERT_TRUE(eventually(seconds(20), [&] {
        m = o.metrics();
        return m["cardionode_instances_indexed_total{outcome=\"duplicate\"}"] == 1;
    }));
    EXPECT_EQ(m["cardionode_associations_accepted_total"], 3);
    EXPECT_EQ(m["cardionode_associations_open"], 1);
    EXPECT_EQ(m["cardionode_associations_rejected_total{reason=\"calling_ae_title\"}"], 1);
    EXPECT_EQ(m["cardionode_connections_without_association_total"], 2) << "this one, and the look whether it listens";
    EXPECT_EQ(m["cardionode_instances_durable_total"], 8);
    EXPECT_EQ(m["cardionode_instances_acknowledged_total"], 8);
    EXPECT_EQ(m["cardionode_instances_indexed_total{outcome=\"stored\"}"], 7);
    EXPECT_EQ(m["cardionode_requests_refused_total{status=\"A900\"}"], 1);
    EXPECT_EQ(m["cardionode_queue_studies{state=\"receiving\"}"], 1);
    EXPECT_EQ(m["cardionode_queue_readable"], 1);
    EXPECT_EQ(m["cardionode_indexer_restarts_total"], 0);
    EXPECT_EQ(m["cardionode_spool_in_place"], 1);
    EXPECT_GT(m["cardionode_spool_free_bytes"], 0);
    EXPECT_GT(m["cardionode_received_bytes_total"], 0);
    EXPECT_NEAR(m["cardionode_last_instance_timestamp_seconds"], static_cast<double>(::time(nullptr)), 60);
    if (test::installed("promtool")) {
        const std::string answer = ask(o.metrics_port, "/metrics");
        std::ofstream(o.receiver.folder() / "scrape") << answer.substr(answer.find("\r\n\r\n") + 4);
        const auto lint =
            test::run({"sh", "-c", "promtool check metrics < " + (o.receiver.folder() / "scrape").string()});
        EXPECT_TRUE(lint.ok()) << lint.errors;
        EXPECT_EQ(lint.errors, "");
    }
}

TEST(Metrics, StayRightWhenProcessesOfAssociationsAreKilled) {
    Observed o;
    o.start();
    const std::size_t beside = test::kHelpers + 2;  // audit sender, metrics
    ASSERT_TRUE(eventually(seconds(10), [&] { return o.receiver.children().size() == beside; }));
    const auto known = o.receiver.children();
    constexpr int kKilled = 5;
    for (int i = 0; i < kKilled; ++i) {
        const Instance instance = test::made_slice(i, "1.2.81");
        Scanner scanner(o.receiver.port(), {instance}, {"CT1", "CARDIONODE"});
        ASSERT_EQ(scanner.store(instance), 0);
        const auto children = o.receiver.children();
        for (const pid_t child : children)
            if (std::find(known.begin(), known.end(), child) == known.end()) ::kill(child, SIGKILL);
        ASSERT_TRUE(eventually(seconds(10), [&] { return o.receiver.children().size() == beside; }));
    }
    // The supervisor clears the slot of a process a moment after it has seen it end.
    EXPECT_TRUE(eventually(seconds(10), [&] {
        auto seen = o.metrics();
        return seen["cardionode_associations_open"] == 0 && seen["cardionode_connections_open"] == 0;
    }));
    auto m = o.metrics();
    EXPECT_EQ(m["cardionode_associations_accepted_total"], kKilled);
    EXPECT_EQ(m["cardionode_instances_durable_total"], kKilled);
    EXPECT_EQ(m["cardionode_association_processes_failed_total"], kKilled);
}

TEST(Metrics, ReadyTellsWhenTheReceiverCannotTakeAnythingAndLiveDoesNot) {
    Observed o("  min_free_mib: 1000000000\n");
    o.start();
    EXPECT_TRUE(eventually(seconds(10), [&] {
        return ask(o.metrics_port, "/health/ready").find("not ready: the spool is low on space") != std::string::npos;
    }));
    EXPECT_THAT(ask(o.metrics_port, "/health/live"), StartsWith("HTTP/1.1 200"));
}

TEST(Metrics, LiveTellsWhenTheSupervisorHangs) {
    Observed o;
    o.start();
    EXPECT_TRUE(
        eventually(seconds(10), [&] { return ask(o.metrics_port, "/health").find(" 200 ") != std::string::npos; }));
    o.receiver.process().signal(SIGSTOP);
    EXPECT_TRUE(
        eventually(seconds(20), [&] { return ask(o.metrics_port, "/health/live").find("503") != std::string::npos; }));
    o.receiver.process().signal(SIGCONT);
}

TEST(Metrics, AnAddressThatOthersReachIsRefusedUnlessAskedFor) {
    Receiver closed("metrics:\n  bind_address: 0.0.0.0\n  receiver_port: 9404\n");
    const auto refused = closed.run_to_end();
    EXPECT_EQ(refused.ending.exit_code, 2);
    EXPECT_THAT(refused.errors, HasSubstr("metrics.bind_address: expected 127.0.0.1 or ::1"));
}

TEST(Drain, OpenAssociationsFinishWhileNewOnesAreRefused) {
    Observed o;
    o.start();
    const Instance first = test::made_slice(1, "1.2.82"), second = test::made_slice(2, "1.2.82");
    Scanner scanner(o.receiver.port(), {first, second}, {"CT1", "CARDIONODE"});
    ASSERT_EQ(scanner.store(first), 0);
    o.receiver.process().signal(SIGTERM);
    ASSERT_TRUE(o.receiver.wait_for_log("receiver_stopping"));
    EXPECT_THROW(test::RawPeer(o.receiver.port()), std::runtime_error) << "connection refused: a scanner tries again";
    EXPECT_THAT(ask(o.metrics_port, "/health/ready"), HasSubstr("not ready: it stops"));
    EXPECT_EQ(scanner.store(second), 0) << "the open association goes on";
    scanner.release();
    const auto ending = o.receiver.process().wait(seconds(10));
    ASSERT_TRUE(ending.has_value());
    EXPECT_EQ(ending->exit_code, 0);
    EXPECT_EQ(o.receiver.stored().size(), 2U);
}

}  // namespace
}  // namespace cardionode
