// The demo itself, as `node.sh demo` calls it after the build.
#include <fstream>
#include <iterator>

#include "tests/flows/flow.h"

namespace cardionode::test {
namespace {

void nothing_runs_in(const std::string& folder) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        std::ifstream in(entry.path() / "cmdline");
        const std::string words((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
        EXPECT_EQ(words.find(folder), std::string::npos) << "still running: " << words;
    }
}

Finished run_demo(const std::string& script, const TemporaryFolder& folder) {
    Process::Options options;
    options.environment["CARDIONODE_BIN"] = CARDIONODE_BINARY_DIR;
    options.environment["CARDIONODE_DEMO_FOLDER"] = (folder / "demo").string();
    return run({std::string(CARDIONODE_SOURCE_DIR) + "/conf/demo/" + script}, seconds(550), options);
}

TEST(Demo, EndsWithTheTableAndLeavesNothingRunning) {
    if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
    for (const char* tool : {"storescu", "echoscu", "curl"}) {
        if (!installed(tool)) GTEST_SKIP() << tool << " is not installed";
    }
    const TemporaryFolder folder;
    const Finished demo = run_demo("demo.sh", folder);
    EXPECT_EQ(demo.ending, (Ending{0, 0})) << demo.output << demo.errors;
    for (const char* expected : {"landmark", "measurement", "CT ", "SEG ", "SR ", "key images", "overview"}) {
        EXPECT_NE(demo.output.find(expected), std::string::npos) << expected << " is missing in:\n" << demo.output;
    }
    nothing_runs_in((folder / "demo/").string());
}

}  // namespace
}  // namespace cardionode::test
