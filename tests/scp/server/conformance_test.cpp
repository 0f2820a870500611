// The conformance statement (scp/CONFORMANCE.md) against the running receiver, by real associations.
//
// The test reads the tables that a PACS administrator reads. A row too many, a row too few or another number fails.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "scp/dicom/commitment.h"
#include "scp/dicom/syntaxes.h"
#include "tests/scp/server/conformance_statement.h"
#include "tests/scp/server/receiver.h"

using namespace cardionode;
using namespace cardionode::test;
using ::testing::ElementsAre;

namespace {

const std::string kRelease("\x05\0\0\0\0\x04\0\0\0\0", 10);

/// Opens an association with the receiver, and releases it when it was accepted.
AssociatePdu negotiate(int port, const std::string& request) {
    RawPeer peer(port);
    peer.send(request);
    AssociatePdu answer = read_associate(peer.receive_pdu());
    if (answer.type == 2) {
        peer.send(kRelease);
        EXPECT_EQ(peer.receive_pdu().substr(0, 1), "\x06");
        EXPECT_TRUE(peer.closed_within(std::chrono::seconds(5)));
    }
    return answer;
}

struct Combination {
    std::string abstract_syntax;
    std::string transfer_syntax;
};

/// Proposes each combination in a context of its own, 128 at once, and holds the answers against `result`.
void expect_answers(int port, const std::vector<Combination>& all, int result) {
    constexpr std::size_t kAtOnce = 128;
    for (std::size_t begin = 0; begin < all.size(); begin += kAtOnce) {
        std::vector<Proposal> proposals;
        for (std::size_t i = begin; i < std::min(all.size(), begin + kAtOnce); ++i)
            proposals.push_back(
                {static_cast<int>(2 * (i - begin) + 1), all[i].abstract_syntax, {all[i].transfer_syntax}});
        const AssociatePdu answer = negotiate(port, associate_request(proposals));
        ASSERT_EQ(answer.type, 2);
        ASSERT_EQ(answer.contexts.size(), proposals.size());
        for (const Proposal& proposed : proposals) {
            const ContextOfPdu& context = answer.contexts.at(proposed.id);
            EXPECT_EQ(context.result, result) << proposed.abstract_syntax << " in " << proposed.transfer_syntaxes[0];
            if (result == 0) {
                EXPECT_EQ(context.transfer_syntaxes, proposed.transfer_syntaxes);
            }
        }
    }
}

std::vector<Combination> all_of(const std::vector<std::string>& abstract, const std::vector<std::string>& transfer) {
    std::vector<Combination> all;
    for (const std::string& a : abstract)
        for (const std::string& t : transfer) all.push_back({a, t});
    return all;
}

/// What the statement says of a presentation context that is not accepted, by its reason.
int result_for(const std::string& reason) {
    for (const Row& row : table("Presentation contexts that are not accepted"))
        if (row.at(1) == reason) return std::stoi(row.at(0));
    throw std::runtime_error("the statement has no result \"" + reason + "\"");
}

std::vector<std::string> listed_transfer_syntaxes() { return column(table("Transfer syntaxes"), 1); }

}  // namespace

// --- presentation contexts

TEST(Conformance, EveryListedSopClassIsAcceptedInEveryListedTransferSyntax) {
    Receiver receiver;
    receiver.start();
    std::vector<std::string> classes = column(table("Storage SOP classes"), 1);
    classes.emplace_back(pairs_of("Other SOP classes").at("Verification"));
    expect_answers(receiver.port(), all_of(classes, listed_transfer_syntaxes()), 0);

    const std::string commitment = pairs_of("Other SOP classes").at("Storage Commitment Push Model");
    expect_answers(receiver.port(), all_of({commitment}, column(table("Transfer syntaxes of storage commitment"), 1)),
                   0);
}

