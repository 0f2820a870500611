// The conformance statement (scp/CONFORMANCE.md) against the running receiver, the code and the settings.
//
// The test reads the tables that a PACS administrator reads. A row too many, a row too few or another number fails.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>

#include "conf/base/node_settings.h"
#include "pipeline/send/status.h"
#include "scp/dicom/commitment.h"
#include "scp/dicom/syntaxes.h"
#include "tests/scp/server/receiver.h"

using namespace cardionode;
using namespace cardionode::test;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAreArray;
namespace fs = std::filesystem;

namespace {

using Row = std::vector<std::string>;
using Table = std::vector<Row>;

std::string text_of_file(const std::string& path) {
    std::ifstream in(std::string(CARDIONODE_SOURCE_DIR) + "/" + path);
    if (!in) throw std::runtime_error("cannot read " + path);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

std::string trimmed(std::string text) {
    std::erase(text, '`');
    text.erase(0, std::min(text.find_first_not_of(" \r"), text.size()));
    while (!text.empty() && (text.back() == ' ' || text.back() == '\r')) text.pop_back();
    return text;
}

Row cells_of(const std::string& line) {
    Row cells;
    std::istringstream parts(line.substr(1));
    for (std::string cell; std::getline(parts, cell, '|');) cells.push_back(trimmed(cell));
    return cells;
}

/// The rows of the first table below "Table NAME", without its head. Throws: there is none.
Table table(const std::string& name) {
    std::istringstream lines(text_of_file("scp/CONFORMANCE.md"));
    Table rows;
    bool here = false;
    for (std::string line; std::getline(lines, line);) {
        if (!here) here = line == "**Table " + name + "**";
        else if (line.starts_with("|")) rows.push_back(cells_of(line));
        else if (!rows.empty()) break;
    }
    if (rows.size() < 3) throw std::runtime_error("scp/CONFORMANCE.md has no table \"" + name + "\"");
    rows.erase(rows.begin(), rows.begin() + 2);
    return rows;
}

std::map<std::string, std::string> pairs_of(const std::string& name) {
    std::map<std::string, std::string> pairs;
    for (const Row& row : table(name))
        if (!pairs.emplace(row.at(0), row.at(1)).second) throw std::runtime_error(row[0] + " stands twice in " + name);
    return pairs;
}

std::vector<std::string> column(const Table& rows, std::size_t at) {
    std::vector<std::string> values;
    for (const Row& row : rows) values.push_back(row.at(at));
    return values;
}

// --- the answer to an association request, read without the code under test

std::size_t number(const std::string& bytes, std::size_t at, std::size_t width) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < width; ++i) value = value << 8 | static_cast<unsigned char>(bytes.at(at + i));
    return value;
}

/// Type and body of each item between `begin` and `end`.
std::vector<std::pair<int, std::string>> items_in(const std::string& bytes, std::size_t begin) {
    std::vector<std::pair<int, std::string>> items;
    while (begin < bytes.size()) {
        const std::size_t size = number(bytes, begin + 2, 2);
        items.emplace_back(static_cast<int>(number(bytes, begin, 1)), bytes.substr(begin + 4, size));
        begin += 4 + size;
    }
    return items;
}

struct ContextAnswer {
    int result = -1;
    std::string transfer_syntax;
};
struct Answer {
    int type = 0;                ///< of the PDU; 0: none came
    std::vector<int> rejection;  ///< result, source, reason of an A-ASSOCIATE-RJ
    std::map<int, ContextAnswer> contexts;
    std::vector<std::pair<int, std::string>> user_items;
};

Answer answer_to(const std::string& bytes) {
    Answer answer;
    if (bytes.size() < 10) return answer;
    answer.type = bytes[0];
    if (answer.type == 3) answer.rejection = {bytes[7], bytes[8], bytes[9]};
    if (answer.type != 2) return answer;
    for (const auto& [type, body] : items_in(bytes, 6 + 68)) {
        if (type == 0x50) answer.user_items = items_in(body, 0);
        if (type != 0x21) continue;
        ContextAnswer& context = answer.contexts[static_cast<int>(number(body, 0, 1))];
        context.result = body.at(2);
        for (const auto& [inner, syntax] : items_in(body, 4))
            if (inner == 0x40) context.transfer_syntax = syntax;
    }
    return answer;
}

const std::string kRelease("\x05\0\0\0\0\x04\0\0\0\0", 10);

