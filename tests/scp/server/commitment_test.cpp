// Storage commitment over real sockets, with scanners and PACS made of raw bytes: requests of scanners and where their
// reports go, reports of PACS, and everything that a request can get wrong.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <thread>

#include "conf/base/files.h"
#include "scp/dicom/command.h"
#include "scp/dicom/commitment.h"
#include "scp/dicom/pdu.h"
#include "tests/scp/server/receiver.h"
#include "tests/support/free_port.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

namespace {

constexpr int kImages = 1, kCommitment = 3;  // presentation contexts
const std::string kSeg = "1.2.840.10008.5.1.4.1.1.66.4";

std::string text(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const std::byte> bytes(const std::string& text, std::size_t from = 0) {
    return std::as_bytes(std::span(text)).subspan(from);
}

Command request_command(std::uint16_t field, std::uint16_t type, std::uint16_t message_id = 5) {
    Command command;
    command.field = field;
    command.message_id = message_id;
    command.sop_class_uid = kStorageCommitmentClass;
    command.sop_instance_uid = kStorageCommitmentInstance;
    command.type_id = type;
    return command;
}

std::string message(const Command& command, const std::string& data, int context = kCommitment) {
    const auto id = static_cast<std::uint8_t>(context);
    return text(write_data_pdus(id, true, write_request(command), 16384)) +
           (data.empty() ? "" : text(write_data_pdus(id, false, std::as_bytes(std::span(data)), 16384)));
}

std::string data_of(const CommitmentData& data) { return text(write_commitment(Encoding::ExplicitLittle, data)); }

CommitmentData about(const std::string& transaction, const std::vector<Instance>& instances) {
    CommitmentData data;
    data.transaction_uid = transaction;
    for (const Instance& instance : instances)
        data.referenced.push_back({instance.sop_class_uid, instance.sop_instance_uid});
    return data;
}

/// A whole DIMSE message of few PDUs.
struct Got {
    Command command;
    std::optional<CommitmentData> data;
};

std::optional<Got> next_message(const std::function<std::string()>& next_pdu) {
    Got got;
    std::string data;
    bool have_command = false;
    while (true) {
        const std::string pdu = next_pdu();
        if (pdu.size() < 12 || pdu[0] != 4) return std::nullopt;
        const auto values = parse_data_values(bytes(pdu, 6));
        if (!values) return std::nullopt;
        for (const DataValue& value : *values) {
            const std::string part(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
            if (value.command) {
                auto command = parse_command(value.bytes);
                if (!command) return std::nullopt;
                got.command = *command;
                have_command = true;
            } else {
                data += part;
                if (!value.last) continue;
                auto parsed = parse_commitment(Encoding::ExplicitLittle, bytes(data));
                if (parsed) got.data = *parsed;
                return got;
            }
        }
        if (have_command && !got.command.has_data_set) return got;
    }
}

/// A scanner's association with a context for CT images and one for storage commitment.
class CtScanner {
public:
    explicit CtScanner(int port, const std::string& calling = "CT1") : peer_(port) {
        peer_.send(associate_request({{kImages, std::string(kCtImage), {std::string(kExplicit)}},
                                      {kCommitment, std::string(kStorageCommitmentClass), {std::string(kExplicit)}}},
                                     "CARDIONODE", calling));
        const std::string answer = peer_.receive_pdu();
        if (answer.empty() || answer[0] != 2) return;
        const auto accept = parse_associate_accept(bytes(answer, 6));
        for (const AnsweredContext& context : accept->contexts)
            if (context.result == ContextResult::Accepted) accepted_.insert(context.id);
    }
    bool accepted(int context) const { return accepted_.contains(context); }
    int store(const Instance& instance) {
        peer_.send(data_pdu(kImages, 3, store_command(instance)));
        peer_.send(data_pdu(kImages, 2, std::string(instance.dataset.begin(), instance.dataset.end())));
        return response_of(peer_.receive_pdu()).first;
    }
    /// The status of the N-ACTION's response.
    int ask(const CommitmentData& data) {
        return ask(request_command(command_field::kActionRequest, 1), data_of(data));
    }
    int ask(const Command& command, const std::string& data) {
        peer_.send(message(command, data));
        const std::string answer = peer_.receive_pdu();
        EXPECT_EQ(answer.size() > 6 ? answer[0] : 0, 4);
        return response_of(answer).first;
    }
    /// A report on this association, answered with `status`. none: not within `longest`
    std::optional<Got> report(milliseconds longest, std::uint16_t status = 0) {
        const auto got = next_message([&] { return peer_.receive_pdu(longest); });
        if (got) peer_.send(text(write_data_pdus(kCommitment, true, write_response(got->command, status), 16384)));
        return got;
    }
    void release() {
        peer_.send(text(write_release_request()));
        EXPECT_EQ(peer_.receive_pdu().substr(0, 1), "\x06");
    }
    RawPeer& raw() { return peer_; }

private:
    RawPeer peer_;
    std::set<int> accepted_;
};

/// A scanner that listens for reports on new associations.
class ReportListener {
public:
    struct Report {
        AssociateRequest request;
        Got got;
    };
    explicit ReportListener(int port) {
        listener_ = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int on = 1;
        ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
            ::listen(listener_.get(), 8) != 0)
            throw std::runtime_error("cannot listen");
    }
    /// Takes one report and answers it. none: nobody called within `longest`, or no report came
    std::optional<Report> take(milliseconds longest, std::uint16_t status = 0) {
        pollfd item{listener_.get(), POLLIN, 0};
        if (::poll(&item, 1, static_cast<int>(longest.count())) <= 0) return std::nullopt;
        const FileDescriptor peer(::accept(listener_.get(), nullptr, nullptr));
        const auto next = [&] { return read_pdu(peer.get()); };
        const std::string request = next();
        if (request.empty() || request[0] != 1) return std::nullopt;
        auto parsed = parse_associate_request(bytes(request, 6));
        if (!parsed) return std::nullopt;
        Report report{*parsed, {}};
        const std::vector<AnsweredContext> answers = {{parsed->contexts.at(0).id, ContextResult::Accepted,
                                                       parsed->contexts.at(0).abstract_syntax, std::string(kExplicit)}};
        write(peer.get(), write_associate_accept(*parsed, answers, 1024, parsed->roles));
        const auto got = next_message(next);
        if (!got) return std::nullopt;
        report.got = *got;
        write(peer.get(), write_data_pdus(answers[0].id, true, write_response(got->command, status), 16384));
        if (!next().starts_with('\x05')) return std::nullopt;
        write(peer.get(), write_release_response());
        return report;
    }

private:
    static void write(int fd, const std::vector<std::byte>& data) {
        (void)!::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    }
    static std::string read_pdu(int fd) {
        std::string got;
        std::size_t wanted = 6;
        while (got.size() < wanted) {
            pollfd item{fd, POLLIN, 0};
            char buffer[4096];
            if (::poll(&item, 1, 5000) <= 0) return {};
            const ssize_t n = ::recv(fd, buffer, std::min(sizeof buffer, wanted - got.size()), 0);
            if (n <= 0) return {};
            got.append(buffer, static_cast<std::size_t>(n));
            if (got.size() == 6) wanted += parse_pdu_header(bytes(got).first<6>()).length;
        }
        return got;
    }
    FileDescriptor listener_;
};

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
