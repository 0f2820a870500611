// Storage commitment over real sockets, with scanners and PACS made of raw bytes: requests of scanners and where their
// reports go, reports of PACS, and everything that a request can get wrong.
#include <gmock/gmock.h>
#include <signal.h>

#include "tests/scp/server/commitment_peers.h"
#include "tests/scp/server/tls_peer.h"
#include "tests/support/free_port.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

namespace {

std::string peer_settings(int report_port) {
    return "  peers:\n    - ae_title: CT1\n      host: 127.0.0.1\n      port: " + std::to_string(report_port) + "\n";
}

std::vector<Instance> slices(int count) {
    std::vector<Instance> out;
    for (int i = 1; i <= count; ++i) out.push_back(made_slice(i));
    return out;
}

}  // namespace

TEST(StorageCommitment, AScannerThatWaitsGetsTheReportOnItsOwnAssociation) {
    Receiver receiver;
    receiver.start();
    CtScanner scanner(receiver.port());
    ASSERT_TRUE(scanner.accepted(kCommitment));
    const auto images = slices(2);
    for (const Instance& image : images) ASSERT_EQ(scanner.store(image), 0);
    ASSERT_EQ(scanner.ask(about("2.25.1", images)), 0);
    const auto report = scanner.report(seconds(10));
    ASSERT_TRUE(report);
    EXPECT_EQ(report->command.field, command_field::kEventReportRequest);
    EXPECT_EQ(report->command.sop_class_uid, kStorageCommitmentClass);
    EXPECT_EQ(report->command.sop_instance_uid, kStorageCommitmentInstance);
    EXPECT_EQ(report->command.type_id, kCommitmentSuccessful);
    ASSERT_TRUE(report->data);
    EXPECT_EQ(*report->data, about("2.25.1", images));
    EXPECT_TRUE(receiver.wait_for_log("commitment_reported"));
    EXPECT_EQ(scanner.store(made_slice(3)), 0) << "the association goes on";
    scanner.release();
}

TEST(StorageCommitment, AScannerThatReleasesGetsTheReportOnANewAssociationFromItsScp) {
    const int report_port = free_port();
    ReportListener listener(report_port);
    Receiver receiver(peer_settings(report_port));
    receiver.start();
    const auto images = slices(30);  // the report is longer than the listener's PDUs
    {
        CtScanner scanner(receiver.port());
        for (const Instance& image : images) ASSERT_EQ(scanner.store(image), 0);
        ASSERT_EQ(scanner.ask(about("2.25.2", images)), 0);
        scanner.release();
    }
    const auto report = listener.take(seconds(10));
    ASSERT_TRUE(report);
    EXPECT_EQ(report->request.called_ae_title, "CT1");
    EXPECT_EQ(report->request.calling_ae_title, "CARDIONODE");
    EXPECT_EQ(report->request.roles, (std::vector<RoleSelection>{{std::string(kStorageCommitmentClass), false, true}}))
        << "PS3.7 D.3.3.4: the requestor is the SCP";
    EXPECT_EQ(report->got.command.type_id, kCommitmentSuccessful);
    ASSERT_TRUE(report->got.data);
    EXPECT_EQ(*report->got.data, about("2.25.2", images));
    EXPECT_FALSE(listener.take(seconds(2))) << "reported once";
}

TEST(StorageCommitment, AReceiverThatTakesOnlyTlsReportsOverTls) {
    const TemporaryFolder folder;
    Authority hospital(folder / "pki", "hospital");
    const int scanner_port = free_port(), port = free_port();
    const auto tls_only = [&](int at, const Authority::Issued& own) {
        return "  tls:\n    port: " + std::to_string(at) +
               "\n    only: true\n    certificate: " + own.certificate.string() + "\n    key: " + own.key.string() +
               "\n    ca: " + hospital.certificate().string() + "\n";
    };
    const auto ct = hospital.issue("ct");
    // The scanner's own receiver is one of ours: it says "no such transaction" to the report, which shows that it came.
    Receiver scanner("  ae_title: CT1\n" + tls_only(scanner_port, ct));
    scanner.start({}, scanner_port);
    Receiver receiver(peer_settings(scanner_port) + tls_only(port, hospital.issue("node")));
    receiver.start({}, port);
    TlsPeer peer(port, TlsPeer::with(ct, hospital.certificate()));
    peer.send(associate_request({{kCommitment, std::string(kStorageCommitmentClass), {std::string(kExplicit)}}},
                                "CARDIONODE"));
    ASSERT_EQ(peer.receive_pdu().substr(0, 1), "\2");
    peer.send(message(request_command(command_field::kActionRequest, 1), data_of(about("2.25.9", slices(1)))));
    ASSERT_EQ(response_of(peer.receive_pdu()).first, 0);
    peer.send(text(write_release_request()));
    EXPECT_EQ(peer.receive_pdu().substr(0, 1), "\x06");
    EXPECT_TRUE(receiver.wait_for_log("the peer refused the report (status 0x0115)"));
    EXPECT_TRUE(scanner.wait_for_log("calling=CARDIONODE called=CT1")) << scanner.log();
    EXPECT_THAT(scanner.log(), HasSubstr("security=TLSv1"));
}

