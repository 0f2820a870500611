// What comes before an association is there: no DICOM, PDUs out of order, broken and refused A-ASSOCIATE-RQs.
//
// The answers: PS3.8 Table 9-10, state Sta2 (AA-1: A-ABORT of the service user for another or an unknown PDU; AA-2: an
// A-ABORT just ends the connection; AE-6: accepted or rejected), 9.3.2 to 9.3.4 and Table 9-21. A request that cannot
// be read gets the A-ABORT of the service provider with reason 6, invalid PDU parameter (Table 9-26).
#include <set>

#include "tests/scp/server/hostile_cases.h"

namespace cardionode::test {
namespace {

const std::string kNoDicom = "A-ABORT 0,0; closed", kUnreadable = "A-ABORT 2,6; closed";
const std::string kApplication = item(0x10, "1.2.840.10008.3.1.1.1");
const std::string kEcho = item(0x30, kVerificationUid), kSyntax = item(0x40, std::string(kImplicit));

/// A context item with any sub-items.
std::string context_of(int id, const std::string& items) {
    return item(0x20, be(static_cast<std::size_t>(id), 1) + be(0, 3) + items);
}
/// A request whose contexts are these.
std::string request_with(const std::string& contexts, const std::string& user = user_information()) {
    return associate_pdu(kApplication + contexts + user);
}

std::vector<HostileCase> no_request() {
    const std::string tls_hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
    const std::string whole = request_with(context_of(1, kEcho + kSyntax));
    return {
        {"HTTP on the DICOM port", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", kNoDicom},
        {"TLS on the plain port", tls_hello + std::string(506, '\7'), kNoDicom},
        {"SSH on the DICOM port", "SSH-2.0-OpenSSH_9.2\r\n", kNoDicom},
        {"P-DATA before an association", data_pdu(3, 3, echo_command()), kNoDicom},
        {"A-RELEASE-RQ before an association", release_pdu(), kNoDicom},
        {"A-RELEASE-RP before an association", pdu(6, std::string(4, '\0')), kNoDicom},
        {"A-ASSOCIATE-AC before an association", pdu(2, std::string(70, '\0')), kNoDicom},
        {"A-ASSOCIATE-RJ before an association", reject_pdu(1, 1, 1), kNoDicom},
        {"A-ABORT before an association", abort_pdu(0, 0), "closed"},
        {"PDU of type 0", pdu(0, "abcd"), kNoDicom},
        {"PDU of type 255", pdu(255, "abcd"), kNoDicom},
        {"request of 4 GB", pdu(1, "").substr(0, 2) + "\xff\xff\xff\xff", kNoDicom},
        {"request of a byte more than 512 KiB", pdu(1, "").substr(0, 2) + be(512 * 1024 + 1, 4), kNoDicom},
        {"nothing, then half-closed", "", "closed", true},
        {"half a PDU header, then half-closed", whole.substr(0, 3), "closed", true},
        {"half a request, then half-closed", whole.substr(0, whole.size() / 2), "closed", true},
        {"request that is a byte short, then half-closed", whole.substr(0, whole.size() - 1), "closed", true},
        {"whole request, then half-closed", whole, "A-ASSOCIATE-AC 1:0; closed", true},
        {"whole session, then half-closed", whole + data_pdu(1, 3, echo_command()) + release_pdu(),
         "A-ASSOCIATE-AC 1:0; C-ECHO-RSP 0000; A-RELEASE-RP; closed", true},
    };
}

std::vector<HostileCase> unreadable_requests() {
    const std::string good = context_of(1, kEcho + kSyntax);
    std::string three_hundred;
    for (int i = 0; i < 300; ++i) three_hundred += context_of((2 * i + 1) & 0xff, kEcho + kSyntax);
    std::string syntaxes;
    for (int i = 0; i < 257; ++i) syntaxes += item(0x40, "1.2.3." + std::to_string(i));
    const std::string long_uid(80, '1');
    const auto user = [](const std::string& more) { return user_information(16384, more); };
    return {
        {"empty request", pdu(1, ""), kUnreadable},
        {"request of zeros", pdu(1, std::string(200, '\0')), kUnreadable},
        {"request without its last fixed byte", pdu(1, associate_pdu("").substr(6, 67)), kUnreadable},
        {"item header that is cut off",
         request_with(good).substr(0, 2) + be(request_with(good).size() - 6 + 3, 4) + request_with(good).substr(6) +
             std::string("\x20\0\0", 3),
         kUnreadable},
        {"item past the end of the request", request_with(good + std::string("\x20\0\xff\xff\1\0\0\0", 8), ""),
         kUnreadable},
        {"no presentation context", request_with(""), kUnreadable},
        {"300 presentation contexts", request_with(three_hundred), kUnreadable},
        {"two contexts of one number", request_with(good + good), kUnreadable},
        {"context with an even number", request_with(context_of(2, kEcho + kSyntax)), kUnreadable},
        {"context number 0", request_with(context_of(0, kEcho + kSyntax)), kUnreadable},
        {"context item of one byte", request_with(item(0x20, "\1")), kUnreadable},
        {"context without abstract syntax", request_with(context_of(1, kSyntax)), kUnreadable},
        {"context with two abstract syntaxes", request_with(context_of(1, kEcho + kEcho + kSyntax)), kUnreadable},
        {"context without transfer syntax", request_with(context_of(1, kEcho)), kUnreadable},
        {"context with 257 transfer syntaxes", request_with(context_of(1, kEcho + syntaxes)), kUnreadable},
        {"abstract syntax of 80 digits", request_with(context_of(1, item(0x30, long_uid) + kSyntax)), kUnreadable},
        {"transfer syntax of 80 digits", request_with(context_of(1, kEcho + item(0x40, long_uid))), kUnreadable},
        {"sub-item past the end of its context", request_with(context_of(1, kEcho + std::string("\x40\0\0\x7f", 4))),
         kUnreadable},
        {"application context of 80 digits", associate_pdu(item(0x10, long_uid) + good), kUnreadable},
        {"two application contexts", associate_pdu(kApplication + kApplication + good), kUnreadable},
        {"two user information items", request_with(good, user("") + user("")), kUnreadable},
        {"maximum length of three bytes", request_with(good, item(0x50, item(0x51, "abc"))), kUnreadable},
        {"user sub-item past the end",
         request_with(good, item(0x50, std::string("\x52\0\0\x10"
                                                   "1.2",
                                                   7))),
         kUnreadable},
        {"role selection that is cut off", request_with(good, user(item(0x54, be(20, 2) + "1.2"))), kUnreadable},
    };
}

std::vector<HostileCase> readable_requests() {
    const std::string good = context_of(1, kEcho + kSyntax);
    const std::string ended = "; A-RELEASE-RP; closed";
    std::string all_contexts, all_accepted = "A-ASSOCIATE-AC";
    for (int id = 1; id < 256; id += 2) {
        all_contexts += context_of(id, kEcho + kSyntax);
        all_accepted += " " + std::to_string(id) + ":0";
    }
    const auto request = [&](const std::string& called, const std::string& calling, int version = 1) {
        return associate_pdu(kApplication + good + user_information(), called, calling, version);
    };
    return {
        {"protocol version 2", request("CARDIONODE", "CT1", 2), "A-ASSOCIATE-RJ 1,2,2; closed"},
        {"protocol version 0", request("CARDIONODE", "CT1", 0), "A-ASSOCIATE-RJ 1,2,2; closed"},
        {"another application context", associate_pdu(item(0x10, "1.2.3") + good), "A-ASSOCIATE-RJ 1,1,2; closed"},
        {"no application context", associate_pdu(good + user_information()), "A-ASSOCIATE-RJ 1,1,2; closed"},
        {"another called AE title", request("OTHER", "CT1"), "A-ASSOCIATE-RJ 1,1,7; closed"},
        {"no called AE title", request("", "CT1"), "A-ASSOCIATE-RJ 1,1,7; closed"},
        {"no calling AE title", request("CARDIONODE", ""), "A-ASSOCIATE-RJ 1,1,3; closed"},
        {"calling AE title with a backslash", request("CARDIONODE", "CT\\1"), "A-ASSOCIATE-RJ 1,1,3; closed"},
        {"calling AE title with control characters", request("CARDIONODE", "CT\n1"), "A-ASSOCIATE-RJ 1,1,3; closed"},
        {"unknown abstract syntax", request_with(context_of(1, item(0x30, "1.2.3") + kSyntax)) + release_pdu(),
         "A-ASSOCIATE-AC 1:3" + ended},
        {"abstract syntax that is no UID", request_with(context_of(1, item(0x30, "../../x") + kSyntax)) + release_pdu(),
         "A-ASSOCIATE-AC 1:3" + ended},
        {"unknown transfer syntax", request_with(context_of(1, kEcho + item(0x40, "1.2.3"))) + release_pdu(),
         "A-ASSOCIATE-AC 1:4" + ended},
        {"items of unknown types",
         request_with(item(0x77, "abc") + context_of(1, item(0x99, "") + kEcho + kSyntax),
                      user_information(16384, item(0x5f, "xyz"))) +
             release_pdu(),
         "A-ASSOCIATE-AC 1:0" + ended},
        {"all 128 presentation contexts", request_with(all_contexts) + release_pdu(), all_accepted + ended},
        {"maximum length of one byte",
         request_with(good, user_information(1)) + data_pdu(1, 3, echo_command()) + release_pdu(),
         "A-ASSOCIATE-AC 1:0; C-ECHO-RSP 0000" + ended},
    };
}

}  // namespace

std::vector<HostileCase> association_cases() {
    std::vector<HostileCase> all = no_request();
    for (const auto& more : {unreadable_requests(), readable_requests()})
        all.insert(all.end(), more.begin(), more.end());
    return all;
}

TEST(Hostile, EveryBrokenAssociationHasTheAnswerOfTheStandardAndTheNextClientIsServed) {
    Receiver receiver;
    receiver.start();
    ASSERT_TRUE(receiver.wait_for_log("recovered"));
    const auto helpers = receiver.children();
    for (const HostileCase& c : association_cases()) {
        SCOPED_TRACE(c.name);
        RawPeer peer(receiver.port());
        peer.send(c.bytes);
        if (c.half_close) peer.close_half();
        EXPECT_EQ(answers_of(peer), c.answer);
        expect_next_client_served(receiver.port());
    }
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] { return receiver.children() == helpers; }));
    EXPECT_EQ(receiver.log().find("process_ended"), std::string::npos) << "a process crashed";
    EXPECT_EQ(receiver.log().find("association_failed"), std::string::npos);
}