/// Opens an association with the receiver, and releases it when it was accepted.
Answer negotiate(int port, const std::string& request) {
    RawPeer peer(port);
    peer.send(request);
    Answer answer = answer_to(peer.receive_pdu());
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
        const Answer answer = negotiate(port, associate_request(proposals));
        ASSERT_EQ(answer.type, 2);
        ASSERT_EQ(answer.contexts.size(), proposals.size());
        for (const Proposal& proposed : proposals) {
            const ContextAnswer& context = answer.contexts.at(proposed.id);
            EXPECT_EQ(context.result, result) << proposed.abstract_syntax << " in " << proposed.transfer_syntaxes[0];
            if (result == 0) EXPECT_EQ(context.transfer_syntax, proposed.transfer_syntaxes[0]);
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

/// Settings of node.yaml as "scp.tls.port" -> "0"; what stands in comments as an example of `destinations` as well.
std::map<std::string, std::string> settings_of_node_yaml() {
    std::map<std::string, std::string> settings;
    std::istringstream lines(text_of_file("conf/node.yaml"));
    std::vector<std::pair<std::size_t, std::string>> open;
    const std::regex form(R"(^( *)([a-z_0-9]+):(.*)$)");
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("#  - ")) line.replace(0, 5, "     ");
        else if (line.starts_with("#    ")) line[0] = ' ';
        std::smatch found;
        if (!std::regex_match(line, found, form)) continue;
        const auto depth = static_cast<std::size_t>(found.length(1));
        while (!open.empty() && open.back().first >= depth) open.pop_back();
        std::string name;
        for (const auto& section : open) name += section.second + ".";
        open.emplace_back(depth, found[2]);
        std::string value = found[3];
        value = value.substr(0, value.find(" #"));
        settings[name + found[2].str()] = trimmed(value);
    }
    return settings;
}

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
    const Answer answer = negotiate(receiver.port(), associate_request({{1, ct, listed}, {3, ct, backwards}}));
    ASSERT_EQ(answer.contexts.size(), 2U);
    EXPECT_EQ(answer.contexts.at(1).transfer_syntax, listed.front());
    EXPECT_EQ(answer.contexts.at(3).transfer_syntax, listed.back());
}

TEST(Conformance, TheTablesListAllThatTheCodeAcceptsUnderItsNames) {
    Table classes, syntaxes;
    for (const SopClass& c : storage_classes()) classes.push_back({std::string(c.name), std::string(c.uid)});
    for (const TransferSyntax& s : transfer_syntaxes()) syntaxes.push_back({std::string(s.name), std::string(s.uid)});
    const auto two = [](const Table& rows) {
        Table cut;
        for (const Row& row : rows) cut.push_back({row.at(0), row.at(1)});
        return cut;
    };
    EXPECT_THAT(two(table("Storage SOP classes")), UnorderedElementsAreArray(classes));
    EXPECT_THAT(two(table("Transfer syntaxes")), UnorderedElementsAreArray(syntaxes));
    EXPECT_EQ(
        pairs_of("Other SOP classes"),
        (std::map<std::string, std::string>{{"Verification", std::string(kVerificationSopClass)},
                                            {"Storage Commitment Push Model", std::string(kStorageCommitmentClass)}}));
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
    const Answer answer = negotiate(receiver.port(), pdu(1, request));
    ASSERT_EQ(answer.type, 2);
    std::vector<int> types;
    std::map<int, std::string> items;
    for (const auto& [type, body] : answer.user_items) {
        types.push_back(type);
        items[type] = body;
    }
    EXPECT_THAT(types, ElementsAre(0x51, 0x52, 0x54, 0x55)) << "one role selection, that of storage commitment";
    EXPECT_EQ(items[0x52], identity.at("Implementation Class UID"));
    EXPECT_EQ(items[0x55], identity.at("Implementation Version Name"));
    EXPECT_EQ(std::to_string(number(items[0x51], 0, 4)), identity.at("Maximum PDU offered as acceptor"));
    EXPECT_NE(items[0x54].find(commitment), std::string::npos);
    EXPECT_EQ(items[0x54].substr(2 + commitment.size()), (std::string{1, 1}));
}

TEST(Conformance, TheNumbersAreThoseOfTheCodeAndTheDefaults) {
    const NodeSettings defaults;
    const auto identity = pairs_of("Implementation");
    EXPECT_EQ(identity.at("Implementation Class UID"), kImplementationClassUid);
    EXPECT_EQ(identity.at("Implementation Version Name"), kImplementationVersion);
    EXPECT_EQ(identity.at("Application Context"), kApplicationContext);
    EXPECT_EQ(identity.at("Maximum PDU offered as acceptor"), std::to_string(defaults.scp.max_pdu_bytes));
    const auto configuration = pairs_of("Configuration");
    EXPECT_EQ(configuration.at("scp.ae_title"), defaults.scp.ae_title);
    EXPECT_EQ(configuration.at("scp.port"), std::to_string(defaults.scp.port));
    EXPECT_EQ(configuration.at("scp.max_associations"), std::to_string(defaults.scp.max_associations));
    EXPECT_EQ(configuration.at("scp.max_pdu_bytes"), std::to_string(defaults.scp.max_pdu_bytes));
}

