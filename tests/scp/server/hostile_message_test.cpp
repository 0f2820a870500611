// What comes on an open association: wrong PDUs, values, command sets, data sets, and all of it in the wrong order.
//
// The answers: PS3.8 Table 9-10, state Sta6 (AA-8: A-ABORT of the service provider; reasons of Table 9-26: 1 unknown
// PDU, 2 unexpected PDU, 5 unexpected parameter, 6 invalid parameter), PS3.7 Annex C and PS3.4 B.2.3 for statuses.
#include "tests/scp/server/hostile_cases.h"

namespace cardionode::test {
namespace {

const std::string kUnknownPdu = "A-ABORT 2,1; closed", kUnexpectedPdu = "A-ABORT 2,2; closed",
                  kUnexpected = "A-ABORT 2,5; closed", kInvalid = "A-ABORT 2,6; closed";
const std::string kStore = store_command(made_slice(1));

std::string text(const std::vector<std::uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }
std::string two(int value) { return le(static_cast<std::size_t>(value), 2); }

std::vector<HostileCase> wrong_pdus() {
    const auto value = [](std::size_t length, const std::string& rest) { return pdu(4, be(length, 4) + rest); };
    return {
        {"PDU of type 33H", pdu(0x33, "abcd"), kUnknownPdu},
        {"PDU of type 0 when open", pdu(0, "abcd"), kUnknownPdu},
        {"PDU of type 8", pdu(8, "abcd"), kUnknownPdu},
        {"HTTP when open", "GET / HTTP/1.1\r\n\r\n", kUnknownPdu},
        {"TLS when open", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), kUnknownPdu},
        {"second A-ASSOCIATE-RQ", associate_request(kHostileContexts), kUnexpectedPdu},
        {"A-ASSOCIATE-AC of the requestor", pdu(2, std::string(70, '\0')), kUnexpectedPdu},
        {"A-ASSOCIATE-RJ of the requestor", reject_pdu(1, 1, 1), kUnexpectedPdu},
        {"A-RELEASE-RP that nobody asked for", pdu(6, std::string(4, '\0')), kUnexpectedPdu},
        {"P-DATA longer than agreed", pdu(4, std::string(20'000, 'x')), kInvalid},
        {"P-DATA of 4 GB", std::string("\4\0\xff\xff\xff\xff", 6), kInvalid},
        {"P-DATA without a value", pdu(4, ""), kInvalid},
        {"value whose header is cut off", pdu(4, "abcde"), kInvalid},
        {"value past the end of its PDU", value(256, std::string("\1\3\0", 3)), kInvalid},
        {"value of 4 GB", value(0xffffffff, "\1\3"), kInvalid},
        {"value of length 0", value(0, "\1\3"), kInvalid},
        {"value of length 1", value(1, "\1\3"), kInvalid},
        {"context number 0 in a value", data_pdu(0, 3, echo_command()), kInvalid},
        {"context that was never proposed", data_pdu(11, 3, echo_command()), kInvalid},
        {"context that was not accepted", data_pdu(9, 3, echo_command()), kInvalid},
        {"A-RELEASE-RQ and bytes behind it", release_pdu() + "what else?", "A-RELEASE-RP; closed"},
        {"A-ABORT and bytes behind it", abort_pdu(0, 0) + data_pdu(3, 3, echo_command()), "closed"},
        {"half a P-DATA, then half-closed", data_pdu(3, 3, echo_command()).substr(0, 20), "closed", true},
    };
}

std::vector<HostileCase> wrong_order() {
    const std::string part = echo_command().substr(0, 20);
    std::string empty;
    for (int i = 0; i < 1'001; ++i) empty += data_pdu(1, 1, "");
    const std::string data = text(made_slice(1).dataset);
    return {
        {"data set before a command", data_pdu(1, 2, "abcdefgh"), kUnexpected},
        {"command where its data set is due", data_pdu(1, 3, kStore) + data_pdu(1, 3, kStore), kUnexpected},
        {"C-ECHO where a data set is due", data_pdu(1, 3, kStore) + data_pdu(3, 3, echo_command()), kUnexpected},
        {"data set in another context", data_pdu(1, 3, kStore) + data_pdu(3, 2, "abcdefgh"), kInvalid},
        {"command in two contexts", data_pdu(3, 1, part) + data_pdu(1, 3, echo_command().substr(20)), kInvalid},
        {"data set inside a command", data_pdu(1, 1, part) + data_pdu(1, 2, "abcdefgh"), kUnexpected},
        {"release where a data set is due", data_pdu(1, 3, kStore) + release_pdu(), kUnexpectedPdu},
        {"release inside a command", data_pdu(1, 1, part) + release_pdu(), kUnexpectedPdu},
        {"release inside a data set", data_pdu(1, 3, kStore) + data_pdu(1, 0, data.substr(0, 50)) + release_pdu(),
         kUnexpectedPdu},
        {"data set that goes on after its last fragment",
         data_pdu(1, 3, kStore) + data_set_pdus(1, data) + data_pdu(1, 2, "more"), "C-STORE-RSP 0000; " + kUnexpected},
        {"a thousand empty fragments and one more", empty, kInvalid},
        {"command set without its data set, then half-closed", data_pdu(1, 3, kStore), "closed", true},
        {"half a data set, then half-closed", data_pdu(1, 3, kStore) + data_pdu(1, 0, data.substr(0, 50)), "closed",
         true},
        {"half a data set, then A-ABORT", data_pdu(1, 3, kStore) + data_pdu(1, 0, data.substr(0, 50)) + abort_pdu(0, 0),
         "closed"},
        {"C-CANCEL of nothing", data_pdu(1, 3, request_command(0x0fff, std::string(kCtImage))) + release_pdu(),
         "A-RELEASE-RP; closed"},
        {"C-CANCEL with a data set", data_pdu(1, 3, request_command(0x0fff, std::string(kCtImage), 1)), kUnexpected},
        {"response that nobody waits for",
         data_pdu(1, 3, request_command(0x8001, std::string(kCtImage), 0x0101, 1, element(0x0120, two(1)))) +
             release_pdu(),
         "A-RELEASE-RP; closed"},
    };
}

std::vector<HostileCase> wrong_commands() {
    const std::string field = element(0x0100, two(0x30)), id = element(0x0110, two(1)),
                      none = element(0x0800, two(0x0101));
    const auto echo = [](const std::string& elements) { return data_pdu(3, 3, command_set(elements)); };
    return {
        {"command that is none", data_pdu(1, 3, "no command at all"), kInvalid},
        {"empty command", data_pdu(1, 3, ""), kInvalid},
        {"command of more than 16 KiB",
         data_pdu(1, 1, std::string(9'000, '\0')) + data_pdu(1, 1, std::string(9'000, '\0')), kInvalid},
        {"command without Command Field", echo(id + none), kInvalid},
        {"command without Message ID", echo(field + none), kInvalid},
        {"command without Command Data Set Type", echo(field + id), kInvalid},
        {"Command Field of four bytes", echo(element(0x0100, le(0x30, 4)) + id + none), kInvalid},
        {"Command Field twice", echo(field + field + id + none), kInvalid},
        {"command element past its end", echo(field + id + none + two(0) + two(0x0901) + le(200, 4)), kInvalid},
        {"command element of 4 GB", echo(field + id + none + two(0) + two(0x0901) + le(0xffffffff, 4)), kInvalid},
        {"command element that is cut off", echo(field + id + none + "abc"), kInvalid},
        {"command element of another group", echo(field + id + none + two(8) + two(0x16) + le(0, 4)), kInvalid},
        {"UID of 80 digits in a command", echo(element(0x0002, std::string(80, '1')) + field + id + none), kInvalid},
        {"response without the message that it responds to",
         data_pdu(1, 3, request_command(0x8001, std::string(kCtImage))), kInvalid},
    };
}

/// Each is refused with a status, and the association goes on.
std::vector<HostileCase> wrong_services() {
    const auto ended = [](const std::string& answer) { return answer + "; A-RELEASE-RP; closed"; };
    const auto action = [](const std::string& sop_class, const std::string& instance, int type, int data_set) {
        const std::string elements = element(0x0003, sop_class) + element(0x0100, two(0x0130)) +
                                     element(0x0110, two(1)) + element(0x0800, two(data_set)) +
                                     element(0x1001, instance) + element(0x1008, two(type));
        return data_pdu(5, 3, command_set(elements));
    };
    const std::string ct(kCtImage), end = release_pdu();
    const Instance slice = made_slice(1);
    return {
        {"C-STORE without a data set", data_pdu(1, 3, store_command(slice, 1, 0x0101)) + end,
         ended("C-STORE-RSP C000")},
        {"C-STORE in the context of Verification", data_pdu(3, 3, request_command(1, kVerificationUid)) + end,
         ended("C-STORE-RSP 0211")},
        {"C-ECHO in the context of CT", data_pdu(1, 3, echo_command()) + end, ended("C-ECHO-RSP 0211")},
        {"C-FIND", data_pdu(1, 3, request_command(0x0020, ct)) + end, ended("8020-RSP 0211")},
        {"C-MOVE with a data set", data_pdu(1, 3, request_command(0x0021, ct, 1)) + data_pdu(1, 2, "abcd") + end,
         ended("8021-RSP 0211")},
        {"unknown Command Field", data_pdu(1, 3, request_command(0x7777, ct)) + end, ended("F777-RSP 0211")},
        {"N-CREATE in the context of commitment", data_pdu(5, 3, request_command(0x0140, kCommitmentUid)) + end,
         ended("8140-RSP 0211")},
        {"N-ACTION of another class", action(ct, kCommitmentInstanceUid, 1, 0x0101) + end, ended("N-ACTION-RSP 0118")},
        {"N-ACTION on another instance", action(kCommitmentUid, "1.2.3", 1, 0x0101) + end, ended("N-ACTION-RSP 0112")},
        {"N-ACTION of another type", action(kCommitmentUid, kCommitmentInstanceUid, 7, 0x0101) + end,
         ended("N-ACTION-RSP 0123")},
        {"N-ACTION without a data set", action(kCommitmentUid, kCommitmentInstanceUid, 1, 0x0101) + end,
         ended("N-ACTION-RSP 0115")},
        {"N-ACTION with a data set that is none",
         action(kCommitmentUid, kCommitmentInstanceUid, 1, 1) + data_pdu(5, 2, "no data set at all") + end,
         ended("N-ACTION-RSP 0115")},
    };
}

/// Each is answered with a status; nothing of it is kept.
std::vector<HostileCase> wrong_data_sets() {
    const std::string ct(kCtImage), uid = "1.2.3.1.9.7";
    const auto store = [&](const std::string& data, const std::string& command_uid, int context = 1) {
        Instance instance = made_slice(7);
        instance.sop_instance_uid = command_uid;
        return data_pdu(context, 3, store_command(instance)) + data_set_pdus(context, data) + release_pdu();
    };
    const auto row = [&](const std::string& name, const DataSet& data, const std::string& status) {
        return HostileCase{name, store(text(data.bytes), uid), "C-STORE-RSP " + status + "; A-RELEASE-RP; closed"};
    };
    const auto identity = [&] { return DataSet(kExplicit).identity(uid); };
    const auto without = [&](const std::string& instance, std::string_view sop_class = kCtImage) {
        return DataSet(kExplicit).identity(instance, "1.2.3.1", "1.2.3.1.1", sop_class).pixels(100);
    };
    const std::string whole = text(identity().pixels(1'000).bytes);
    DataSet longer = identity().pixels(100), shorter = identity();
    for (int i = 0; i < 100; ++i) longer.number(0x00, 1);
    shorter.header(0x7fe00010, "OW", 2'000).number(0, 8);
    DataSet huge = identity(), undefined = identity(), open = identity(), twice = identity(), group2 = identity(),
            fragments = identity(), no_vr = identity(), trailing = identity().pixels(100);
    huge.header(0x7fe00010, "OW", 0xfffffff0).number(0, 8);
    undefined.header(0x00400280, "UT", kUndefinedLength).number(0, 8);
    open.header(0x00081140, "SQ", kUndefinedLength).item();
    twice.element(0x00080018, "UI", "1.2.3");
    group2.element(0x00020010, "UI", "1.2");
    fragments.header(0x7fe00010, "OB", kUndefinedLength).item(0).item(4).number(0, 4).end_sequence();
    no_vr.header(0x00200013, "?!", 2).number(0, 2);
    trailing.number(0, 4);
    DataSet zeros = identity().header(0x7fe00010, "OW", 3'000'000);
    zeros.bytes.resize(zeros.bytes.size() + 3'000'000);
    const std::string bomb = text(deflated(zeros.bytes));
    std::string flood = data_pdu(1, 3, store_command(made_slice(7)));
    for (int i = 0; i < 150; ++i) flood += data_pdu(1, 0, std::string(16'000, '\0'));
    const std::string stored_not = "; A-RELEASE-RP; closed";
    return {
        {"empty data set", store("", uid), "C-STORE-RSP C000" + stored_not},
        {"data set that is none", store("this is no data set", uid), "C-STORE-RSP C000" + stored_not},
        {"data set that is a byte short", store(whole.substr(0, whole.size() - 1), uid),
         "C-STORE-RSP C000" + stored_not},
        row("data set longer than its pixel data say", longer, "C000"),
        row("data set shorter than its pixel data say", shorter, "C000"),
        row("four bytes behind the last element", trailing, "C000"),
        row("element of 4 GB", huge, "C000"),
        row("undefined length where none may be", undefined, "C000"),
        row("sequence that does not end", open, "C000"),
        row("end of a sequence that did not begin", identity().end_sequence(), "C000"),
        row("65 sequences in each other", identity().nested(65), "C000"),
        row("20,000 sequences in each other", identity().nested(20'000), "C000"),
        row("SOP Instance UID twice", twice, "C000"),
        row("file meta information in a data set", group2, "C000"),
        row("fragments in an uncompressed transfer syntax", fragments, "C000"),
        row("value representation that is none", no_vr, "C000"),
        row("Study Instance UID of 200 bytes", DataSet(kExplicit).identity(uid, std::string(200, '1')), "C000"),
        row("SOP Instance UID of another instance", without("1.2.3.1.9.8"), "A900"),
        row("SOP Class UID of another class", without(uid, "1.2.840.10008.5.1.4.1.1.4"), "A900"),
        row("empty SOP Instance UID", without(""), "A900"),
        row("SOP Instance UID that is a path", without("../../../etc/passwd"), "A900"),
        row("SOP Instance UID of 65 digits", without(std::string(65, '1')), "A900"),
        row("no UID at all", DataSet(kExplicit).pixels(100), "A900"),
        {"command of another class than its context",
         data_pdu(1, 3, request_command(1, "1.2.840.10008.5.1.4.1.1.4", 1)) + data_pdu(1, 2, whole) + release_pdu(),
         "C-STORE-RSP 0122" + stored_not},
        {"deflated data that are none", store("this was never deflated", uid, 7), "C-STORE-RSP C000" + stored_not},
        {"deflated data that are cut off", store(bomb.substr(0, bomb.size() / 2), uid, 7),
         "C-STORE-RSP C000" + stored_not},
        {"deflated data that grow beyond the limit", store(bomb, uid, 7), "C-STORE-RSP C000" + stored_not},
        row("data set beyond the limit", identity().pixels(1'100'000), "C000"),
        {"data set that does not end", flood, kInvalid},
    };
}

}  // namespace

std::vector<HostileCase> message_cases() {
    std::vector<HostileCase> all;
    for (const auto& more : {wrong_pdus(), wrong_order(), wrong_commands(), wrong_services(), wrong_data_sets()})
        all.insert(all.end(), more.begin(), more.end());
    return all;
}

TEST(Hostile, EveryBrokenMessageHasTheAnswerOfTheStandardAndTheNextClientIsServed) {
    Receiver receiver("  max_pdu_bytes: 16384\n  max_object_mib: 1\n");
    receiver.start();
    ASSERT_TRUE(receiver.wait_for_log("recovered"));
    const auto helpers = receiver.children();
    std::size_t stored = 0;
    for (const HostileCase& c : message_cases()) {
        SCOPED_TRACE(c.name);
        RawPeer peer(receiver.port());
        peer.send(associate_request(kHostileContexts));
        ASSERT_EQ(peer.receive_pdu().substr(0, 1), "\2");
        peer.send(c.bytes);
        if (c.half_close) peer.close_half();
        EXPECT_EQ(answers_of(peer), c.answer);
        stored += c.answer.find("C-STORE-RSP 0000") != std::string::npos ? 1 : 0;
        expect_next_client_served(receiver.port());
    }
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] { return receiver.children() == helpers; }));
    EXPECT_EQ(receiver.log().find("process_ended"), std::string::npos) << "a process crashed";
    EXPECT_EQ(receiver.log().find("association_failed"), std::string::npos);
    ASSERT_TRUE(receiver.wait_for_stored(stored));
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] { return receiver.files_in("ingest") == 0; }));
    EXPECT_EQ(receiver.stored().size(), stored) << "what was refused is not there";
    EXPECT_EQ(receiver.files_in("instances"), stored);
}

}  // namespace cardionode::test
