// Bad installations: each program says what is wrong, where, and stops with the exit code for it.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "tests/flows/flow.h"
#include "tests/support/free_port.h"

namespace cardionode::test {
namespace {

constexpr int kConfig = 2;

void write(const std::filesystem::path& file, const std::string& text) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
}

/// Settings that are right, with a folder of their own.
std::string good_settings(const std::filesystem::path& folder, const std::filesystem::path& bundle, int port) {
    return "node:\n  spool: " + (folder / "spool").string() + "\n  work: " + (folder / "work").string() +
           "\n  database: " + (folder / "queue/queue.db").string() +
           "\nscp:\n  min_free_mib: 64\n  port: " + std::to_string(port) +
           "\npipeline:\n  device: cpu\n  bundle: " + bundle.string() + "\n";
}

Finished run_program(const std::string& name, const std::filesystem::path& settings) {
    return run({program(name), "--config", settings.string()}, seconds(30));
}

class BadYaml : public ::testing::TestWithParam<const char*> {};

TEST_P(BadYaml, StopsEachServiceWithFileLineAndKeyOfEveryMistake) {
    const TemporaryFolder folder;
    const auto settings = folder / "node.yaml";
    write(settings, "scp:\n  port: eleven\n  prot: 104\nnode:\n  log_level: loud\n");
    const Finished finished = run_program(GetParam(), settings);
    EXPECT_EQ(finished.ending, (Ending{kConfig, 0}));
    const std::string all = finished.output + finished.errors;
    for (const char* expected : {"node.yaml:2: scp.port", "node.yaml:3: scp.prot", "node.yaml:5: node.log_level"}) {
        EXPECT_NE(all.find(expected), std::string::npos) << all;
    }
}

TEST_P(BadYaml, ThatIsMissingIsNamed) {
    const TemporaryFolder folder;
    const Finished finished = run_program(GetParam(), folder / "absent.yaml");
    EXPECT_EQ(finished.ending, (Ending{kConfig, 0}));
    EXPECT_NE((finished.output + finished.errors).find("absent.yaml"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Of, BadYaml, ::testing::Values("cardionode-scp", "cardionode-pipeline"),
                         [](const auto& param) {
                             return std::string(param.param).find("scp") == std::string::npos ? "pipeline" : "scp";
                         });

TEST(BadSettings, AreFoundByCheckWhichStartsNothing) {
    const TemporaryFolder folder;
    const auto settings = folder / "node.yaml";
    write(settings, "scp:\n  port: eleven\n");
    const Finished bad = run({program("cardionode"), "check", "--config", settings.string()});
    EXPECT_EQ(bad.ending, (Ending{kConfig, 0}));
    EXPECT_NE((bad.output + bad.errors).find("node.yaml:2: scp.port"), std::string::npos) << bad.output << bad.errors;
    write(settings, good_settings(folder.path(), quick_bundle(), free_port()));
    const Finished good = run({program("cardionode"), "check", "--config", settings.string()});
    EXPECT_EQ(good.ending, (Ending{0, 0})) << good.output << good.errors;
    EXPECT_FALSE(std::filesystem::exists(folder / "spool")) << "check makes nothing";
    EXPECT_FALSE(std::filesystem::exists(folder / "queue"));
}

class BadBundle : public ::testing::Test {
protected:
    void SetUp() override {
        std::filesystem::copy(quick_bundle(), bundle_, std::filesystem::copy_options::recursive);
        for (const auto& entry : std::filesystem::directory_iterator(bundle_)) {
            if (entry.path().extension() == ".safetensors") weights_ = entry.path();
        }
        ASSERT_FALSE(weights_.empty());
        write(settings_, good_settings(folder_.path(), bundle_, free_port()));
    }
    TemporaryFolder folder_;
    std::filesystem::path bundle_ = folder_ / "bundle";
    std::filesystem::path settings_ = folder_ / "node.yaml";
    std::filesystem::path weights_;
};

TEST_F(BadBundle, WithoutWeightsStopsThePipeline) {
    std::filesystem::remove(weights_);
    const Finished finished = run_program("cardionode-pipeline", settings_);
    EXPECT_EQ(finished.ending, (Ending{kConfig, 0}));
    EXPECT_NE((finished.output + finished.errors).find(weights_.filename().string()), std::string::npos)
        << finished.errors;
}

TEST_F(BadBundle, WithOtherWeightsThanTheManifestsHashStopsThePipeline) {
    std::fstream file(weights_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-1, std::ios::end);
    file.put('\x7f');
    file.close();
    const Finished finished = run_program("cardionode-pipeline", settings_);
    EXPECT_EQ(finished.ending, (Ending{kConfig, 0}));
    EXPECT_NE((finished.output + finished.errors).find("256"), std::string::npos) << finished.errors;
}

TEST_F(BadBundle, WithoutAManifestStopsThePipeline) {
    std::filesystem::remove(bundle_ / "manifest.yaml");
    const Finished finished = run_program("cardionode-pipeline", settings_);
    EXPECT_EQ(finished.ending, (Ending{kConfig, 0}));
    EXPECT_NE((finished.output + finished.errors).find("manifest.yaml"), std::string::npos) << finished.errors;
}

TEST(PortInUse, IsNamedAndTheReceiverStops) {
    Node first(options_with(quick_bundle(), {}));
    first.start_receiver();
    const TemporaryFolder folder;
    const auto settings = folder / "node.yaml";
    write(settings, good_settings(folder.path(), quick_bundle(), first.port()));
    const Finished second = run_program("cardionode-scp", settings);
    EXPECT_GT(second.ending.exit_code, 0);
    EXPECT_NE((second.output + second.errors).find(std::to_string(first.port())), std::string::npos) << second.errors;
    EXPECT_EQ(Scanner(first.port(), {}).echo(), 0) << "the first one is not disturbed";
}

TEST(ReadOnlySpool, IsNamedAndTheReceiverStops) {
    // Root may write anywhere: as root, the receiver runs as nobody here, from a copy that nobody can reach.
    const TemporaryFolder folder;
    const auto settings = folder / "node.yaml";
    write(settings, good_settings(folder.path(), quick_bundle(), free_port()));
    const auto receiver = folder / "cardionode-scp";
    std::filesystem::copy(program("cardionode-scp"), receiver);
    std::filesystem::create_directories(folder / "spool");
    std::filesystem::create_directories(folder / "queue");
    Process::Options options;
    if (::geteuid() == 0) {
        options.user = 65534;
        for (const auto& path : {folder.path(), folder / "spool", folder / "queue"}) {
            ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
        }
    }
    ASSERT_EQ(::chmod((folder / "spool").c_str(), 0555), 0);
    const Finished finished = run({receiver.string(), "--config", settings.string()}, seconds(30), options);
    ASSERT_EQ(::chmod((folder / "spool").c_str(), 0755), 0);
    EXPECT_EQ(finished.ending, (Ending{kConfig, 0})) << finished.errors;
    EXPECT_NE((finished.output + finished.errors).find("spool"), std::string::npos) << finished.errors;
}

}  // namespace
}  // namespace cardionode::test
