#include "pipeline/prepare/prepare_study.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "conf/base/files.h"
#include "models/train/phantom_files.h"
#include "pipeline/preprocess/preprocess.h"
#include "pipeline/read/nifti.h"
#include "pipeline/read/patient_hash.h"
#include "tests/support/synthetic_ct.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

constexpr const char* kRecipe = R"(
window: [16, 16, 16]
architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}
input: {spacing_mm: 3, hu_low: -250, hu_high: 1000, mean: 100, sd: 250}
heads: [{name: heart, classes: 2}, {name: hps, classes: 5}, {name: ms, classes: 2}]
phantoms: {ball_radius_mm: 7, septum_ball_radius_mm: 4}
)";

double field(const Vec3& p) { return std::round(200 + 3 * p[0] + 2 * p[1] - p[2]); }

class Prepare : public ::testing::Test {
protected:
    void SetUp() override {
        std::ofstream(folder / "r.yaml") << kRecipe;
        recipe = *train::load_recipe(folder / "r.yaml");
        dicom = folder.path() / "dicom";
        ASSERT_TRUE(make_folder(dicom).ok());
    }
    /// 60 slices of 2 mm, 80 x 72 voxels.
    std::vector<StudyFile> write_series() {
        test::SyntheticSlice first;
        first.position = {-70, -60, 40};
        first.columns = 80, first.rows = 72;
        first.spacing = {1.8, 1.9};
        first.thickness = 2;
        return test::write_slices(dicom, test::stack(60, 2, first), field);
    }
    /// The same CT as NIfTI.
    Volume write_nifti_ct(const std::filesystem::path& to) {
        EXPECT_TRUE(make_folder(to).ok());
        const Grid grid =
            *Grid::create({{-70, -60, 40}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {2, 2, 2}, {60, 50, 40});
        Volume ct(grid, 0.0F);
        for (std::int64_t k = 0; k < 40; ++k) {
            for (std::int64_t j = 0; j < 50; ++j) {
                for (std::int64_t i = 0; i < 60; ++i) {
                    const VoxelIndex at{{i, j, k}};
                    ct.at(at) = static_cast<float>(field(grid.to_patient(at).lps_mm));
                }
            }
        }
        EXPECT_TRUE(write_nifti(ct, to / "ct.nii.gz").ok());
        return ct;
    }
    test::TemporaryFolder folder;
    std::filesystem::path dicom;
    train::Recipe recipe;
    std::vector<std::string> remarks;
};

TEST_F(Prepare, AStudyHoldsTheVoxelsThatTheNetworkGetsBitForBit) {
    const std::vector<StudyFile> files = write_series();
    const Result<train::Study> study = prepare_study(dicom, recipe, "", remarks);
    ASSERT_TRUE(study.ok()) << study.error().message;
    const Result<CtSeries> series = read_study(files, SeriesSettings{});
    ASSERT_TRUE(series.ok()) << series.error().message;
    const Result<Volume> image = to_network_grid(series->volume, recipe.input);  // as pipeline/runner does
    ASSERT_TRUE(image.ok());
    EXPECT_EQ(study->image, image->voxels);
    const train::Sides size = {image->grid.size()[2], image->grid.size()[1], image->grid.size()[0]};
    EXPECT_EQ(study->facts.size, size);
    EXPECT_EQ(study->facts.origin_lps_mm, image->grid.origin().lps_mm);
    EXPECT_TRUE(study->labels.empty());

    PrepareOptions options{folder / "r.yaml", folder / "out", {dicom}, "", false, {}};
    ASSERT_TRUE(prepare_studies(options).ok());
    const auto name = train::hash_of_voxels(study->image).substr(0, 16) + ".safetensors";
    const Result<train::StudyFile> file = train::StudyFile::open(folder / ("out/" + name));
    ASSERT_TRUE(file.ok()) << file.error().message;
    EXPECT_EQ(*file->image({}, size, 0), image->voxels) << "from the disk as well";
}

TEST_F(Prepare, OnePatientHasOneHashWhateverTheStudy) {
    const std::vector<StudyFile> files = write_series();
    const Result<std::string> hash = patient_hash(files[0].file, 1 << 30), other = patient_hash(files[9].file, 1 << 30);
    ASSERT_TRUE(hash.ok()) << hash.error().message;
    EXPECT_EQ(*hash, *other);
    EXPECT_EQ(hash->size(), 64u);
    std::ofstream(folder / "junk.dcm") << "no DICOM";
    EXPECT_FALSE(patient_hash(folder / "junk.dcm", 1 << 30).ok());
}

TEST_F(Prepare, LabelsOfAnyGridAndPointsLandInThePatientsPlace) {
    const auto in = folder.path() / "case";
    write_nifti_ct(in);
    // Labels on a grid of their own: 1 mm voxels in a part of the patient.
    const Grid fine =
        *Grid::create({{-40, -30, 60}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {1, 1, 1}, {30, 24, 20});
    ASSERT_TRUE(write_nifti(LabelMap(fine, std::uint8_t{2}), in / "heart.nii.gz").ok());
    std::ofstream(in / "phantom.json")
        << R"({"contrast_agent": true, "points": [{"head": "hps", "name": "hinge_left", "value": 2,
               "lps_mm": [-20, -10, 80], "inside": true}]})";
    const Result<train::Study> study = prepare_study(in, recipe, "", remarks);
    ASSERT_TRUE(study.ok()) << study.error().message;
    ASSERT_EQ(study->labels.size(), 2u) << "ms has no label";
    const auto& size = study->facts.size;
    std::size_t at = 0, heart = 0, ball = 0;
    for (std::int64_t z = 0; z < size[0]; ++z) {
        for (std::int64_t y = 0; y < size[1]; ++y) {
            for (std::int64_t x = 0; x < size[2]; ++x, ++at) {
                const Vec3 p = {study->facts.origin_lps_mm[0] + 3.0 * static_cast<double>(x),
                                study->facts.origin_lps_mm[1] + 3.0 * static_cast<double>(y),
                                study->facts.origin_lps_mm[2] + 3.0 * static_cast<double>(z)};
                const double r = norm(subtract(p, {-20, -10, 80}));
                EXPECT_EQ(study->labels.at("hps")[at], r <= 7 ? 2 : 0);
                ball += study->labels.at("hps")[at] == 2;
                const bool in_box = p[0] >= -40 && p[0] <= -11 && p[1] >= -30 && p[1] <= -7 && p[2] >= 60 && p[2] <= 79;
                if (in_box) {
                    EXPECT_EQ(study->labels.at("heart")[at], 2);
                }
                heart += study->labels.at("heart")[at] == 2;
            }
        }
    }
    EXPECT_NEAR(static_cast<double>(ball) * 27, 4.0 / 3 * 3.1416 * 343, 250);
    EXPECT_NEAR(static_cast<double>(heart) * 27, 30 * 24 * 20, 2500);

    std::ofstream(in / "phantom.json") << R"({"contrast_agent": false, "points": [{"head": "hps", "name": "x",
        "value": 2, "lps_mm": [-20, -10, 80]}]})";
    const Result<train::Study> native = prepare_study(in, recipe, "", remarks);
    ASSERT_TRUE(native.ok());
    const auto& labels = native->labels.at("hps");
    EXPECT_EQ(*std::max_element(labels.begin(), labels.end()), 0) << "labelled, and nothing to be seen";
}

