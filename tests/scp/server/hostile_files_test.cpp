// Every file of a corpus of malformed DICOM files, sent by C-STORE.
#include <fstream>
#include <map>

#include "scp/dicom/scan.h"
#include "tests/scp/server/hostile_cases.h"
#include "tests/support/shared_data.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::seconds;

namespace {

/// What a scanner would send of it. Where the file meta information cannot be read, all behind the preamble is sent.
Instance as_instance(const std::filesystem::path& file, int number) {
    Instance instance;
    try {
        instance = read_instance(file);
    } catch (const std::exception&) {
        std::ifstream in(file, std::ios::binary);
        instance.dataset.assign(std::istreambuf_iterator<char>(in), {});
        if (instance.dataset.size() > 132)
            instance.dataset.erase(instance.dataset.begin(), instance.dataset.begin() + 132);
    }
    if (!find_storage_class(instance.sop_class_uid)) instance.sop_class_uid = kCtImage;
    if (!find_transfer_syntax(instance.transfer_syntax_uid)) instance.transfer_syntax_uid = kExplicit;
    if (instance.sop_instance_uid.empty() || instance.sop_instance_uid.size() > 64)
        instance.sop_instance_uid = "1.2.3.9." + std::to_string(number);
    return instance;
}

/// The status by the scan of all bytes at once.
int expected_status(const Instance& instance) {
    const auto bytes = std::as_bytes(std::span(instance.dataset));
    const auto facts = scan_data_set(*find_transfer_syntax(instance.transfer_syntax_uid), bytes);
    if (!facts) return 0xc000;
    return check_identity(*facts, instance.sop_class_uid, instance.sop_instance_uid) ? 0 : 0xa900;
}

}  // namespace

TEST(Hostile, EveryFileOfTheCorpusIsAnsweredAndOnlyWholeOnesAreKept) {
    const auto corpus = shared("data/fuzz");
    CARDIONODE_NEEDS(corpus);
    Receiver receiver;
    receiver.start();
    ASSERT_TRUE(receiver.wait_for_log("recovered"));
    const auto helpers = receiver.children();
    std::multiset<std::string> kept;
    std::map<int, int> statuses;
    std::set<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(corpus))
        if (entry.is_regular_file() && entry.path().extension() == ".dcm") files.insert(entry.path());
    int number = 0;
    for (const auto& file : files) {
        SCOPED_TRACE(file.filename());
        const Instance instance = as_instance(file, ++number);
        Scanner scanner(receiver.port(), {instance});
        ASSERT_TRUE(scanner.accepted());
        const auto status = scanner.store(instance);
        ASSERT_TRUE(status.has_value()) << "no answer";
        EXPECT_EQ(*status, expected_status(instance));
        ++statuses[*status];
        if (*status == 0) kept.insert(sha256_of(instance));
        EXPECT_EQ(scanner.echo().value_or(-1), 0) << "the association goes on";
        expect_next_client_served(receiver.port());
    }
    EXPECT_GT(files.size(), 200U);
    for (const auto& [status, count] : statuses) std::cout << std::hex << status << std::dec << ": " << count << "\n";
    const auto status_of = [&](const std::string& path) {
        const Instance instance = as_instance(corpus / path, 0);
        return Scanner(receiver.port(), {instance}).store(instance);
    };
    EXPECT_EQ(status_of("cat03_sequence_nesting/TC0267_depth_500_raw.dcm"), 0xc000);
    EXPECT_EQ(status_of("cat05_transfer_syntax/TC0347_deflate_truncated.dcm"), 0xc000);
    EXPECT_EQ(status_of("cat09_logic_bombs/TC0457_uid_uid_65chars_over.dcm"), 0xa900);

    ASSERT_TRUE(eventually(seconds(60), [&] { return receiver.files_in("ingest") == 0; }));
    const auto stored = receiver.stored();
    EXPECT_EQ(std::set<std::string>(stored.begin(), stored.end()), std::set<std::string>(kept.begin(), kept.end()));
    EXPECT_TRUE(eventually(seconds(10), [&] { return receiver.children() == helpers; }));
    EXPECT_EQ(receiver.log().find("process_ended"), std::string::npos) << "a process crashed";
    EXPECT_EQ(receiver.log().find("association_failed"), std::string::npos);
}
