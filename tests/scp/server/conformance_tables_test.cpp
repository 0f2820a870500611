// The conformance statement (scp/CONFORMANCE.md) against the code, the settings and what the sender proposes.
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "conf/base/node_settings.h"
#include "pipeline/send/commit_scu.h"
#include "pipeline/send/status.h"
#include "pipeline/send/store_scu.h"
#include "scp/dicom/commitment.h"
#include "scp/dicom/syntaxes.h"
#include "scp/server/listener.h"
#include "tests/scp/server/conformance_statement.h"
#include "tests/support/data_set.h"
#include "tests/support/free_port.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using namespace cardionode::test;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAreArray;
namespace fs = std::filesystem;

namespace {

const std::string kExplicitUid = "1.2.840.10008.1.2.1", kImplicitUid = "1.2.840.10008.1.2";

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
        value.erase(0, std::min(value.find_first_not_of(' '), value.size()));
        value.erase(value.find_last_not_of(' ') + 1);
        settings[name + found[2].str()] = value;
    }
    return settings;
}

/// Listens, and takes one association request of whoever connects. It is not answered.
class SilentPacs {
public:
    SilentPacs() {
        auto listening = listen_on("127.0.0.1", port_);
        if (!listening) throw std::runtime_error(listening.error().message);
        listener_ = std::move(listening).value();
        thread_ = std::jthread([this] { take(); });
    }
    AssociatePdu request() {
        thread_.join();
        return read_associate(bytes_);
    }
    int port() const { return port_; }

private:
    void take() {
        pollfd item{listener_.get(), POLLIN, 0};
        if (::poll(&item, 1, 10'000) != 1) return;
        const FileDescriptor socket(::accept(listener_.get(), nullptr, nullptr));
        char part[4096];
        while (bytes_.size() < 6 || bytes_.size() < 6 + number_at(bytes_, 2, 4)) {
            const ssize_t n = ::recv(socket.get(), part, sizeof part, 0);
            if (n <= 0) return;
            bytes_.append(part, static_cast<std::size_t>(n));
        }
    }
    const int port_ = free_port();
    FileDescriptor listener_;
    std::string bytes_;
    std::jthread thread_;
};

DestinationSettings destination_at(int port) {
    DestinationSettings destination;
    destination.name = "pacs";
    destination.ae_title = "PACS";
    destination.host = "127.0.0.1";
    destination.port = port;
    return destination;
}

using Proposed = std::pair<std::string, std::vector<std::string>>;
std::vector<Proposed> proposed_in(const AssociatePdu& request) {
    std::vector<Proposed> all;
    for (const auto& numbered : request.contexts)
        all.emplace_back(numbered.second.abstract_syntax, numbered.second.transfer_syntaxes);
    return all;
}

std::vector<int> kinds_of(const AssociatePdu& request) {
    std::vector<int> kinds;
    for (const auto& item : request.user_items) kinds.push_back(item.first);
    return kinds;
}

}  // namespace

TEST(Conformance, TheTablesListAllThatTheCodeAcceptsUnderItsNames) {
    Table classes, syntaxes;
    for (const SopClass& c : storage_classes()) classes.push_back({std::string(c.name), std::string(c.uid)});
    for (const TransferSyntax& s : transfer_syntaxes()) syntaxes.push_back({std::string(s.name), std::string(s.uid)});
    EXPECT_THAT(table("Storage SOP classes"), UnorderedElementsAreArray(classes));
    EXPECT_THAT(table("Transfer syntaxes"), UnorderedElementsAreArray(syntaxes));
    EXPECT_EQ(
        pairs_of("Other SOP classes"),
        (std::map<std::string, std::string>{{"Verification", std::string(kVerificationSopClass)},
                                            {"Storage Commitment Push Model", std::string(kStorageCommitmentClass)}}));
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
    for (const auto& setting : yaml) {  // none that concerns a peer is left out
        const std::string& key = setting.first;
        if (!key.starts_with("scp.") || key == "scp.tls" || key.ends_with("quiet_seconds") ||
            key == "scp.journal_spare_mib")
            continue;
        EXPECT_TRUE(configuration.contains(key)) << key;
    }
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
    for (const auto& row : pairs_of_codes("Statuses that the receiver answers")) stated.insert(row.first);
    EXPECT_EQ(stated, in_code);
}

TEST(Conformance, TheReactionToEveryCStoreStatusIsTheStatedOne) {
    // "A7xx" stands for a range; an exact row goes before it; "other" is the rest.
    const auto reactions = pairs_of_codes("Statuses of C-STORE responses");
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

TEST(Conformance, ARequestForStorageCommitmentNamesUsAndProposesWhatIsStated) {
    SilentPacs pacs;
    CommitmentAsk ask;
    ask.transaction_uid = "1.2.3";
    const auto take = [](const CommitmentAnswer&) -> Result<AnswerOutcome> { return AnswerOutcome::Unknown; };
    EXPECT_FALSE(request_commitment(ask, destination_at(pacs.port()), SendTimeouts{2, 2, 1}, take).ok());
    const AssociatePdu request = pacs.request();
    const auto identity = pairs_of("Implementation");
    EXPECT_THAT(kinds_of(request), ElementsAre(0x51, 0x52, 0x55)) << "no extended negotiation";
    EXPECT_EQ(request.user_item(0x52), identity.at("Implementation Class UID"));
    EXPECT_EQ(request.user_item(0x55), identity.at("Implementation Version Name"));
    EXPECT_EQ(std::to_string(number_at(request.user_item(0x51), 0, 4)),
              identity.at("Maximum PDU offered as initiator, storage commitment"));
    const auto classes = pairs_of("Other SOP classes");
    EXPECT_THAT(proposed_in(request),
                ElementsAre(Proposed{classes.at("Storage Commitment Push Model"), {kExplicitUid, kImplicitUid}},
                            Proposed{classes.at("Verification"), {kImplicitUid}}));
}

TEST(Conformance, ACStoreAssociationProposesTheObjectInTheTwoStatedSyntaxes) {
    prepare_dicom_network();
    const TemporaryFolder folder;
    for (const std::string& sop_class : column(table("Objects that are sent"), 1)) {
        Instance object;
        object.sop_class_uid = sop_class;
        object.sop_instance_uid = "1.2.3.1.9.1";
        object.transfer_syntax_uid = kExplicitUid;
        object.dataset = DataSet(kExplicit).identity("1.2.3.1.9.1", "1.2.3.1", "1.2.3.1.1", sop_class).bytes;
        write_instance(object, folder / "object.dcm");
        OutputFile output;
        output.kind = "SEG";
        output.sop_class_uid = sop_class;
        output.sop_instance_uid = object.sop_instance_uid;
        output.file = "object.dcm";
        SilentPacs pacs;
        EXPECT_FALSE(
            store_output(folder / "object.dcm", output, destination_at(pacs.port()), SendTimeouts{2, 2, 1}).ok());
        const AssociatePdu request = pacs.request();
        EXPECT_THAT(kinds_of(request), ElementsAre(0x51, 0x52, 0x55)) << "no extended negotiation";
        const auto identity = pairs_of("Implementation");
        EXPECT_EQ(std::to_string(number_at(request.user_item(0x51), 0, 4)),
                  identity.at("Maximum PDU offered as initiator, C-STORE"));
        EXPECT_EQ(request.user_item(0x52), identity.at("Implementation Class UID"));
        EXPECT_EQ(request.user_item(0x55), identity.at("Implementation Version Name"));
        EXPECT_THAT(proposed_in(request),
                    ElementsAre(Proposed{sop_class, {kExplicitUid}}, Proposed{sop_class, {kImplicitUid}}));
    }
}
