// The tests' own tools: what they say must be true before a flow may rest on it.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>

#include "tests/support/free_port.h"
#include "tests/support/pacs.h"
#include "tests/support/process.h"
#include "tests/support/scanner.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {
namespace {

using std::chrono::seconds;

std::filesystem::path one_file_of(const std::filesystem::path& folder) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) return entry.path();
    return {};
}

TEST(Process, TellsExitCodeAndOutput) {
    const Finished finished = run({"sh", "-c", "echo out; echo err >&2; exit 3"});
    EXPECT_EQ(finished.ending, (Ending{3, 0}));
    EXPECT_EQ(finished.output, "out\n");
    EXPECT_EQ(finished.errors, "err\n");
}

TEST(Process, EndsItsChildrenWithIt) {
    const TemporaryFolder folder;
    const std::filesystem::path file = folder / "child";
    {
        Process process = Process::start({"sh", "-c", "sleep 60 & echo $! > " + file.string() + "; wait"}, {});
        ASSERT_TRUE(eventually(seconds(5),
                               [&] { return std::filesystem::exists(file) && std::filesystem::file_size(file) > 1; }));
        EXPECT_TRUE(process.running());
    }
    pid_t child = 0;
    std::ifstream(file) >> child;
    ASSERT_GT(child, 0);
    EXPECT_TRUE(eventually(seconds(5), [&] {
        std::string state;
        std::ifstream status("/proc/" + std::to_string(child) + "/stat");
        std::string pid;
        std::string name;
        status >> pid >> name >> state;
        return state.empty() || state == "Z";
    }));
}

TEST(Process, ThatTakesTooLongIsKilled) {
    EXPECT_THROW(run({"sleep", "60"}, std::chrono::milliseconds(100)), std::runtime_error);
}

TEST(Cta, HasItsSlicesAndIsUnchanged) {
    const auto instances = cta();
    ASSERT_EQ(instances.size(), 164U);
    for (const Instance& instance : instances) EXPECT_EQ(instance.sop_class_uid, "1.2.840.10008.5.1.4.1.1.2");
    EXPECT_EQ(instances[0].sop_instance_uid, "2.25.7336560304232778346861269020527614687");
}

TEST(Cta, AsOtherStudyKeepsSizesAndChangesUids) {
    const std::vector<Instance> one = {read_instance(cta_folder() / "IM0001.dcm")};
    const auto other = as_other_study(one, 7);
    EXPECT_EQ(other[0].dataset.size(), one[0].dataset.size());
    EXPECT_EQ(other[0].sop_instance_uid, "2.25.7336560304232778346861269020527614007");
    const std::string before(one[0].dataset.begin(), one[0].dataset.end());
    const std::string after(other[0].dataset.begin(), other[0].dataset.end());
    EXPECT_NE(before.find("2.25.12957139771068550513508906826503296419"), std::string::npos);
    EXPECT_NE(after.find("2.25.12957139771068550513508906826503296007"), std::string::npos);
    EXPECT_EQ(after.find("2.25.12957139771068550513508906826503296419"), std::string::npos);
}

TEST(Scanner, StoresTheBytesAsTheyAreAtAnotherStack) {
    if (!installed("storescp")) GTEST_SKIP() << "storescp is not installed";
    const TemporaryFolder folder;
    const int port = free_port();
    Process::Options options;
    options.environment["TCP_NODELAY"] = "1";
    Process peer = Process::start({"storescp", "+B", "-od", folder.path().string(), std::to_string(port)}, options);
    ASSERT_TRUE(eventually(seconds(10), [&] { return listens(port); }));
    const Instance instance = read_instance(cta_folder() / "IM0082.dcm");
    Scanner scanner(port, {instance});
    ASSERT_TRUE(scanner.accepted());
    EXPECT_EQ(scanner.echo(), 0);
    EXPECT_EQ(scanner.store(instance), 0);
    scanner.release();
    const Instance stored = read_instance(one_file_of(folder.path()));
    EXPECT_EQ(stored.sop_instance_uid, instance.sop_instance_uid);
    EXPECT_EQ(stored.dataset, instance.dataset);
}

TEST(Scanner, GetsNoAnswerFromAPeerThatIsNotThere) {
    const Instance instance = read_instance(cta_folder() / "IM0082.dcm");
    Scanner scanner(free_port(), {instance});
    EXPECT_FALSE(scanner.accepted());
    EXPECT_EQ(scanner.store(instance), std::nullopt);
}

TEST(Pacs, HoldsWhatItWasSentAcrossARestart) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    const TemporaryFolder folder;
    Orthanc pacs(folder / "pacs");
    pacs.start();
    const Instance instance = read_instance(cta_folder() / "IM0082.dcm");
    Scanner::Options options;
    options.called_ae_title = pacs.ae_title();
    EXPECT_EQ(send_all(pacs.port(), {instance}, options).at(instance.sop_instance_uid), 0);
    pacs.stop();
    EXPECT_FALSE(listens(pacs.port()));
    pacs.start();
    const auto held = pacs.instances();
    ASSERT_EQ(held.size(), 1U);
    EXPECT_EQ(held[0].sop_instance_uid, instance.sop_instance_uid);
    EXPECT_EQ(held[0].sop_class_uid, instance.sop_class_uid);
    EXPECT_EQ(held[0].modality, "CT");
    EXPECT_EQ(pacs.counts(), (std::map<std::string, int>{{"CT", 1}}));
    pacs.download(held[0], folder / "back.dcm");
    EXPECT_EQ(read_instance(folder / "back.dcm").sop_instance_uid, instance.sop_instance_uid);
}

}  // namespace
}  // namespace cardionode::test