TEST(Conformance, EveryConfigurationKeyStandsInNodeYamlWithThatDefault) {
    const auto yaml = settings_of_node_yaml();
    const auto configuration = pairs_of("Configuration");
    for (const auto& [key, value] : configuration) {
        const auto found = yaml.find(key);
        ASSERT_NE(found, yaml.end()) << key;
        EXPECT_EQ(value.empty() ? "\"\"" : value, found->second.empty() ? "\"\"" : found->second) << key;
    }
    for (const auto& [key, value] : yaml)  // no key that concerns a peer is left out
        if (key.starts_with("scp.") && key != "scp.tls" && !key.ends_with("quiet_seconds") &&
            key != "scp.journal_spare_mib")
            EXPECT_TRUE(configuration.contains(key)) << key;
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
    ASSERT_EQ(answer_to(first.receive_pdu()).type, 2);
    seen["local limit"] = rejected(associate_request(echo));
    EXPECT_EQ(seen, stated);
}

// --- statuses

TEST(Conformance, EveryStatusThatTheReceiverMayAnswerIsInTheTable) {
    const std::string header = text_of_file("scp/dicom/command.h");
    const std::size_t begin = header.find("namespace status {"), end = header.find("}  // namespace status");
    ASSERT_LT(begin, end);
    const std::string block = header.substr(begin, end - begin);
    std::set<std::string> in_code, stated;
    const std::regex form("0x([0-9a-f]{4});");
    for (auto at = std::sregex_iterator(block.begin(), block.end(), form); at != std::sregex_iterator(); ++at) {
        std::string code = (*at)[1];
        std::ranges::transform(code, code.begin(), [](unsigned char c) { return std::toupper(c); });
        in_code.insert(code);
    }
    EXPECT_GT(in_code.size(), 10U);
    for (const Row& row : table("Statuses that the receiver answers")) stated.insert(row.at(0));
    EXPECT_EQ(stated, in_code);
}

TEST(Conformance, TheReactionToEveryCStoreStatusIsTheStatedOne) {
    // "A7xx" stands for a range; an exact row goes before it; "other" is the rest.
    std::map<std::string, std::string> reactions = pairs_of("Statuses of C-STORE responses");
    const std::map<SendOutcome, std::string> words = {
        {SendOutcome::Sent, "sent"}, {SendOutcome::Retry, "again"}, {SendOutcome::Park, "set aside"}};
    std::set<std::string> used;
    for (int status = 0; status <= 0xffff; ++status) {
        std::ostringstream text;
        text << std::hex << std::uppercase;
        text.width(4);
        text.fill('0');
        text << status;
        const std::string code = text.str();
        const std::string forms[] = {code, code.substr(0, 2) + "xx", code.substr(0, 1) + "xxx", "other"};
        const std::string* found = std::ranges::find_if(forms, [&](const auto& f) { return reactions.contains(f); });
        ASSERT_NE(found, std::end(forms)) << code;
        used.insert(*found);
        ASSERT_EQ(words.at(judge_store_status(static_cast<std::uint16_t>(status)).outcome), reactions.at(*found))
            << code << " by the row " << *found;
    }
    EXPECT_EQ(used.size(), reactions.size());
}

// --- codes

TEST(Conformance, EveryPrivateCodeOfTheOutputsIsListed) {
    std::map<std::string, std::string> in_code;
    const auto collect = [&](const std::string& file, const char* form) {
        const std::string text = text_of_file(file);
        const std::regex code(form);
        for (auto at = std::sregex_iterator(text.begin(), text.end(), code); at != std::sregex_iterator(); ++at)
            in_code[(*at)[1]] = (*at)[2];
    };
    for (const auto& entry : fs::directory_iterator(fs::path(CARDIONODE_SOURCE_DIR) / "pipeline/measure"))
        if (entry.path().extension() == ".cpp")
            collect("pipeline/measure/" + entry.path().filename().string(),
                    R"re(own\(\s*"([A-Z_]+)",\s*"([^"]+)"\))re");
    EXPECT_GT(in_code.size(), 20U);
    collect("pipeline/outputs/sr.cpp", R"re(\{"([^"]+)",\s*std::string\(kPrivateScheme\),\s*"([^"]+)"\})re");
    collect("models/bundles/heart-root-unet16/manifest.yaml",
            R"re(value: "([^"]+)", scheme: "99CARDIONODE", meaning: "([^"]+)")re");
    EXPECT_EQ(pairs_of("Private codes of the outputs"), in_code);
}

// --- what is sent

TEST(Conformance, TheObjectsThatAreSentAreThoseOfTheOutputs) {
    std::set<std::string> in_code, stated;
    for (const char* file : {"seg.cpp", "sr.cpp", "key_images.cpp"}) {
        const std::string text = text_of_file(std::string("pipeline/outputs/") + file);
        const std::regex constant(R"(UID_(\w+)Storage)");
        for (auto at = std::sregex_iterator(text.begin(), text.end(), constant); at != std::sregex_iterator(); ++at)
            in_code.insert((*at)[1]);  // DCMTK's name of the class, which is the standard's without spaces
    }
    for (const Row& row : table("Objects that are sent")) {
        const SopClass* known = find_storage_class(row.at(1));
        ASSERT_NE(known, nullptr) << row.at(1);
        EXPECT_EQ(known->name, row.at(0));
        std::string name = row[0];
        std::erase(name, ' ');
        stated.insert(name);
    }
    EXPECT_EQ(stated, in_code);
}
