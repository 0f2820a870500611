// A phantom's DICOM series: what the node's own reader makes of it, and what a public validator says.
#include "pipeline/outputs/ct_series_write.h"

#include <cmath>
#include <fstream>

#include <gtest/gtest.h>

#include "pipeline/read/read_study.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

Volume small_volume() {
    const Result<Grid> grid =
        Grid::create({{-31.5, -40.25, -12.75}}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, {1.5, 1.5, 1.25}, {40, 32, 12});
    Volume v(*grid, 0.0F);
    for (std::size_t i = 0; i < v.voxels.size(); ++i)
        v.voxels[i] = i % 97 == 0 ? -2000.0F : static_cast<float>(static_cast<int>(i * 37 % 4000) - 1000) + 0.3F;
    return v;
}

CtSeriesText text() { return {"test phantom 1", "PHANTOM-1", "Phantom", "seed 1, standard, arterial", true}; }

std::vector<StudyFile> files_of(const std::filesystem::path& folder) {
    std::vector<StudyFile> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back({entry.path(), "", ""});
    return files;
}

TEST(CtSeriesWrite, TheReaderGivesBackTheSameVolume) {
    const test::TemporaryFolder folder;
    const Volume written = small_volume();
    ASSERT_TRUE(write_ct_series(written, text(), folder / "ct").ok());
    SeriesSettings settings;
    settings.min_slices = 3;
    settings.min_coverage_mm = 3;
    settings.min_field_of_view_mm = 5;
    const Result<CtSeries> read = read_study(files_of(folder / "ct"), settings);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_FALSE(read->resampled);
    EXPECT_TRUE(read->contrast_named);
    EXPECT_FALSE(read->lossy);
    const Grid &a = written.grid, &b = read->volume.grid;
    ASSERT_EQ(a.size(), b.size());
    for (int i = 0; i < 3; ++i) {
        EXPECT_NEAR(a.spacing()[i], b.spacing()[i], 1e-6);
        EXPECT_NEAR(a.origin().lps_mm[i], b.origin().lps_mm[i], 1e-6);
        for (int k = 0; k < 3; ++k) EXPECT_NEAR(a.axes()[i][k], b.axes()[i][k], 1e-6);
    }
    for (std::size_t i = 0; i < written.voxels.size(); ++i)
        ASSERT_NEAR(std::max(written.voxels[i], -1024.0F), read->volume.voxels[i], 0.5) << i;  // padding reads as air
}

TEST(CtSeriesWrite, TheSameIdentityGivesTheSameFiles) {
    const test::TemporaryFolder folder;
    CtSeriesText other = text();
    other.identity = "test phantom 2";
    ASSERT_TRUE(write_ct_series(small_volume(), text(), folder / "a").ok());
    ASSERT_TRUE(write_ct_series(small_volume(), text(), folder / "b").ok());
    ASSERT_TRUE(write_ct_series(small_volume(), other, folder / "c").ok());
    const auto bytes = [&](const char* name) {
        std::ifstream in((folder / name) / "0003.dcm", std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    EXPECT_EQ(bytes("a"), bytes("b"));
    EXPECT_NE(bytes("a"), bytes("c"));
    EXPECT_NE(bytes("a").find("PHANTOM"), std::string::npos);
}

TEST(CtSeriesWrite, RefusesWhatSixteenBitsCannotHold) {
    const test::TemporaryFolder folder;
    Volume v = small_volume();
    v.voxels[5] = 40000;
    const Result<void> written = write_ct_series(v, text(), folder / "ct");
    ASSERT_FALSE(written.ok());
    EXPECT_EQ(written.error().kind, ErrorKind::Reject);
    EXPECT_FALSE(std::filesystem::exists(folder / "ct"));
}

TEST(CtSeriesWrite, AValidatorFindsNoError) {
    if (!test::installed("dciodvfy")) GTEST_SKIP() << "dicom3tools is absent";
    const test::TemporaryFolder folder;
    ASSERT_TRUE(write_ct_series(small_volume(), text(), folder / "ct").ok());
    const test::Finished checked = test::run({"dciodvfy", ((folder / "ct") / "0002.dcm").string()});
    const std::string printed = checked.output + checked.errors;
    EXPECT_EQ(printed.find("Error"), std::string::npos) << printed;
    EXPECT_NE(printed.find("CTImage"), std::string::npos) << printed;
}

}  // namespace
}  // namespace cardionode
