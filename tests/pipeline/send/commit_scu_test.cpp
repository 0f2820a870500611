// Storage commitment by a PACS, as the sender asks for it: when a study is done, and what each odd answer means.
#include <fstream>
#include <ostream>

#include <gmock/gmock.h>

#include "pipeline/send/commit_scu.h"
#include "tests/pipeline/send/commit_peer.h"
#include "tests/pipeline/send/sending_fixture.h"
#include "tests/support/authority.h"
#include "tests/support/free_port.h"
#include "tests/support/process.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

namespace {

struct Row {
    const char* name;
    CommitManner manner;
    int number;              ///< failure reason or status
    const char* setting;     ///< commitment
    const char* state;       ///< of both outputs afterwards
    const char* commitment;  ///< of both
    StudyState study;
    const char* words;  ///< in the study's last error
};
std::ostream& operator<<(std::ostream& out, const Row& row) { return out << row.name; }

constexpr auto kOffered = "when_offered", kRequired = "required";
const Row kRows[] = {
    {"Keeps", CommitManner::Keeps, 0, kOffered, "sent", "committed", StudyState::Done, ""},
    {"ReportsFirst", CommitManner::ReportsFirst, 0, kOffered, "sent", "committed", StudyState::Done, ""},
    // --- no report here: it comes to the receiver, or never
    {"NoReport", CommitManner::NoReport, 0, kOffered, "sent", "asked", StudyState::Sending, ""},
    {"ReleasesAtOnce", CommitManner::ReleasesAtOnce, 0, kOffered, "sent", "asked", StudyState::Sending, ""},
    {"OtherTransaction", CommitManner::OtherTransaction, 0, kOffered, "sent", "asked", StudyState::Sending, ""},
    {"Garbage", CommitManner::Garbage, 0, kOffered, "sent", "asked", StudyState::Sending, ""},
    // --- it says no: sent again, asked again, or set aside
    {"NoSuchInstance0112", CommitManner::Fails, 0x0112, kOffered, "waiting", "none", StudyState::Sending, "0x0112"},
    {"ProcessingFailure0110", CommitManner::Fails, 0x0110, kOffered, "sent", "wanted", StudyState::Sending, "0x0110"},
    {"ResourceLimitation0213", CommitManner::Fails, 0x0213, kOffered, "sent", "wanted", StudyState::Sending, "0x0213"},
    {"Duplicate0131", CommitManner::Fails, 0x0131, kOffered, "sent", "wanted", StudyState::Sending, "0x0131"},
    {"Conflict0119", CommitManner::Fails, 0x0119, kOffered, "set_aside", "none", StudyState::SetAside, "0x0119"},
    {"ClassNotSupported0122", CommitManner::Fails, 0x0122, kOffered, "set_aside", "none", StudyState::SetAside,
     "0x0122"},
    // --- it does not have the service
    {"NotOffered", CommitManner::NotOffered, 0, kOffered, "sent", "not_offered", StudyState::Done, ""},
    {"NotOfferedButRequired", CommitManner::NotOffered, 0, kRequired, "set_aside", "none", StudyState::SetAside,
     "not offered"},
    {"NoSuchClass0118", CommitManner::RefusesAction, 0x0118, kOffered, "sent", "not_offered", StudyState::Done, ""},
    {"NoSuchActionButRequired0123", CommitManner::RefusesAction, 0x0123, kRequired, "set_aside", "none",
     StudyState::SetAside, "0x0123"},
    // --- the request fails
    {"NotAuthorised0124", CommitManner::RefusesAction, 0x0124, kOffered, "set_aside", "none", StudyState::SetAside,
     "not authorised (status 0x0124)"},
    {"ProcessingFailsOnAction", CommitManner::RefusesAction, 0x0110, kOffered, "sent", "wanted", StudyState::Sending,
     "processing failure (status 0x0110)"},
    {"RejectsForNow", CommitManner::RejectsForNow, 0, kOffered, "sent", "wanted", StudyState::Sending,
     "local limit exceeded"},
    {"AbortsOnAction", CommitManner::AbortsOnAction, 0, kOffered, "sent", "wanted", StudyState::Sending, "aborted"},
    {"ClosesOnAction", CommitManner::ClosesOnAction, 0, kOffered, "sent", "wanted", StudyState::Sending, "closed"},
    {"NoAnswer", CommitManner::NoAnswer, 0, kOffered, "sent", "wanted", StudyState::Sending,
     "no answer to the N-ACTION within 1 s"},
    {"WrongMessage", CommitManner::WrongMessage, 0, kOffered, "sent", "wanted", StudyState::Sending, "another message"},
    {"WrongCommand", CommitManner::WrongCommand, 0, kOffered, "sent", "wanted", StudyState::Sending, "something else"},
};

class CommitScu : public Sending, public testing::WithParamInterface<Row> {};

}  // namespace