TEST(Conformance, WhatIsNotListedIsRefusedAsTheStatementSays) {
    Receiver receiver;
    receiver.start();
    const std::string ct = "1.2.840.10008.5.1.4.1.1.2";
    const std::vector<std::string> other_classes = {
        "1.2.840.10008.5.1.4.1.1.1.2",     // Digital Mammography
        "1.2.840.10008.5.1.4.1.1.77.1.6",  // VL Whole Slide Microscopy
        "1.2.840.10008.5.1.4.1.1.104.2",   // Encapsulated CDA
        "1.2.840.10008.5.1.4.1.2.2.1",     // Study Root Query/Retrieve - FIND
        "1.2.840.10008.5.1.4.1.2.2.2",     // - MOVE
        "1.2.840.10008.5.1.4.31",          // Modality Worklist
        "1.2.840.10008.3.1.2.3.3",         // Modality Performed Procedure Step
        "1.2.840.10008.1.20.2",            // Storage Commitment Pull Model, retired
        "1.2.840.10008.5.1.4.1.1.2.",      // not a UID
        "1.3.12.2.1107.5.9.1",             // private
    };
    expect_answers(receiver.port(), all_of(other_classes, listed_transfer_syntaxes()),
                   result_for("abstract-syntax-not-supported"));
    const std::vector<std::string> other_syntaxes = {
        "1.2.840.10008.1.2.4.52",   // JPEG Extended (Processes 3 and 5), retired
        "1.2.840.10008.1.2.4.94",   // JPIP Referenced
        "1.2.840.10008.1.2.4.100",  // MPEG2
        "1.2.840.10008.1.2.4.201",  // High-Throughput JPEG 2000 Lossless
        "1.2.840.10008.1.2.4.202",  // - RPCL
        "1.2.840.10008.1.2.4.203",  // - lossy
        "1.2.840.10008.1.2.4.110",  // JPEG XL Lossless
        "1.2.840.10008.1.2.6.1",    // RFC 2557 MIME, retired
        "1.2.840.113619.5.2",       // private of a scanner
    };
    expect_answers(receiver.port(), all_of({ct, std::string(kVerificationSopClass)}, other_syntaxes),
                   result_for("transfer-syntaxes-not-supported"));
    std::vector<std::string> not_for_commitment = listed_transfer_syntaxes();
    for (const std::string& listed : column(table("Transfer syntaxes of storage commitment"), 1))
        std::erase(not_for_commitment, listed);
    ASSERT_FALSE(not_for_commitment.empty());
    expect_answers(receiver.port(), all_of({std::string(kStorageCommitmentClass)}, not_for_commitment),
                   result_for("transfer-syntaxes-not-supported"));
}

TEST(Conformance, OfSeveralTransferSyntaxesTheFirstOfThePeerThatIsListedIsTaken) {
    Receiver receiver;
    receiver.start();
    std::vector<std::string> listed = listed_transfer_syntaxes();
    std::vector<std::string> backwards(listed.rbegin(), listed.rend());
    backwards.insert(backwards.begin(), "1.2.840.10008.1.2.4.100");
    const std::string ct = "1.2.840.10008.5.1.4.1.1.2";
    const AssociatePdu answer = negotiate(receiver.port(), associate_request({{1, ct, listed}, {3, ct, backwards}}));
    ASSERT_EQ(answer.contexts.size(), 2U);
    EXPECT_THAT(answer.contexts.at(1).transfer_syntaxes, ElementsAre(listed.front()));
    EXPECT_THAT(answer.contexts.at(3).transfer_syntaxes, ElementsAre(listed.back()));
}

// --- association

TEST(Conformance, TheReceiverNamesItselfAndItsPduAsTheStatementSays) {
    Receiver receiver;
    receiver.start();
    const auto identity = pairs_of("Implementation");
    // Asynchronous operations, SOP class extended negotiation and user identity with a wish for an answer.
    const auto item = [](int type, const std::string& body) {
        return std::string{static_cast<char>(type), 0, 0, static_cast<char>(body.size())} + body;
    };
    const std::string ct = "1.2.840.10008.5.1.4.1.1.2", commitment(kStorageCommitmentClass);
    const auto role = [&](const std::string& uid) {
        return item(0x54, std::string{0, static_cast<char>(uid.size())} + uid + std::string{1, 1});
    };
    std::string request = associate_request({{1, ct, {"1.2.840.10008.1.2"}}, {3, commitment, {"1.2.840.10008.1.2"}}});
    const std::size_t user = request.find(std::string("\x50\0\0", 3) + '\x1b');
    ASSERT_NE(user, std::string::npos);
    const std::string more = item(0x53, std::string{0, 8, 0, 8}) +
                             item(0x56, std::string{0, static_cast<char>(ct.size())} + ct + std::string{2, 0, 0}) +
                             item(0x58, std::string{1, 1, 0, 2, 'm', 'e', 0, 0}) + role(ct) + role(commitment);
    request = request.substr(6, user - 6) + item(0x50, request.substr(user + 4) + more);
    const AssociatePdu answer = negotiate(receiver.port(), pdu(1, request));
    ASSERT_EQ(answer.type, 2);
    std::vector<int> types;
    for (const auto& item_of_answer : answer.user_items) types.push_back(item_of_answer.first);
    EXPECT_THAT(types, ElementsAre(0x51, 0x52, 0x54, 0x55)) << "one role selection, that of storage commitment";
    EXPECT_EQ(answer.user_item(0x52), identity.at("Implementation Class UID"));
    EXPECT_EQ(answer.user_item(0x55), identity.at("Implementation Version Name"));
    EXPECT_EQ(std::to_string(number_at(answer.user_item(0x51), 0, 4)), identity.at("Maximum PDU offered as acceptor"));
    EXPECT_NE(answer.user_item(0x54).find(commitment), std::string::npos);
    EXPECT_EQ(answer.user_item(0x54).substr(2 + commitment.size()), (std::string{1, 1}));
}

