// What `cmake --install` puts in place: units that systemd accepts, users apart, settings that are never overwritten.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "conf/base/node_settings.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using test::Finished;
using test::TemporaryFolder;

std::string text_of(const std::filesystem::path& file) {
    std::ifstream in(file);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

/// The install step alone, without the programs: stand-ins take their place where systemd looks for them.
void install_into(const std::filesystem::path& prefix) {
    const Finished cmake = test::run({"cmake", "-DCMAKE_INSTALL_PREFIX=" + prefix.string(),
                                      "-DCARDIONODE_SOURCE_DIR=" + std::string(CARDIONODE_SOURCE_DIR), "-P",
                                      std::string(CARDIONODE_SOURCE_DIR) + "/systemd/install.cmake"});
    ASSERT_TRUE(cmake.ok()) << cmake.errors;
    std::filesystem::create_directories(prefix / "bin");
    for (const char* name : {"cardionode-scp", "cardionode-pipeline", "cardionode-fedclient"}) {
        std::ofstream(prefix / "bin" / name) << "#!/bin/sh\n";
        std::filesystem::permissions(prefix / "bin" / name, std::filesystem::perms(0755));
    }
}

class Units : public ::testing::TestWithParam<const char*> {};

TEST_P(Units, AreAcceptedBySystemdWithoutAWarning) {
    if (!test::installed("systemd-analyze")) GTEST_SKIP() << "systemd-analyze is not installed";
    const TemporaryFolder folder;
    install_into(folder.path());
    const std::string unit = (folder / "lib/systemd/system").string() + "/" + GetParam();
    const Finished verify = test::run({"systemd-analyze", "verify", "--man=no", unit});
    EXPECT_TRUE(verify.ok());
    EXPECT_EQ(verify.errors.find(GetParam()), std::string::npos) << verify.errors;
}

TEST_P(Units, AreLittleExposed) {
    if (!test::installed("systemd-analyze")) GTEST_SKIP() << "systemd-analyze is not installed";
    const TemporaryFolder folder;
    install_into(folder.path());
    const std::string unit = (folder / "lib/systemd/system").string() + "/" + GetParam();
    // The threshold is ten times the score; other hardened services reach 1.7 to 2.1.
    const Finished security =
        test::run({"systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=17", unit});
    EXPECT_TRUE(security.ok()) << security.output;
    std::cout << security.output.substr(std::min(security.output.size(), security.output.rfind("Overall")));
}

/// "# Left open: NAME=, NAME=. Why" and its further lines, up to the next that is no comment or begins another.
std::string reasons_in(const std::string& unit) {
    std::string reasons;
    std::istringstream lines(unit);
    bool inside = false;
    for (std::string line; std::getline(lines, line);) {
        inside = line.starts_with("# Left open: ") || (inside && line.starts_with("# "));
        if (inside) reasons += line + "\n";
    }
    return reasons;
}

TEST_P(Units, SayWhyForEachDirectiveThatIsLeftOpen) {
    if (!test::installed("systemd-analyze")) GTEST_SKIP() << "systemd-analyze is not installed";
    const TemporaryFolder folder;
    install_into(folder.path());
    const std::string unit = (folder / "lib/systemd/system").string() + "/" + GetParam();
    const std::string reasons = reasons_in(text_of(unit));
    const Finished security =
        test::run({"systemd-analyze", "security", "--offline=true", "--no-pager", "--json=short", unit});
    int open = 0;
    for (const auto& row : nlohmann::json::parse(security.output)) {
        const auto exposure = row.at("exposure");
        if (!exposure.is_string() || exposure.get<std::string>() == "0.0" || exposure.get<std::string>().empty())
            continue;
        ++open;
        const auto name = row.at("name").get<std::string>();
        EXPECT_NE(reasons.find(name.substr(0, name.find('='))), std::string::npos)
            << name << " is open (" << exposure << ": " << row.at("description")
            << "): close it, or write \"# Left open: " << name << " why\" beside it";
    }
    EXPECT_GT(open, 3) << "some are: the network, for one";
}

INSTANTIATE_TEST_SUITE_P(All, Units,
                         ::testing::Values("cardionode-scp.service", "cardionode-pipeline.service",
                                           "cardionode-fedclient.service"),
                         [](const auto& param) {
                             const std::string name = std::string(param.param).substr(11);  // behind "cardionode-"
                             return name.substr(0, name.find('.'));
                         });

TEST(FederatedClient, IsWokenAtNightAndNeverLate) {
    const TemporaryFolder folder;
    install_into(folder.path());
    const std::string timer = text_of(folder / "lib/systemd/system/cardionode-fedclient.timer");
    EXPECT_NE(timer.find("\nPersistent=false\n"), std::string::npos);
    EXPECT_NE(timer.find("\nRandomizedDelaySec="), std::string::npos);
    const std::string unit = text_of(folder / "lib/systemd/system/cardionode-fedclient.service");
    EXPECT_NE(unit.find("time-sync.target"), std::string::npos);
    EXPECT_NE(unit.find("\nIPAddressDeny=any\n"), std::string::npos) << "nobody is reachable until the site says who";
    EXPECT_NE(unit.find("\nMemoryMax="), std::string::npos);
    EXPECT_EQ(unit.find("[Install]"), std::string::npos) << "only the timer starts it";
    if (!test::installed("systemd-analyze")) GTEST_SKIP() << "systemd-analyze is not installed";
    const Finished verify = test::run(
        {"systemd-analyze", "verify", "--man=no", (folder / "lib/systemd/system/cardionode-fedclient.timer").string()});
    EXPECT_TRUE(verify.ok()) << verify.errors;
}

/// Not by words but by doing: real systemd, real units, a real study.
TEST(InstalledUnits, StartAndWorkUnderTheirRestrictions) {
    const Finished booted = test::run({"bash", std::string(CARDIONODE_SOURCE_DIR) + "/tests/systemd/boot_units.sh",
                                       CARDIONODE_SOURCE_DIR, CARDIONODE_BINARY_DIR},
                                      std::chrono::seconds(400));
    if (booted.ending.exit_code == 77) GTEST_SKIP() << booted.output;
    EXPECT_TRUE(booted.ok()) << booted.output << booted.errors;
    std::cout << booted.output;
}

TEST(Users, AreApartAndShareOneGroup) {
    if (!test::installed("systemd-sysusers")) GTEST_SKIP() << "systemd-sysusers is not installed";
    const TemporaryFolder folder;
    install_into(folder.path());
    std::filesystem::create_directories(folder / "root/etc");
    std::ofstream(folder / "root/etc/passwd") << "";
    std::ofstream(folder / "root/etc/group") << "";
    const Finished users = test::run({"systemd-sysusers", "--root=" + (folder / "root").string(),
                                      (folder / "lib/sysusers.d/cardionode.conf").string()});
    ASSERT_TRUE(users.ok()) << users.errors;
    const std::string passwd = text_of(folder / "root/etc/passwd");
    const std::string group = text_of(folder / "root/etc/group");
    EXPECT_NE(passwd.find("cardionode-scp:"), std::string::npos) << passwd;
    EXPECT_NE(passwd.find("cardionode-pipeline:"), std::string::npos) << passwd;
    ASSERT_EQ(group.rfind("cardionode:x:", 0), 0U) << group;
    const std::string id = group.substr(13, group.find(':', 13) - 13);
    for (std::istringstream lines(passwd); !lines.eof();) {
        std::string line;
        std::getline(lines, line);
        EXPECT_TRUE(line.empty() || line.find(":" + id + ":cardionode") != std::string::npos) << line;
    }
}

TEST(Settings, AreInstalledValidAndPointToTheInstalledBundles) {
    const TemporaryFolder folder;
    install_into(folder.path());
    const auto settings = load_node_settings(folder / "etc/cardionode/node.yaml");
    ASSERT_TRUE(settings.ok()) << settings.error().message;
    EXPECT_EQ(settings->pipeline.bundle.string().rfind((folder / "share/cardionode/bundles/").string(), 0), 0U)
        << settings->pipeline.bundle;
}

TEST(Settings, OfAnAdministratorAreKept) {
    const TemporaryFolder folder;
    install_into(folder.path());
    const std::filesystem::path file = folder / "etc/cardionode/node.yaml";
    std::ofstream(file) << "scp:\n  port: 104\n";
    install_into(folder.path());
    EXPECT_EQ(text_of(file), "scp:\n  port: 104\n");
    EXPECT_NE(text_of(file.string() + ".new"), "") << "the shipped settings stand beside the edited ones";
}

}  // namespace
}  // namespace cardionode