TEST_P(CommitScu, EachAnswerHasItsMeaningAndInTheEndEachOutputIsKeptOnce) {
    const Row& row = GetParam();
    finish_study({"pacs1"}, 2);
    CommitPeer pacs(row.manner, static_cast<std::uint16_t>(row.number));
    auto sender = worker("pacs1", pacs.port(), row.setting);
    ASSERT_TRUE(*sender.send_next());
    EXPECT_THAT(pacs.asked(), IsEmpty()) << "not before all are sent";
    ASSERT_TRUE(*sender.send_next());
    ASSERT_EQ(study().outputs_sent, 2);
    ASSERT_EQ(study().outputs_uncommitted, 2);
    ASSERT_TRUE(*sender.send_next());

    for (const OutputRow& output : outputs()) {
        EXPECT_EQ(output.state, row.state) << output.last_error;
        EXPECT_EQ(output.commitment, row.commitment) << output.last_error;
    }
    EXPECT_EQ(study().state, row.study);
    EXPECT_THAT(study().last_error, HasSubstr(row.words));
    EXPECT_FALSE(*sender.send_next()) << "nothing is repeated at once";

    // The PACS behaves from now on.
    pacs.set_manner(CommitManner::Keeps);
    if (row.study == StudyState::SetAside) {
        ASSERT_TRUE(Queue::open(database_, clock_)->retry(key_).ok());
    }
    for (int i = 0; i < 4; ++i) {
        clock_.advance(std::chrono::hours(1));
        while (*sender.send_next()) {
        }
    }
    EXPECT_EQ(study().state, StudyState::Done) << study().last_error;
    EXPECT_THAT(pacs.held(), SizeIs(2));
    const int times = std::string(row.state) == "sent" ? 1 : 2;
    EXPECT_THAT(pacs.held(), Each(Pair(testing::_, times)));
    std::set<std::string> transactions;
    for (const CommitmentData& asked : pacs.asked()) EXPECT_TRUE(transactions.insert(asked.transaction_uid).second);
}