TEST(Conformance, AssociationsAreRejectedAsTheStatementSays) {
    std::map<std::string, std::vector<int>> stated;
    for (const Row& row : table("Association rejections"))
        stated[row.at(0)] = {std::stoi(row.at(1)), std::stoi(row.at(2)), std::stoi(row.at(3))};
    Receiver receiver("  max_associations: 1\n  peers: [{ae_title: CT9, addresses: [192.0.2.0/24]}]\n");
    receiver.start();
    const std::vector<Proposal> echo = {{1, std::string(kVerificationSopClass), {"1.2.840.10008.1.2"}}};
    std::map<std::string, std::vector<int>> seen;
    const auto rejected = [&](const std::string& request) { return negotiate(receiver.port(), request).rejection; };
    const std::string context(kApplicationContext);
    seen["protocol version"] = rejected(associate_request(echo, "CARDIONODE", "CT1", context, 2));
    seen["application context"] = rejected(associate_request(echo, "CARDIONODE", "CT1", "1.2.840.10008.3.1.1.2"));
    seen["called AE title"] = rejected(associate_request(echo, "SOMEBODY"));
    seen["calling AE title"] = rejected(associate_request(echo, "CARDIONODE", "CT9"));
    RawPeer first(receiver.port());
    first.send(associate_request(echo));
    ASSERT_EQ(read_associate(first.receive_pdu()).type, 2);
    seen["local limit"] = rejected(associate_request(echo));
    EXPECT_EQ(seen, stated);
}

// --- statuses

TEST(Conformance, TheReceiverAnswersTheStatusesOfTheStatement) {
    const auto stated = pairs_of_codes("Statuses that the receiver answers");
    Receiver receiver;
    receiver.start();
    RawPeer peer(receiver.port());
    peer.send(associate_request({{1, std::string(kVerificationSopClass), {std::string(kImplicitLittle)}},
                                 {3, std::string(kCtImage), {std::string(kExplicit)}}}));
    ASSERT_EQ(read_associate(peer.receive_pdu()).type, 2);
    const auto ask = [&](int context, const std::string& command) {
        peer.send(data_pdu(context, 3, command));
        return response_of(peer.receive_pdu()).first;
    };
    const auto store = [&](const Instance& instance) {
        peer.send(data_pdu(3, 3, store_command(instance)));
        peer.send(data_pdu(3, 2, std::string(instance.dataset.begin(), instance.dataset.end())));
        return response_of(peer.receive_pdu()).first;
    };
    const Instance slice = made_slice(1);
    Instance other_class = slice, other_instance = slice, broken = slice;
    other_class.sop_class_uid = "1.2.840.10008.5.1.4.1.1.4";
    other_instance.sop_instance_uid = "1.2.3.4";
    broken.dataset.pop_back();
    const std::vector<std::pair<int, std::string>> answers = {
        {ask(1, echo_command()), "0000"},
        {ask(3, echo_command()), "0211"},
        {store(slice), "0000"},
        {store(slice), "0000"},                              // a duplicate
        {store(made_slice(1, "1.2.3.1", 2000, 2)), "0000"},  // a conflict
        {store(other_class), "0122"},
        {store(other_instance), "A900"},
        {store(broken), "C000"},
    };
    for (const auto& [status, code] : answers) {
        EXPECT_EQ(status, std::stoi(code, nullptr, 16));
        EXPECT_TRUE(stated.contains(code)) << code;
    }
}