TEST_F(Prepare, ReadsWhatThePhantomCommandWrites) {
    train::Phantom phantom;
    phantom.grid.size = {20, 24, 28};
    phantom.grid.spacing = 3;
    phantom.grid.origin = {-40, -30, 10};
    phantom.hu.assign(phantom.grid.voxels(), 40);
    phantom.hu[1] = 300;  // x fastest
    for (auto* labels : {&phantom.heart, &phantom.hps, &phantom.ms, &phantom.calc})
        labels->assign(phantom.grid.voxels(), 0);
    phantom.heart[2] = 2;
    phantom.points.push_back({"hps", "ostium_left", 5, {-10, 0, 40}, true});
    const Result<void> written = train::write_phantom(phantom, 7, folder / "phantom");
    ASSERT_TRUE(written.ok()) << written.error().message;
    const Result<train::Study> study = prepare_study(folder / "phantom", recipe, "", remarks);
    ASSERT_TRUE(study.ok()) << study.error().message;
    EXPECT_EQ(study->facts.size, (train::Sides{20, 24, 28}));
    EXPECT_NEAR(study->facts.origin_lps_mm[0], -40, 1e-4);
    EXPECT_NEAR(study->facts.origin_lps_mm[1], -30, 1e-4);
    EXPECT_NEAR(study->facts.origin_lps_mm[2], 10, 1e-4);
    EXPECT_NEAR(study->image[1], (300 - 100) / 250.0, 1e-6);
    EXPECT_NEAR(study->image[0], (40 - 100) / 250.0, 1e-6);
    EXPECT_EQ(study->labels.at("heart")[2], 2);
    const std::size_t centre = (10 * 24 + 10) * 28 + 10;  // (-10, 0, 40)
    EXPECT_EQ(study->labels.at("hps")[centre], 5);
    EXPECT_EQ(study->labels.count("ms"), 1u) << "labelled, though nothing is there";
}

