#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/command/command.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using testing::HasSubstr;

namespace {

struct Ran {
    int exit_code = 0;
    std::string out, err;
};

Ran run(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "cardionode");
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Ran ran;
    ran.exit_code = run_cardionode(static_cast<int>(arguments.size()), arguments.data());
    std::fflush(nullptr);
    ran.out = testing::internal::GetCapturedStdout();
    ran.err = testing::internal::GetCapturedStderr();
    return ran;
}

}  // namespace

TEST(OperatorCommands, CheckEndsWithZeroOrTwo) {
    const test::TemporaryFolder folder;
    const std::string file = (folder / "node.yaml").string();
    std::ofstream(file) << "scp:\n  port: 104\n";
    const Ran good = run({"check", "--config", file.c_str()});
    EXPECT_EQ(good.exit_code, 0);
    EXPECT_EQ(good.out, file + ": ok\n");
    std::ofstream(file) << "scp:\n  port: 0\n";
    const Ran bad = run({"check", "--config", file.c_str()});
    EXPECT_EQ(bad.exit_code, 2);
    EXPECT_THAT(bad.out, HasSubstr(file + ":2: scp.port: expected a whole number from 1 to 65535"));
}

TEST(OperatorCommands, TellWhatIsMissing) {
    const test::TemporaryFolder folder;
    const std::string file = (folder / "node.yaml").string();
    std::ofstream(file) << "node:\n  database: " << (folder / "queue.db").string() << "\n";
    for (const char* command : {"status", "studies"}) {
        const Ran ran = run({command, "--config", file.c_str()});
        EXPECT_EQ(ran.exit_code, 2);
        EXPECT_THAT(ran.err, HasSubstr("has cardionode-scp been started?"));
        EXPECT_EQ(ran.out, "");
    }
    EXPECT_EQ(run({"show", "--config", file.c_str()}).exit_code, 2) << "no key";
    EXPECT_EQ(run({"retry", "--config", file.c_str()}).exit_code, 2) << "neither a key nor --all";
    EXPECT_EQ(run({"retry", "S00AM", "--all", "--config", file.c_str()}).exit_code, 2) << "both";
    EXPECT_EQ(run({"studies", "--newest", "0", "--config", file.c_str()}).exit_code, 2);
}
