// One command from images to a report: the real CTA as DICOM and as NIfTI, and a full disk.
#include <array>
#include <csignal>

#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "pipeline/read/nifti.h"
#include "pipeline/read/read_study.h"
#include "tests/flows/flow.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> predict(const fs::path& input, const fs::path& output) {
    return {program("cardionode"), "predict", input.string(), "-o", output.string(), "--model", quick_bundle().string(),
            "--threads",           "1"};
}

TEST(PredictFlow, TheRealCtaFromDicomAndFromNifti) {
    const TemporaryFolder folder;
    const Finished dicom = run(predict(cta_folder(), folder / "dicom"), seconds(200));
    ASSERT_TRUE(dicom.ok()) << dicom.errors;
    EXPECT_EQ(dicom.errors, "") << "no progress and no log where nobody watches";
    EXPECT_NE(dicom.output.find("Report: " + (folder / "dicom" / "report.html").string()), std::string::npos);
    EXPECT_NE(dicom.output.find("Research use only"), std::string::npos);

    std::vector<StudyFile> files;
    for (const auto& entry : fs::directory_iterator(cta_folder())) files.push_back({entry.path(), "", ""});
    ReadLimits limits;
    limits.decoder = program("cardionode-decode");
    const auto series = read_study(files, SeriesSettings{}, limits);
    ASSERT_TRUE(series.ok()) << series.error().message;
    ASSERT_TRUE(write_nifti(series->volume, folder / "cta.nii.gz").ok());
    const Finished nifti = run(predict(folder / "cta.nii.gz", folder / "nifti"), seconds(200));
    ASSERT_TRUE(nifti.ok()) << nifti.errors;

    // Same voxels, same places, same findings.
    for (const char* name : {"landmarks.json", "measurements.csv"})
        EXPECT_EQ(read_file(folder / "dicom" / name).value(), read_file(folder / "nifti" / name).value()) << name;
    std::set<std::string> kinds;
    for (const auto& entry : fs::directory_iterator(folder / "dicom" / "dicom"))
        kinds.insert(entry.path().filename().string().substr(0, 3));
    EXPECT_TRUE(kinds.contains("sr_"));
    EXPECT_TRUE(kinds.contains("key"));
    EXPECT_EQ(fs::exists(folder / "dicom" / "heart.nii.gz"), kinds.contains("seg"));
    EXPECT_FALSE(fs::exists(folder / "nifti" / "dicom"));
}

TEST(PredictFlow, APhantomIsReadAsItWasDrawn) {
    const TemporaryFolder folder;
    const Finished drawn = run({program("cardionode"), "phantom", "--seed", "7", "--size", "64", "--spacing", "2.5",
                                "--out", (folder / "phantom").string()},
                               seconds(200));
    ASSERT_TRUE(drawn.ok()) << drawn.errors;
    std::vector<std::string> warnings;
    const auto ct = read_nifti_ct(folder / "phantom" / "ct.nii.gz", &warnings);
    ASSERT_TRUE(ct.ok()) << ct.error().message;
    EXPECT_TRUE(warnings.empty()) << warnings.front();
    EXPECT_EQ(ct->grid.voxel_count(), 64 * 64 * 64);
    // Points lie in the blood of the root, or at its border.
    const auto heart = read_nifti_labels(folder / "phantom" / "heart.nii.gz");
    ASSERT_TRUE(heart.ok()) << heart.error().message;
    EXPECT_TRUE(heart->grid.same_as(ct->grid));
    const auto json = nlohmann::json::parse(read_file(folder / "phantom" / "phantom.json").value());
    for (const auto& point : json["points"]) {
        const auto p = point["lps_mm"].get<std::array<double, 3>>();
        const auto voxel = heart->grid.nearest_voxel({{p[0], p[1], p[2]}});
        ASSERT_TRUE(voxel) << point["name"];
        bool near_heart = false;
        for (std::int64_t dk = -1; dk <= 1; ++dk)
            for (std::int64_t dj = -1; dj <= 1; ++dj)
                for (std::int64_t di = -1; di <= 1; ++di) {
                    const VoxelIndex near{{voxel->ijk[0] + di, voxel->ijk[1] + dj, voxel->ijk[2] + dk}};
                    near_heart = near_heart || (heart->grid.contains(near) && heart->at(near) != 0);
                }
        EXPECT_TRUE(near_heart) << point["name"];
    }
    EXPECT_TRUE(run(predict(folder / "phantom" / "ct.nii.gz", folder / "out"), seconds(200)).ok());
}

TEST(PredictFlow, AFullDiskLeavesNothing) {
    const TemporaryFolder folder;
    // A limit on the size of files stands for the full disk: every write beyond it fails, in the middle of a file.
    std::string line = "trap '' XFSZ; ulimit -f 40; exec";
    for (const std::string& word : predict(cta_folder(), folder / "out")) line += " '" + word + "'";
    const Finished full = run({"/bin/bash", "-c", line}, seconds(200));
    EXPECT_EQ(full.ending.exit_code, 1) << full.output;
    EXPECT_NE(full.errors.find("cardionode: "), std::string::npos);
    EXPECT_NE(full.errors.find("too large"), std::string::npos) << full.errors;
    EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(PredictFlow, InterruptedItLeavesNothing) {
    const TemporaryFolder folder;
    Process::Options options;
    options.output = folder / "log";
    fs::create_directory(folder / "results");
    Process process = Process::start(predict(cta_folder(), folder / "results" / "out"), options);
    ASSERT_TRUE(eventually(seconds(60), [&] { return !fs::is_empty(folder / "results"); }));  // it has begun
    process.signal(SIGINT);
    const auto ending = process.wait(seconds(60));
    ASSERT_TRUE(ending);
    EXPECT_EQ(ending->exit_code, 1);
    EXPECT_TRUE(fs::is_empty(folder / "results"));
}

}  // namespace
}  // namespace cardionode::test