std::string mps(int points, const std::string& geometry = {}) {
    std::string text =
        "<?xml version=\"1.0\"?><point_set_file><file_version>0.1</file_version><point_set><time_series>"
        "<time_series_id>0</time_series_id>" +
        geometry;
    for (int i = 0; i < points; ++i) {
        text += "<point><id>" + std::to_string(i) + "</id><specification>0</specification><x>" +
                std::to_string(-20 - 4 * i) + ".5</x><y>-1.0e1</y><z>80</z></point>";
    }
    return text + "</time_series></point_set></point_set_file>";
}

TEST_F(Prepare, ReadsMitkPointSets) {
    const auto in = folder.path() / "case";
    write_nifti_ct(in);
    std::ofstream(in / "hps.mps") << mps(5);
    std::ofstream(in / "ms.mps") << mps(1);
    const auto points = read_mps(in / "hps.mps");
    ASSERT_TRUE(points.ok()) << points.error().message;
    ASSERT_EQ(points->size(), 5u);
    EXPECT_EQ((*points)[1].lps_mm, (Vec3{-24.5, -10, 80}));
    const Result<train::Study> study = prepare_study(in, recipe, "", remarks);
    ASSERT_TRUE(study.ok()) << study.error().message;
    EXPECT_EQ(study->labels.count("hps"), 1u);
    EXPECT_EQ(study->labels.count("ms"), 0u) << "one of two points: which one cannot be seen";
    ASSERT_EQ(remarks.size(), 1u);
    EXPECT_NE(remarks[0].find("ms.mps"), std::string::npos) << remarks[0];
    std::ofstream(in / "ms.mps") << mps(
        2, "<Geometry3D><IndexToWorld m_0_0=\"1\" m_0_1=\"0\"/><Offset x=\"3\"/></Geometry3D>");
    EXPECT_FALSE(read_mps(in / "ms.mps").ok()) << "a geometry moves the points";
    std::ofstream(in / "ms.mps") << "<point_set><point><id>0</id><x>1</x></point>";
    EXPECT_FALSE(prepare_study(in, recipe, "", remarks).ok());
}

TEST_F(Prepare, ABadInputIsNamedAndDoesNotKeepTheOthersFromBeingWritten) {
    write_nifti_ct(folder.path() / "good");
    ASSERT_TRUE(make_folder(folder / "empty").ok());
    std::string said;
    PrepareOptions options{folder / "r.yaml",
                           folder / "out",
                           {folder / "empty", folder / "good"},
                           "",
                           false,
                           [&](const std::string& line) { said += line + "\n"; }};
    const Result<void> done = prepare_studies(options);
    ASSERT_FALSE(done.ok());
    EXPECT_NE(done.error().message.find("1 of 2"), std::string::npos);
    EXPECT_NE(said.find("empty: neither ct.nii.gz nor DICOM files"), std::string::npos) << said;
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "out"), {}), 1);
    // A label that the recipe has no class for is refused, not cut.
    const Grid grid =
        *Grid::create({{-70, -60, 40}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {2, 2, 2}, {60, 50, 40});
    ASSERT_TRUE(write_nifti(LabelMap(grid, std::uint8_t{3}), folder / "good/heart.nii.gz").ok());
    const Result<train::Study> wrong = prepare_study(folder / "good", recipe, "", remarks);
    ASSERT_FALSE(wrong.ok());
    EXPECT_NE(wrong.error().message.find("heart holds label 3"), std::string::npos) << wrong.error().message;
}

}  // namespace
}  // namespace cardionode