TEST(Hostile, TheTablesHaveFortyCasesAndMore) {
    std::set<std::string> names;
    for (const auto& cases : {association_cases(), message_cases()})
        for (const HostileCase& c : cases) EXPECT_TRUE(names.insert(c.name).second) << c.name << " stands there twice";
    EXPECT_GE(names.size(), 40U);
    std::cout << names.size() << " cases\n";
}

TEST(Refusals, FollowThePeersOfTheSettings) {
    Receiver receiver(
        "  accept_unknown_peers: false\n  peers: [{ae_title: CT1, addresses: [127.0.0.0/8]}, {ae_title: CT2, "
        "addresses: [10.0.0.0/8]}]\n");
    receiver.start();
    const auto answer = [&](const std::string& calling) {
        RawPeer peer(receiver.port());
        peer.send(associate_request({{1, kVerificationUid, {std::string(kImplicit)}}}, "CARDIONODE", calling) +
                  release_pdu());
        return answers_of(peer);
    };
    EXPECT_EQ(answer("CT1"), "A-ASSOCIATE-AC 1:0; A-RELEASE-RP; closed");
    EXPECT_EQ(answer("STRANGER"), "A-ASSOCIATE-RJ 1,1,3; closed");
    EXPECT_EQ(answer("CT2"), "A-ASSOCIATE-RJ 1,1,3; closed");
}

}  // namespace cardionode::test