TEST(StorageCommitment, WhatIsNotStoredAsAskedIsNamedWithItsReason) {
    Receiver receiver;
    receiver.start();
    CtScanner scanner(receiver.port());
    ASSERT_EQ(scanner.store(made_slice(1)), 0);
    ASSERT_EQ(scanner.store(made_slice(2)), 0);
    CommitmentData asked = about("2.25.3", slices(3));
    asked.referenced[1].sop_class_uid = kSeg;
    ASSERT_EQ(scanner.ask(asked), 0);
    const auto report = scanner.report(seconds(10));
    ASSERT_TRUE(report && report->data);
    EXPECT_EQ(report->command.type_id, kCommitmentFailuresExist);
    EXPECT_EQ(report->data->referenced, (std::vector<SopReference>{asked.referenced[0]}));
    EXPECT_EQ(report->data->failed,
              (std::vector<SopReference>{{kSeg, asked.referenced[1].sop_instance_uid, 0x0119},
                                         {std::string(kCtImage), asked.referenced[2].sop_instance_uid, 0x0112}}));
}

TEST(StorageCommitment, AnInstanceThatWaitsForTheIndexerIsWaitedFor) {
    const int report_port = free_port();
    ReportListener listener(report_port);
    Receiver receiver(peer_settings(report_port));
    receiver.start();
    ASSERT_TRUE(receiver.wait_for_log("recovered"));
    const pid_t indexer = receiver.children().front();
    ASSERT_EQ(::kill(indexer, SIGSTOP), 0);
    CtScanner scanner(receiver.port());
    const auto images = slices(2);
    for (const Instance& image : images) ASSERT_EQ(scanner.store(image), 0);
    CommitmentData asked = about("2.25.4", images);
    asked.referenced.push_back({std::string(kCtImage), "1.2.3.404"});  // this one never came
    ASSERT_EQ(scanner.ask(asked), 0);
    EXPECT_FALSE(scanner.report(seconds(3))) << "neither yes nor no while it cannot be known";
    scanner.release();
    EXPECT_FALSE(listener.take(seconds(1)));
    ASSERT_EQ(::kill(indexer, SIGCONT), 0);
    const auto report = listener.take(seconds(20));
    ASSERT_TRUE(report && report->got.data);
    EXPECT_EQ(report->got.data->referenced, about("2.25.4", images).referenced);
    EXPECT_THAT(report->got.data->failed, SizeIs(1));
}

TEST(StorageCommitment, ARequestOutlivesTheReceiverAndAPeerThatIsAway) {
    const int report_port = free_port();
    Receiver receiver(peer_settings(report_port));
    receiver.start();
    const auto images = slices(3);
    {
        CtScanner scanner(receiver.port());
        for (const Instance& image : images) ASSERT_EQ(scanner.store(image), 0);
        ASSERT_EQ(scanner.ask(about("2.25.5", images)), 0);
        scanner.release();
    }
    ASSERT_TRUE(receiver.wait_for_log("commitment_not_reported")) << "nobody listens";
    receiver.process().kill_hard();
    receiver.start();
    ReportListener listener(report_port);
    const auto report = listener.take(seconds(30));
    ASSERT_TRUE(report && report->got.data);
    EXPECT_EQ(*report->got.data, about("2.25.5", images));
}

TEST(StorageCommitment, AReportThatTheScannerRefusesComesAgain) {
    const int report_port = free_port();
    ReportListener listener(report_port);
    Receiver receiver(peer_settings(report_port));
    receiver.start();
    CtScanner scanner(receiver.port());
    ASSERT_EQ(scanner.store(made_slice(1)), 0);
    ASSERT_EQ(scanner.ask(about("2.25.6", slices(1))), 0);
    ASSERT_TRUE(scanner.report(seconds(10), 0x0110));
    const auto again = listener.take(seconds(30));
    ASSERT_TRUE(again && again->got.data);
    EXPECT_EQ(*again->got.data, about("2.25.6", slices(1)));
}