INSTANTIATE_TEST_SUITE_P(Answers, CommitScu, testing::ValuesIn(kRows),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(Sending, WhatAReportLeavesOutIsAskedForAgain) {
    finish_study({"pacs1"}, 2);
    CommitPeer pacs(CommitManner::LeavesOneOut);
    auto sender = worker("pacs1", pacs.port(), "when_offered");
    while (*sender.send_next()) {
    }
    EXPECT_EQ(outputs()[0].commitment, "committed");
    EXPECT_EQ(outputs()[1].commitment, "wanted");
    clock_.advance(std::chrono::hours(1));
    while (*sender.send_next()) {
    }
    EXPECT_EQ(study().state, StudyState::Done);
    ASSERT_THAT(pacs.asked(), SizeIs(2));
    EXPECT_THAT(pacs.asked()[1].referenced, SizeIs(1)) << "what is kept is not asked for again";
    EXPECT_THAT(pacs.report_answers(), Each(0));
}

TEST_F(Sending, AReportThatComesToTheReceiverMakesTheStudyDone) {
    finish_study({"pacs1"}, 1);
    CommitPeer pacs(CommitManner::NoReport);
    auto sender = worker("pacs1", pacs.port(), "required");
    while (*sender.send_next()) {
    }
    ASSERT_THAT(pacs.asked(), SizeIs(1));
    auto queue = Queue::open(database_, clock_);
    const CommitmentData asked = pacs.asked()[0];
    CommitmentAnswer answer{
        asked.transaction_uid, {{asked.referenced[0].sop_class_uid, asked.referenced[0].sop_instance_uid}}, {}};
    EXPECT_EQ(*queue->commitment_answered("PACS", answer), AnswerOutcome::Taken);
    EXPECT_EQ(study().state, StudyState::Done);
}

TEST_F(Sending, WhereCommitmentIsSwitchedOffWhatWaitedForItIsDoneAndNobodyIsAsked) {
    finish_study({"pacs1"}, 1);
    CommitPeer pacs(CommitManner::NoReport);
    {
        auto sender = worker("pacs1", pacs.port(), "when_offered");
        while (*sender.send_next()) {
        }
    }
    EXPECT_EQ(study().state, StudyState::Sending);
    auto sender = worker("pacs1", pacs.port(), "off");
    EXPECT_EQ(study().state, StudyState::Done);
    finish_study({"pacs1"}, 1);
    while (*sender.send_next()) {
    }
    EXPECT_EQ(study().state, StudyState::Done);
    EXPECT_THAT(pacs.asked(), SizeIs(1));
}

TEST_F(Sending, NobodyListensForTheRequest) {
    finish_study({"pacs1"}, 1);
    auto pacs = std::make_unique<CommitPeer>(CommitManner::Keeps);
    auto sender = worker("pacs1", pacs->port(), "required");
    ASSERT_TRUE(*sender.send_next());
    pacs.reset();
    ASSERT_TRUE(*sender.send_next());
    EXPECT_EQ(outputs()[0].commitment, "wanted");
    EXPECT_THAT(outputs()[0].last_error, testing::StartsWith("pacs1 (PACS at 127.0.0.1:"));
    EXPECT_THAT(outputs()[0].last_error, HasSubstr("Connection refused"));
}

TEST(CommitTls, ARequestGoesOverTlsAndOnlyToTheRightCertificate) {
    // Our own receiver is the PACS: it has the service, and TLS with certificates of both sides.
    TemporaryFolder folder;
    Authority ca(folder / "pki", "hospital"), other(folder / "pki", "other");
    const auto server = ca.issue("pacs"), client = ca.issue("node");
    const int port = free_port();
    std::ofstream(folder / "node.yaml") << "node:\n  spool: " << (folder / "spool").string()
                                        << "\n  work: " << (folder / "work").string()
                                        << "\n  database: " << (folder / "queue/queue.db").string()
                                        << "\nscp:\n  min_free_mib: 0\n  port: " << free_port()
                                        << "\n  tls:\n    port: " << port
                                        << "\n    only: true\n    certificate: " << server.certificate.string()
                                        << "\n    key: " << server.key.string()
                                        << "\n    ca: " << ca.certificate().string() << "\n";
    Process::Options options;
    options.output = folder / "log";
    auto receiver = Process::start({program("cardionode-scp"), "--config", (folder / "node.yaml").string()}, options);
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] { return listens(port); }));
    DestinationSettings destination;
    destination.name = "pacs1";
    destination.ae_title = "CARDIONODE";
    destination.host = "127.0.0.1";
    destination.port = port;
    destination.tls.emplace();
    destination.tls->files = {client.certificate, client.key, ca.certificate(), {}};
    CommitmentAsk ask{new_transaction_uid(), "S00AM", "pacs1", 1, {{UID_SecondaryCaptureImageStorage, "1.2.3"}}};
    std::vector<CommitmentAnswer> answers;
    const auto take = [&](const CommitmentAnswer& answer) -> Result<AnswerOutcome> {
        answers.push_back(answer);
        return AnswerOutcome::Taken;
    };
    const auto asked = request_commitment(ask, destination, {5, 5, 10}, take);
    ASSERT_TRUE(asked) << asked.error().message;
    EXPECT_TRUE(asked->answered);
    ASSERT_THAT(answers, SizeIs(1));
    ASSERT_THAT(answers[0].failed, SizeIs(1)) << "it never got that instance";
    EXPECT_EQ(answers[0].failed[0].reason, 0x0112);

    destination.tls->files.ca = other.certificate();
    const auto refused = request_commitment(ask, destination, {5, 5, 1}, take);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Retry);
    EXPECT_THAT(refused.error().message, HasSubstr("unknown_ca"));
}
