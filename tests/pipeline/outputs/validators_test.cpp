// Public validators and readers over what we write: dciodvfy, dcmftest, GDCM, DCMTK, PixelMed, dcentvfy and pydicom.
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include <gtest/gtest.h>

#include "pipeline/outputs/check.h"
#include "tests/pipeline/outputs/read_back.h"
#include "tests/pipeline/outputs/real_cta.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/written_ct.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

void expect_valid(const std::filesystem::path& ct_folder, const WrittenOutputs& outputs,
                  const std::filesystem::path& work_folder) {
    const auto script = shared("bench/verify_outputs.sh");
    CARDIONODE_NEEDS(script);
    std::string command = "bash " + script.string() + " " + ct_folder.string();
    for (const OutputFile& file : outputs.files) {
        if (file.kind != "KEY_IMAGE") command += " " + (work_folder / file.file).string();
    }
    const auto [status, printed] = run_command(command);
    // dcmjs comes from npm, not from Debian: without it the script counts its line as failed.
    const bool dcmjs = run_command("node -e 'require(\"dcmjs\")'").first == 0;
    std::istringstream lines(printed);
    for (std::string line; std::getline(lines, line);) {
        EXPECT_FALSE(line.starts_with("FAIL") && (dcmjs || line.find("dcmjs") == std::string::npos)) << printed;
    }
    EXPECT_NE(printed.find(dcmjs ? "\n0 failed" : " failed"), std::string::npos) << printed;
    EXPECT_TRUE(status == 0 || !dcmjs);
    if (std::getenv("CARDIONODE_KEEP_OUTPUTS") != nullptr) std::puts(printed.c_str());
}

}  // namespace

TEST(Validators, FindNoErrorInTheOutputsOfASyntheticSeries) {
    if (run_command("which dciodvfy dcentvfy dsrdump").first != 0) GTEST_SKIP() << "dicom3tools or dcmtk is absent";
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", oblique({.columns = 129, .rows = 67, .bad_attributes = true}));
    const auto outputs = write_outputs(ct, findings_for(ct), request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    for (const OutputFile& file : outputs->files) {
        const std::string path = (folder / "work" / file.file).string();
        const std::string printed = run_command("dciodvfy " + path).second;
        EXPECT_EQ(printed.find("Error"), std::string::npos) << file.file << "\n" << printed;
        if (file.kind == "SR") {
            const std::string tree = run_command("dsrdump -q " + path).second;
            EXPECT_EQ(tree.find("E: "), std::string::npos) << tree;
        }
    }
}

class OfScanner : public testing::TestWithParam<const char*> {};

TEST_P(OfScanner, InheritedAttributesBringNoErrorIn) {
    if (run_command("which dciodvfy dcentvfy").first != 0) GTEST_SKIP() << "dicom3tools is absent";
    const auto ct_folder = shared(std::string("data/") + GetParam());
    CARDIONODE_NEEDS(ct_folder);
    const TemporaryFolder folder;
    const CtSeries ct = read_ct(ct_folder);
    const auto outputs = write_outputs(ct, findings_for(ct), request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    const auto checked = check_outputs(ct, outputs->files, folder / "work");
    EXPECT_TRUE(checked) << checked.error().message;
    std::string all = "dcentvfy " + ct.slices.front().file.string();
    for (const OutputFile& file : outputs->files) {
        const std::string path = (folder / "work" / file.file).string();
        const std::string printed = run_command("dciodvfy " + path).second;
        EXPECT_EQ(printed.find("Error"), std::string::npos) << file.file << "\n" << printed;
        all += " " + path;
    }
    const std::string entities = run_command(all).second;
    EXPECT_EQ(entities.find("Error"), std::string::npos) << entities;
}

INSTANTIATE_TEST_SUITE_P(Scanners, OfScanner, testing::Values("chest_acrin", "chest_heart_rtstruct"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Validators, AcceptTheOutputsOfTheRealCta) {
    CARDIONODE_NEEDS(shared("data/cta/dicom"));
    const TemporaryFolder folder;
    const auto work = kept_folder(folder / "work");
    const RealCase real = real_cta(shared("data/cta"));
    const auto outputs = write_outputs(real.ct, real.findings, request_for(work));
    ASSERT_TRUE(outputs) << outputs.error().message;
    EXPECT_EQ(read_back(real.ct_folder, real.findings, *outputs, work), "");
    const auto checked = check_outputs(real.ct, outputs->files, work);
    EXPECT_TRUE(checked) << checked.error().message;
    expect_valid(real.ct_folder, *outputs, work);
}
