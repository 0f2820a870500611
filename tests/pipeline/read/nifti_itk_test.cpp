// The NIfTI reader and writer against ITK's, which this project does not use otherwise, and against the real CTA.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <itkImage.h>
#include <itkImageFileReader.h>
#include <itkImageFileWriter.h>
#include <itkNiftiImageIO.h>

#include <algorithm>
#include <fstream>

#include "conf/base/files.h"
#include "pipeline/read/nifti.h"
#include "pipeline/read/read_study.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using testing::IsEmpty;

class NiftiWithItk : public testing::Test {
protected:
    test::TemporaryFolder folder_;
};

Vec3 place(const Grid& grid, std::int64_t i, std::int64_t j, std::int64_t k) {
    return grid.to_patient(VoxelIndex{{i, j, k}}).lps_mm;
}

using ItkImage = itk::Image<float, 3>;

ItkImage::Pointer itk_read(const std::filesystem::path& file) {
    auto reader = itk::ImageFileReader<ItkImage>::New();
    reader->SetImageIO(itk::NiftiImageIO::New());
    reader->SetFileName(file.string());
    reader->Update();
    return reader->GetOutput();
}

void expect_same(const Volume& ours, const ItkImage& theirs) {
    for (std::int64_t k = 0; k < ours.grid.size()[2]; ++k) {
        for (std::int64_t j = 0; j < ours.grid.size()[1]; ++j) {
            for (std::int64_t i = 0; i < ours.grid.size()[0]; ++i) {
                const ItkImage::IndexType index = {{i, j, k}};
                ASSERT_EQ(theirs.GetPixel(index), ours.at({{i, j, k}})) << i << " " << j << " " << k;
                ItkImage::PointType point;
                theirs.TransformIndexToPhysicalPoint(index, point);
                const Vec3 here = place(ours.grid, i, j, k);
                for (unsigned a = 0; a < 3; ++a) ASSERT_NEAR(point[a], here[a], 2e-4);
            }
        }
    }
}

/// Grids of every kind: upright, permuted, left-handed, oblique, half a turn about each axis.
std::vector<Grid> grids() {
    const Vec3 x = {1, 0, 0}, y = {0, 1, 0}, z = {0, 0, 1};
    const auto minus = [](const Vec3& v) { return scale(v, -1); };
    const Vec3 u = normalised({0.8, 0.5, -0.2}), v = normalised(cross({0.1, 0.2, 1}, u)), w = cross(u, v);
    std::vector<Grid> all;
    for (const auto& axes : std::vector<std::array<Vec3, 3>>{{x, y, z},
                                                             {x, minus(y), minus(z)},
                                                             {minus(x), y, minus(z)},
                                                             {minus(x), minus(y), z},
                                                             {y, z, x},
                                                             {z, minus(y), x},
                                                             {x, y, minus(z)},
                                                             {minus(x), y, z},
                                                             {u, v, w},
                                                             {u, minus(v), w},
                                                             {v, minus(u), minus(w)}}) {
        all.push_back(Grid::create({{-100.5, 31.25, 640}}, axes, {0.5, 0.75, 1.5}, {5, 4, 3}).value());
    }
    return all;
}

TEST_F(NiftiWithItk, WhatIsWrittenIsReadBackHereAndByItk) {
    int number = 0;
    for (const Grid& grid : grids()) {
        SCOPED_TRACE("grid " + std::to_string(number++));
        for (const float step : {1.0F, 0.25F}) {  // int16, float32
            Volume ct(grid, 0.0F);
            for (std::size_t n = 0; n < ct.voxels.size(); ++n) ct.voxels[n] = static_cast<float>(n) * step * 120 - 1024;
            ct.voxels[1] += step / 2 - 0.5F;
            const auto file = folder_ / (step < 1 ? "a.nii" : "b.nii.gz");
            ASSERT_TRUE(write_nifti(ct, file).ok());
            std::vector<std::string> warnings;
            const auto back = read_nifti_ct(file, &warnings);
            ASSERT_TRUE(back.ok()) << back.error().message;
            EXPECT_TRUE(back->grid.same_as(grid, 2e-4));
            EXPECT_EQ(back->voxels, ct.voxels);
            EXPECT_THAT(warnings, IsEmpty());  // sform, qform and voxel sizes agree
            expect_same(ct, *itk_read(file));
        }
    }
}

