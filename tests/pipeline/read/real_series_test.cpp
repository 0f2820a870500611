// Real series that stand beside the checkout, each with the outcome it must have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "pipeline/read/read_study.h"
#include "tests/support/shared_data.h"

namespace cardionode {
namespace {

using testing::Contains;
using testing::HasSubstr;

std::vector<StudyFile> files_of(const std::filesystem::path& folder) {
    std::vector<StudyFile> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().filename() != "LICENSE") files.push_back({entry.path(), "", ""});
    }
    std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.file < b.file; });
    return files;
}

ReadLimits limits() {
    ReadLimits l;
    l.decoder = std::filesystem::path(CARDIONODE_BINARY_DIR) / "cardionode-decode";
    return l;
}

/// Enough of NIfTI-1 for one 16-bit or float image with an sform.
struct Nifti {
    std::array<std::int64_t, 3> size{};
    std::array<std::array<float, 4>, 3> ras{};
    std::vector<float> values;
};
Nifti read_nifti(const std::filesystem::path& file) {
    gzFile f = gzopen(file.c_str(), "rb");
    std::vector<unsigned char> bytes;
    std::vector<unsigned char> piece(1 << 20);
    for (int n = 0; (n = gzread(f, piece.data(), static_cast<unsigned>(piece.size()))) > 0;) {
        bytes.insert(bytes.end(), piece.begin(), piece.begin() + n);
    }
    gzclose(f);
    Nifti n;
    std::array<std::int16_t, 8> dim{};
    std::int16_t type = 0;
    float offset = 0;
    float slope = 0;
    float intercept = 0;
    std::memcpy(dim.data(), &bytes[40], 16);
    std::memcpy(&type, &bytes[70], 2);
    std::memcpy(&offset, &bytes[108], 4);
    std::memcpy(&slope, &bytes[112], 4);
    std::memcpy(&intercept, &bytes[116], 4);
    std::memcpy(n.ras.data(), &bytes[280], 48);
    if (slope == 0) slope = 1;
    n.size = {dim[1], dim[2], dim[3]};
    const auto count = static_cast<std::size_t>(n.size[0] * n.size[1] * n.size[2]);
    const unsigned char* at = &bytes[static_cast<std::size_t>(offset)];
    for (std::size_t v = 0; v < count; ++v) {
        float value = 0;
        std::int16_t whole = 0;
        if (type == 16) std::memcpy(&value, at + 4 * v, 4);
        else {
            std::memcpy(&whole, at + 2 * v, 2);
            value = whole;
        }
        n.values.push_back(value * slope + intercept);
    }
    return n;
}

TEST(RealSeries, CtaIsTheVolumeItWasMadeFrom) {
    const auto folder = test::shared("data/cta");
    CARDIONODE_NEEDS(folder / "dicom");
    const auto read = read_study(files_of(folder / "dicom"), SeriesSettings{}, limits());
    ASSERT_TRUE(read.ok()) << read.error().message;
    const Nifti truth = read_nifti(folder / "cta.nii.gz");
    const Grid& g = read->volume.grid;
    ASSERT_EQ(g.voxel_count(), truth.size[0] * truth.size[1] * truth.size[2]);
    // The NIfTI file may hold its axes in another order or direction: compare by place.
    std::int64_t different = 0;
    double worst_mm = 0;
    for (std::int64_t k = 0; k < truth.size[2]; ++k) {
        for (std::int64_t j = 0; j < truth.size[1]; ++j) {
            for (std::int64_t i = 0; i < truth.size[0]; ++i) {
                Vec3 p{};
                for (std::size_t a = 0; a < 3; ++a) {
                    p[a] = truth.ras[a][0] * static_cast<double>(i) + truth.ras[a][1] * static_cast<double>(j) +
                           truth.ras[a][2] * static_cast<double>(k) + truth.ras[a][3];
                }
                const PatientPoint lps{{-p[0], -p[1], p[2]}};
                const auto at = g.nearest_voxel(lps);
                ASSERT_TRUE(at.has_value());
                worst_mm = std::max(worst_mm, distance_mm(g.to_patient(*at), lps));
                const float value = truth.values[static_cast<std::size_t>((k * truth.size[1] + j) * truth.size[0] + i)];
                if (std::abs(read->volume.at(*at) - value) > 0.5F) ++different;
            }
        }
    }
    EXPECT_LT(worst_mm, 1e-3);
    EXPECT_EQ(different, 0);
    EXPECT_FALSE(read->resampled);
    EXPECT_TRUE(read->contrast_named);
    EXPECT_THAT(read->why_chosen, HasSubstr("1.50 mm, contrast agent, 164 slices: the only CT volume"));
}

