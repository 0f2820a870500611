// Public validators and readers over what we write: dciodvfy, dcmftest, GDCM, DCMTK, PixelMed, dcentvfy and pydicom.
#include <dcmtk/config/osconfig.h>
#include <gtest/gtest.h>

#include "tests/pipeline/outputs/read_back.h"
#include "tests/pipeline/outputs/real_cta.h"
#include "tests/pipeline/outputs/synthetic_ct.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

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
    EXPECT_EQ(status, 0) << printed;
    EXPECT_NE(printed.find("\n0 failed"), std::string::npos) << printed;
    if (std::getenv("CARDIONODE_KEEP_OUTPUTS") != nullptr) std::puts(printed.c_str());
}

}  // namespace

TEST(Validators, AcceptTheOutputsOfASyntheticSeries) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", oblique({.columns = 129, .rows = 67}));
    const auto outputs = write_outputs(ct, findings_for(ct), request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    expect_valid(folder / "ct", *outputs, folder / "work");
}

TEST(Validators, AcceptTheOutputsOfTheRealCta) {
    CARDIONODE_NEEDS(shared("data/cta/dicom"));
    const TemporaryFolder folder;
    const auto work = kept_folder(folder / "work");
    const RealCase real = real_cta(shared("data/cta"));
    const auto outputs = write_outputs(real.ct, real.findings, request_for(work));
    ASSERT_TRUE(outputs) << outputs.error().message;
    EXPECT_EQ(read_back(real.ct_folder, real.findings, *outputs, work), "");
    expect_valid(real.ct_folder, *outputs, work);
}