TEST_F(NiftiWithItk, TheQformAloneSaysTheSame) {
    int number = 0;
    for (const Grid& grid : grids()) {
        SCOPED_TRACE("grid " + std::to_string(number++));
        const auto file = folder_ / "labels.nii";
        ASSERT_TRUE(write_nifti(LabelMap(grid, std::uint8_t{7}), file).ok());
        std::string bytes = read_file(file).value();
        bytes[254] = 0;
        std::ofstream(file, std::ios::binary) << bytes;
        const auto back = read_nifti_labels(file);
        ASSERT_TRUE(back.ok()) << back.error().message;
        EXPECT_TRUE(back->grid.same_as(grid, 1e-3));
        EXPECT_EQ(back->voxels, std::vector<std::uint8_t>(60, 7));
    }
}

TEST_F(NiftiWithItk, WhatItkWritesIsReadHere) {
    for (const Grid& grid : grids()) {
        auto image = ItkImage::New();
        image->SetRegions(ItkImage::SizeType{{5, 4, 3}});
        image->Allocate();
        image->SetSpacing(itk::Vector<double, 3>(grid.spacing().data()));
        image->SetOrigin(itk::Point<double, 3>(grid.origin().lps_mm.data()));
        ItkImage::DirectionType direction;
        for (unsigned c = 0; c < 3; ++c)
            for (unsigned r = 0; r < 3; ++r) direction[r][c] = grid.axes()[c][r];
        image->SetDirection(direction);
        for (int n = 0; n < 60; ++n) image->GetBufferPointer()[n] = static_cast<float>(n * n) - 900.5F;
        auto writer = itk::ImageFileWriter<ItkImage>::New();
        writer->SetImageIO(itk::NiftiImageIO::New());
        writer->SetFileName((folder_ / "itk.nii.gz").string());
        writer->SetInput(image);
        writer->Update();
        const auto read = read_nifti_ct(folder_ / "itk.nii.gz");
        ASSERT_TRUE(read.ok()) << read.error().message;
        EXPECT_TRUE(read->grid.same_as(grid, 1e-3));
        expect_same(*read, *image);
    }
}

TEST_F(NiftiWithItk, NothingIsLeftWhereWritingFails) {
    const LabelMap labels(grids()[0], std::uint8_t{1});
    EXPECT_FALSE(write_nifti(labels, folder_ / "absent" / "x.nii.gz").ok());
    EXPECT_FALSE(std::filesystem::exists(folder_ / "absent"));
    EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(NiftiWithItk, TheRealCtaIsTheSameFromNiftiAndFromDicom) {
    const auto cta = test::shared("data/cta");
    CARDIONODE_NEEDS(cta / "dicom");
    std::vector<std::string> warnings;
    const auto nifti = read_nifti_ct(cta / "cta.nii.gz", &warnings);
    ASSERT_TRUE(nifti.ok()) << nifti.error().message;
    EXPECT_THAT(warnings, IsEmpty());
    std::vector<StudyFile> files;
    for (const auto& entry : std::filesystem::directory_iterator(cta / "dicom"))
        files.push_back({entry.path(), "", ""});
    ReadLimits limits;
    limits.decoder = std::filesystem::path(CARDIONODE_BINARY_DIR) / "cardionode-decode";
    const auto dicom = read_study(files, SeriesSettings{}, limits);
    ASSERT_TRUE(dicom.ok()) << dicom.error().message;
    ASSERT_EQ(nifti->grid.voxel_count(), dicom->volume.grid.voxel_count());
    std::int64_t different = 0;
    double worst_mm = 0;
    const auto& size = nifti->grid.size();
    for (std::int64_t k = 0; k < size[2]; ++k) {
        for (std::int64_t j = 0; j < size[1]; ++j) {
            for (std::int64_t i = 0; i < size[0]; ++i) {
                const PatientPoint here = nifti->grid.to_patient(VoxelIndex{{i, j, k}});
                const auto there = dicom->volume.grid.nearest_voxel(here);
                ASSERT_TRUE(there);
                worst_mm = std::max(worst_mm, distance_mm(here, dicom->volume.grid.to_patient(*there)));
                if (dicom->volume.at(*there) != nifti->at({{i, j, k}})) ++different;
            }
        }
    }
    EXPECT_EQ(different, 0);
    EXPECT_LT(worst_mm, 0.01);
    ASSERT_TRUE(read_nifti_labels(cta / "masks" / "aorta.nii.gz").ok());
    EXPECT_TRUE(read_nifti_labels(cta / "masks" / "aorta.nii.gz")->grid.same_as(nifti->grid, 0.01));
}

}  // namespace
}  // namespace cardionode