TEST(RealSeries, LowDoseChestIsRefusedForItsThickSlicesAndReadWhereTheyMayBe) {
    const auto folder = test::shared("data/chest_acrin");
    CARDIONODE_NEEDS(folder);
    const auto files = files_of(folder);
    const auto refused = read_study(files, SeriesSettings{}, limits());
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Reject);
    EXPECT_THAT(refused.error().message, HasSubstr("slices are 3.8 mm thick; at most 3.0 mm are useful"));
    SeriesSettings thick;
    thick.max_slice_thickness_mm = 4;
    const auto read = read_study(files, thick, limits());
    ASSERT_TRUE(read.ok()) << read.error().message;
    const Grid& g = read->volume.grid;
    EXPECT_EQ(g.size(), (std::array<std::int64_t, 3>{512, 512, 135}));
    EXPECT_NEAR(g.spacing()[2], 3.27, 1e-3);
    EXPECT_FALSE(read->contrast_named);
    EXPECT_THAT(read->warnings, Contains(HasSubstr("no contrast agent is named")));
    EXPECT_EQ(read->volume.at({{0, 0, 60}}), -1024.0F);  // -3024 in the corners, declared as -2000
    const auto [low, high] = std::minmax_element(read->volume.voxels.begin(), read->volume.voxels.end());
    EXPECT_GE(*low, -1500.0F);
    EXPECT_GT(*high, 700);   // bone
    EXPECT_LT(*high, 4000);  // metal at most
}

TEST(RealSeries, PlanningThoraxWithStructuresIsRead) {
    const auto folder = test::shared("data/chest_heart_rtstruct");
    CARDIONODE_NEEDS(folder);
    const auto read = read_study(files_of(folder), SeriesSettings{}, limits());
    ASSERT_TRUE(read.ok()) << read.error().message;
    const Grid& g = read->volume.grid;
    EXPECT_EQ(g.size(), (std::array<std::int64_t, 3>{512, 512, 98}));
    EXPECT_NEAR(g.origin().lps_mm[2], -122.4407, 1e-3);
    EXPECT_NEAR(g.spacing()[2], 3, 1e-4);
    EXPECT_TRUE(read->lossy);
    // The heart's middle is blood and muscle: its contour in the RTSTRUCT is centred near there.
    const auto heart = g.nearest_voxel({{10, -300, 0}});
    ASSERT_TRUE(heart.has_value());
    EXPECT_GT(read->volume.at(*heart), -1100);
    const double mean = std::accumulate(read->volume.voxels.begin(), read->volume.voxels.end(), 0.0) /
                        static_cast<double>(read->volume.voxels.size());
    EXPECT_GT(mean, -1000);
    EXPECT_LT(mean, -500);
}

TEST(RealSeries, TiltedHeadWithGapsIsRefusedWithEveryReason) {
    const auto folder = test::shared("data/geometry_tilt");
    CARDIONODE_NEEDS(folder);
    const auto read = read_study(files_of(folder), SeriesSettings{}, limits());
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Reject);
    EXPECT_THAT(read.error().message, HasSubstr("only 28 slices; at least 40 are needed"));
    EXPECT_THAT(read.error().message, HasSubstr("slices are 7.0 mm thick"));
    EXPECT_THAT(read.error().message, HasSubstr("a gap of 7.0 mm"));
}

TEST(RealSeries, ImagesWithEmptyUidsAreRefused) {
    const auto folder = test::shared("data/empty_uids");
    CARDIONODE_NEEDS(folder);
    const auto read = read_study(files_of(folder), SeriesSettings{}, limits());
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Reject);
    EXPECT_THAT(read.error().message, HasSubstr("no valid study, series or image UID"));
}

}  // namespace
}  // namespace cardionode