TEST(StorageCommitment, ATransactionThatIsUsedForOtherInstancesFailsAsADuplicate) {
    Receiver receiver;
    receiver.start();
    CtScanner scanner(receiver.port());
    const auto images = slices(2);
    for (const Instance& image : images) ASSERT_EQ(scanner.store(image), 0);
    ASSERT_EQ(scanner.ask(about("2.25.7", {images[0]})), 0);
    ASSERT_EQ(scanner.ask(about("2.25.7", {images[0]})), 0) << "repeated: no other request";
    const auto first = scanner.report(seconds(10));
    ASSERT_TRUE(first && first->data);
    EXPECT_EQ(first->command.type_id, kCommitmentSuccessful);
    ASSERT_EQ(scanner.ask(about("2.25.7", {images[1]})), 0);
    const auto second = scanner.report(seconds(10));
    ASSERT_TRUE(second && second->data);
    EXPECT_EQ(second->command.type_id, kCommitmentFailuresExist);
    ASSERT_THAT(second->data->failed, SizeIs(1));
    EXPECT_EQ(second->data->failed[0].reason, 0x0131);
}

TEST(StorageCommitment, WrongRequestsGetTheAnswerOfTheStandardAndTheAssociationGoesOn) {
    Receiver receiver;
    receiver.start();
    CtScanner scanner(receiver.port());
    const std::string good = data_of(about("2.25.8", slices(1)));
    const auto action = [](auto change) {
        Command command = request_command(command_field::kActionRequest, 1);
        change(command);
        return command;
    };
    const auto as_it_is = action([](Command&) {});
    EXPECT_EQ(scanner.ask(action([](Command& c) { c.sop_class_uid = "1.2.840.10008.1.20.2"; }), good), 0x0118);
    EXPECT_EQ(scanner.ask(action([](Command& c) { c.sop_instance_uid = "1.2.840.10008.1.20.1.2"; }), good), 0x0112);
    EXPECT_EQ(scanner.ask(action([](Command& c) { c.type_id = 2; }), good), 0x0123);
    EXPECT_EQ(scanner.ask(action([](Command& c) { c.field = 0x0110; }), good), 0x0211) << "N-GET";
    EXPECT_EQ(scanner.ask(request_command(command_field::kEventReportRequest, 3), good), 0x0113);
    EXPECT_EQ(scanner.ask(as_it_is, data_of(about("2.25.8", {}))), 0x0115) << "nothing referenced";
    EXPECT_EQ(scanner.ask(as_it_is, data_of(about("no uid", slices(1)))), 0x0115);
    EXPECT_EQ(scanner.ask(as_it_is, good.substr(0, good.size() - 3)), 0x0115);
    EXPECT_EQ(scanner.ask(as_it_is, std::string(500, '\xff')), 0x0115);
    const DataSet nested = DataSet(kExplicit).nested(20'000);
    EXPECT_EQ(scanner.ask(as_it_is, std::string(nested.bytes.begin(), nested.bytes.end())), 0x0115);
    EXPECT_EQ(scanner.ask(as_it_is, std::string(kMaxCommitmentBytes + 2, '\0')), 0x0213);
    EXPECT_EQ(scanner.ask(request_command(command_field::kEventReportRequest, 1), good), 0x0115)
        << "a report of a transaction that we know nothing of";
    EXPECT_EQ(scanner.ask(as_it_is, good), 0);
    scanner.release();
    EXPECT_THAT(receiver.log(), testing::Not(HasSubstr("association_process_ended")));
}

TEST(StorageCommitment, IsRefusedWhereTheSettingsSaySo) {
    Receiver receiver("  storage_commitment: false\n");
    receiver.start();
    const CtScanner scanner(receiver.port());
    EXPECT_TRUE(scanner.accepted(kImages));
    EXPECT_FALSE(scanner.accepted(kCommitment));
}

namespace {

/// A study whose output was sent to "pacs" and is asked for under the transaction 2.25.77.
std::string ask_for_an_output(Queue queue) {
    ReceivedInstance image;
    image.study_instance_uid = "1.2.3.7";
    image.series_instance_uid = "1.2.3.7.1";
    image.sop_instance_uid = "1.2.3.7.1.1";
    image.sop_class_uid = kCtImage;
    image.transfer_syntax_uid = kExplicit;
    image.sha256 = std::string(64, 'a');
    image.file = "made.dcm";
    image.received_at = system_clock().now();
    const std::string key = queue.add_instances({&image, 1})->at(0).study_key;
    EXPECT_TRUE(queue.force_complete(key).ok());
    const auto claim = queue.claim_study("test", seconds(60));
    const OutputFile output{"SEG", kSeg, "1.2.3.9", "seg.dcm"};
    EXPECT_TRUE(*queue.finish_study(**claim, {"found", "{}"}, {&output, 1}, std::vector<std::string>{"pacs"}));
    EXPECT_TRUE(*queue.output_sent(**queue.claim_output("s", seconds(60), "pacs"), "", true));
    EXPECT_TRUE(queue.ask_commitment("pacs", "PACS1", "2.25.77", seconds(600), {})->has_value());
    return key;
}

}  // namespace

TEST(StorageCommitment, APacsReportsOnANewAssociationAndMayDoNothingElseWhereOnlyPeersMayStore) {
    Receiver receiver(
        "  accept_unknown_peers: false\n  peers: [{ae_title: CT1}]\n"
        "destinations:\n  - {name: pacs, ae_title: PACS1, host: 127.0.0.1, port: 4242}\n");
    receiver.start();
    const std::string key = ask_for_an_output(receiver.queue());
    EXPECT_EQ(receiver.queue().study(key)->value().state, StudyState::Sending);
    {
        RawPeer other(receiver.port());
        other.send(associate_request({{1, std::string(kStorageCommitmentClass), {std::string(kExplicit)}}},
                                     "CARDIONODE", "PACS2"));
        EXPECT_EQ(other.receive_pdu().substr(0, 1), "\x03") << "another AE title is rejected";
    }
    RawPeer pacs(receiver.port());
    AssociateRequest request;
    request.called_ae_title = "CARDIONODE";
    request.calling_ae_title = "PACS1";
    request.max_pdu = 16384;
    request.contexts = {{1, std::string(kCtImage), {std::string(kExplicit)}},
                        {3, std::string(kStorageCommitmentClass), {std::string(kExplicit)}}};
    request.roles = {{std::string(kStorageCommitmentClass), false, true}};
    pacs.send(text(write_associate_request(request)));
    const std::string answer = pacs.receive_pdu();
    ASSERT_EQ(answer.substr(0, 1), "\x02");
    const auto accept = parse_associate_accept(bytes(answer, 6));
    ASSERT_TRUE(accept.ok());
    EXPECT_EQ(accept->roles, request.roles);
    EXPECT_EQ(accept->contexts.at(0).result, ContextResult::UnknownAbstractSyntax) << "no storing";
    ASSERT_EQ(accept->contexts.at(1).result, ContextResult::Accepted);

    const CommitmentData asked = about("2.25.1", slices(1));
    pacs.send(message(request_command(command_field::kActionRequest, 1), data_of(asked)));
    EXPECT_EQ(response_of(pacs.receive_pdu()).first, 0x0124) << "no requests either";
    CommitmentData kept;
    kept.transaction_uid = "2.25.77";
    kept.referenced = {{kSeg, "1.2.3.9"}};
    for (int twice = 0; twice < 2; ++twice) {
        pacs.send(message(request_command(command_field::kEventReportRequest, 1), data_of(kept)));
        EXPECT_EQ(response_of(pacs.receive_pdu()).first, 0);
        EXPECT_EQ(receiver.queue().study(key)->value().state, StudyState::Done);
    }
}

TEST(StorageCommitment, AFailureThatAPacsReportsPutsTheOutputBackIntoTheOutbox) {
    Receiver receiver("destinations:\n  - {name: pacs, ae_title: PACS1, host: 127.0.0.1, port: 4242}\n");
    receiver.start();
    const std::string key = ask_for_an_output(receiver.queue());
    CtScanner pacs(receiver.port(), "PACS1");
    CommitmentData lost;
    lost.transaction_uid = "2.25.77";
    lost.failed = {{kSeg, "1.2.3.9", 0x0112}};
    EXPECT_EQ(pacs.ask(request_command(command_field::kEventReportRequest, 2), data_of(lost)), 0)
        << "taken without the role as well: many PACS do not negotiate it";
    EXPECT_EQ(receiver.queue().outputs_of(key)->at(0).state, "waiting");
}
