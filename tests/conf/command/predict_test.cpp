// cardionode predict with the network of the flows: what it writes, from what, and that nothing is left when it fails.
#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/command/predict.h"
#include "conf/command/predict_files.h"
#include "conf/command/shipped.h"
#include "models/bundle.h"
#include "pipeline/read/nifti.h"
#include "tests/support/synthetic_ct.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const fs::path kQuickBundle = fs::path(CARDIONODE_SOURCE_DIR) / "tests/data/quick_bundle";

/// A warm ball in air: large enough for the rules of a series, small enough for seconds.
std::vector<StudyFile> write_ball(const fs::path& folder) {
    test::SyntheticSlice first;
    first.position = {-63.75, -181.25, 40};
    first.columns = 52;
    first.rows = 50;
    first.spacing = {2.5, 2.5};
    first.thickness = 2.5;
    return test::write_slices(folder, test::stack(42, 2.5, first), [](const Vec3& p) {
        const double r = norm(subtract(p, {3, -118, 90}));
        return r < 40 ? 350.0 : r < 58 ? 40.0 : -1000.0;
    });
}

/// A copy of the series with attributes changed in every file.
void copy_series(const fs::path& from, const fs::path& to, const std::vector<std::pair<DcmTagKey, std::string>>& with) {
    fs::create_directories(to);
    for (const auto& entry : fs::directory_iterator(from)) {
        DcmFileFormat file;
        ASSERT_TRUE(file.loadFile(entry.path().c_str()).good());
        for (const auto& [tag, value] : with) {
            ASSERT_TRUE(file.getDataset()->putAndInsertString(tag, value.c_str()).good());
            if (tag == DCM_SOPClassUID) {
                ASSERT_TRUE(file.getMetaInfo()->putAndInsertString(DCM_MediaStorageSOPClassUID, value.c_str()).good());
            }
        }
        ASSERT_TRUE(file.saveFile((to / entry.path().filename()).c_str()).good());
    }
}

class Predict : public ::testing::Test {
protected:
    /// One CT for all tests of this program, as DICOM and as NIfTI.
    static void SetUpTestSuite() {
        files_ = new test::TemporaryFolder();
        fs::create_directory(*files_ / "raw");
        const auto series = read_study(write_ball(*files_ / "raw"), SeriesSettings{});
        ASSERT_TRUE(series.ok()) << series.error().message;
        ASSERT_TRUE(write_nifti(series->volume, *files_ / "ct.nii.gz").ok());
        copy_series(*files_ / "raw", *files_ / "dicom",
                    {{DCM_SpecificCharacterSet, "ISO_IR 100"}, {DCM_PatientName, "Phantom^J\xF6rg"}});
    }
    static void TearDownTestSuite() { delete files_; }
    static fs::path dicom() { return *files_ / "dicom"; }
    static fs::path nifti() { return *files_ / "ct.nii.gz"; }

    PredictOptions options(const fs::path& input) {
        PredictOptions options;
        options.input = input;
        options.output = folder_ / "out";
        options.bundle = kQuickBundle;
        options.device = "cpu";
        options.threads = 1;
        return options;
    }
    /// The refusal of a run that must fail, after which the folder for results is as it was before.
    Error refusal(const PredictOptions& options) {
        const auto before = names(options.output.parent_path());
        const auto result = run_predict(options);
        EXPECT_FALSE(result.ok());
        EXPECT_EQ(names(options.output.parent_path()), before) << "something was left";
        return result.ok() ? bug_error("it worked") : result.error();
    }
    static std::vector<std::string> names(const fs::path& folder) {
        std::vector<std::string> all;
        std::error_code absent;
        for (fs::recursive_directory_iterator at(folder, absent), end; !absent && at != end; ++at)
            all.push_back(fs::relative(at->path(), folder).string());
        std::sort(all.begin(), all.end());
        return all;
    }
    nlohmann::json json(const fs::path& file) { return nlohmann::json::parse(read_file(file).value()); }

    static inline test::TemporaryFolder* files_ = nullptr;
    test::TemporaryFolder folder_;
};

TEST_F(Predict, DicomGivesEveryResultAndTheNiftiOfItTheSameFindings) {
    const auto from_dicom = run_predict(options(dicom()));
    ASSERT_TRUE(from_dicom.ok()) << from_dicom.error().message;
    auto second = options(nifti());
    second.output = folder_ / "out2";
    const auto from_nifti = run_predict(second);
    ASSERT_TRUE(from_nifti.ok()) << from_nifti.error().message;

    const fs::path a = folder_ / "out", b = folder_ / "out2";
    for (const char* name :
         {"report.html", "overview.png", "landmarks.json", "measurements.json", "measurements.csv", "run.json"}) {
        EXPECT_GT(fs::file_size(a / name), 0U) << name;
        EXPECT_GT(fs::file_size(b / name), 0U) << name;
    }
    EXPECT_EQ(json(a / "landmarks.json"), json(b / "landmarks.json"));
    EXPECT_EQ(json(a / "measurements.json")["measurements"], json(b / "measurements.json")["measurements"]);
    EXPECT_EQ(json(a / "landmarks.json")["landmarks"].size(), 7U);
    for (const auto& landmark : json(a / "landmarks.json")["landmarks"])
        EXPECT_NE(landmark["found"].get<bool>(), landmark["lps_mm"].is_null());
    const auto heart = read_nifti_labels(a / "heart.nii.gz");
    if (heart.ok()) {  // random weights may see no heart
        EXPECT_EQ(heart->voxels, read_nifti_labels(b / "heart.nii.gz")->voxels);
        EXPECT_TRUE(heart->grid.same_as(read_nifti_ct(nifti())->grid));
    }

    // SEG (where there are labels), SR and key images for DICOM; a sentence instead for NIfTI.
    EXPECT_TRUE(fs::exists(a / "dicom" / "sr_landmarks.dcm"));
    EXPECT_FALSE(fs::exists(b / "dicom"));
    EXPECT_THAT(*from_nifti, HasSubstr("no DICOM SEG and SR"));
    EXPECT_THAT(*from_nifti, HasSubstr("NIfTI file, 52 x 50 x 42 voxels of 2.50 x 2.50 x 2.50 mm"));
    EXPECT_THAT(*from_dicom, HasSubstr((folder_ / "out" / "report.html").string()));
    // Every other file is named in run.json.
    const auto run = json(a / "run.json");
    std::vector<std::string> written;
    for (const std::string& name : names(a)) {
        if (fs::is_regular_file(a / name) && name != "run.json") written.push_back(name);
    }
    EXPECT_THAT(run["files"].get<std::vector<std::string>>(), ::testing::UnorderedElementsAreArray(written));
    EXPECT_EQ(run["model"]["sha256"], load_bundle(kQuickBundle)->manifest.weights.sha256);
    EXPECT_EQ(names(folder_.path()).front(), "out");  // no hidden folder is left
}

TEST_F(Predict, NoIdentityOfThePatientUnlessItIsAskedFor) {
    auto o = options(dicom());
    ASSERT_TRUE(run_predict(o).ok());
    for (const std::string& name : names(folder_ / "out")) {
        if (!fs::is_regular_file(folder_ / "out" / name) || name.ends_with(".dcm")) continue;
        EXPECT_THAT(read_file(folder_ / "out" / name).value(), Not(HasSubstr("Phantom"))) << name;
    }
    o.overwrite = true;
    o.with_identity = true;
    ASSERT_TRUE(run_predict(o).ok());
    // The fixture's name is Latin-1; the page is UTF-8.
    EXPECT_THAT(read_file(folder_ / "out" / "report.html").value(), HasSubstr("<b>Phantom, J\xC3\xB6rg</b>"));
}

TEST_F(Predict, APermutedNiftiGivesTheSamePlaces) {
    // The same voxels in another order: axes as slices from the left, rows from the head.
    const Volume ct = read_nifti_ct(nifti()).value();
    const auto& axes = ct.grid.axes();
    const auto& size = ct.grid.size();
    const auto minus = [](const Vec3& v) { return scale(v, -1); };
    const PatientPoint corner = ct.grid.to_patient(VoxelIndex{{size[0] - 1, 0, size[2] - 1}});
    Volume turned(
        Grid::create(corner, {axes[1], minus(axes[2]), minus(axes[0])}, {2.5, 2.5, 2.5}, {size[1], size[2], size[0]})
            .value(),
        0.0F);
    for (std::int64_t k = 0; k < size[0]; ++k)
        for (std::int64_t j = 0; j < size[2]; ++j)
            for (std::int64_t i = 0; i < size[1]; ++i)
                turned.at({{i, j, k}}) = ct.at({{size[0] - 1 - k, i, size[2] - 1 - j}});
    ASSERT_TRUE(write_nifti(turned, folder_ / "turned.nii").ok());
    auto a = options(nifti()), b = options(folder_ / "turned.nii");
    b.output = folder_ / "out2";
    ASSERT_TRUE(run_predict(a).ok());
    ASSERT_TRUE(run_predict(b).ok());
    EXPECT_EQ(json(a.output / "landmarks.json"), json(b.output / "landmarks.json"));
    const auto upright = read_nifti_labels(a.output / "heart.nii.gz");
    if (!upright.ok()) return;
    const auto other = read_nifti_labels(b.output / "heart.nii.gz");
    for (std::int64_t k = 0; k < size[0]; ++k)
        for (std::int64_t j = 0; j < size[2]; ++j)
            for (std::int64_t i = 0; i < size[1]; ++i)
                ASSERT_EQ(other->at({{i, j, k}}), upright->at({{size[0] - 1 - k, i, size[2] - 1 - j}}));
}

TEST_F(Predict, AFileOfASeriesStandsForTheSeries) {
    fs::path file;
    for (const auto& entry : fs::directory_iterator(dicom())) file = entry.path();
    ASSERT_TRUE(run_predict(options(file)).ok());
    EXPECT_EQ(json(folder_ / "out" / "run.json")["images"]["kind"], "DICOM");
}

TEST_F(Predict, PathsThatAreWrongAreNamed) {
    const Error absent = refusal(options("/no/such/file.nii.gz"));
    EXPECT_EQ(absent.kind, ErrorKind::Config);
    EXPECT_THAT(absent.message, HasSubstr("/no/such/file.nii.gz: No such file"));

    fs::create_directory(folder_ / "empty");
    EXPECT_THAT(refusal(options(folder_ / "empty")).message, HasSubstr("the folder is empty"));

    fs::create_directory(folder_ / "letters");
    std::ofstream(folder_ / "letters" / "letter.txt") << "Dear colleague";
    EXPECT_THAT(refusal(options(folder_ / "letters")).message, HasSubstr("no DICOM file (1 other file)"));
    EXPECT_THAT(refusal(options(folder_ / "letters" / "letter.txt")).message,
                HasSubstr("letter.txt: the file ends within its header"));

    auto o = options(nifti());
    o.output = folder_ / "absent" / "out";
    EXPECT_THAT(refusal(o).message, HasSubstr("No such file or directory"));
    EXPECT_EQ(refusal(o).kind, ErrorKind::Config);
    std::ofstream(folder_ / "file") << "x";
    o.output = folder_ / "file";
    EXPECT_THAT(refusal(o).message, HasSubstr("is there already and is no folder"));
}

TEST_F(Predict, ModelsThatAreWrongAreNamed) {
    auto o = options(nifti());
    o.bundle = folder_ / "absent";
    EXPECT_EQ(refusal(o).kind, ErrorKind::Config);
    EXPECT_THAT(refusal(o).message, HasSubstr("model bundle " + o.bundle.string()));
    fs::copy(kQuickBundle, folder_ / "bundle");
    std::ofstream(folder_ / "bundle" / "weights.safetensors", std::ios::app) << "x";
    o.bundle = folder_ / "bundle";
    EXPECT_EQ(refusal(o).kind, ErrorKind::Config);
    EXPECT_THAT(refusal(o).message, HasSubstr("the weights are damaged or belong to another manifest"));
    o.bundle = kQuickBundle;
    o.device = "abacus";
    EXPECT_EQ(refusal(o).kind, ErrorKind::Config);
}

TEST_F(Predict, ADamagedNiftiIsRefused) {
    std::string bytes = read_file(nifti()).value();
    std::ofstream(folder_ / "cut.nii.gz", std::ios::binary) << bytes.substr(0, bytes.size() / 2);
    const Error cut = refusal(options(folder_ / "cut.nii.gz"));
    EXPECT_EQ(cut.kind, ErrorKind::Reject);
    EXPECT_THAT(cut.message, HasSubstr("cut.nii.gz: the file ends before its voxels do"));
    Volume thick(Grid::create({}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, {1, 1, 5}, {40, 40, 40}).value(), -1000.0F);
    thick.voxels[7] = 500;
    ASSERT_TRUE(write_nifti(thick, folder_ / "thick.nii").ok());
    EXPECT_THAT(refusal(options(folder_ / "thick.nii")).message, HasSubstr("5.0 mm long; at most 3.0 mm are useful"));
}

TEST_F(Predict, ImagesThatAreNoCtAreRefused) {
    copy_series(dicom(), folder_ / "mr", {{DCM_SOPClassUID, UID_MRImageStorage}, {DCM_Modality, "MR"}});
    const Error mr = refusal(options(folder_ / "mr"));
    EXPECT_EQ(mr.kind, ErrorKind::Reject);
    EXPECT_THAT(mr.message, HasSubstr("no CT images (42 MR)"));
}

TEST_F(Predict, AFolderOfManyStudiesAsksWhichOne) {
    fs::create_directory(folder_ / "dvd");
    fs::copy(dicom(), folder_ / "dvd" / "a", fs::copy_options::recursive);
    copy_series(dicom(), folder_ / "dvd" / "b",
                {{DCM_StudyInstanceUID, "2.25.7771"}, {DCM_SeriesInstanceUID, "2.25.7772"}, {DCM_SeriesNumber, "9"}});
    auto o = options(folder_ / "dvd");
    const Error which = refusal(o);
    EXPECT_EQ(which.kind, ErrorKind::Reject);
    EXPECT_THAT(which.message, HasSubstr("CT images of 2 studies; choose one with --study NUMBER"));
    EXPECT_THAT(which.message, HasSubstr("1  in a: series"));
    EXPECT_THAT(which.message, HasSubstr("2  in b: series 9"));
    EXPECT_THAT(which.message, Not(HasSubstr("Phantom")));
    o.choice.study = 3;
    EXPECT_THAT(refusal(o).message, HasSubstr("no study 3; the folder holds 2"));
    o.choice.study = 2;
    o.choice.series = 5;
    EXPECT_THAT(refusal(o).message, HasSubstr("no series 5; the study has: series 9"));
    o.choice.series = 9;
    EXPECT_TRUE(run_predict(o).ok());
}

TEST_F(Predict, ResultsAreReplacedOnlyWhenAskedAndNothingElseIs) {
    auto o = options(nifti());
    fs::create_directory(o.output);
    ASSERT_TRUE(run_predict(o).ok()) << "an empty folder is as good as none";
    const Error again = refusal(o);
    EXPECT_EQ(again.kind, ErrorKind::Config);
    EXPECT_THAT(again.message, HasSubstr("is not empty; name another folder, or give --overwrite"));
    std::ofstream(o.output / "overview.png") << "old";
    o.overwrite = true;
    ASSERT_TRUE(run_predict(o).ok());
    EXPECT_GT(fs::file_size(o.output / "overview.png"), 1000U);
    EXPECT_EQ(names(folder_.path()).front(), "out");
    std::ofstream(o.output / "thesis.doc") << "years of work";
    EXPECT_THAT(refusal(o).message, HasSubstr("other files than results"));
    EXPECT_TRUE(fs::exists(o.output / "thesis.doc"));
}

TEST_F(Predict, StoppedAtAnyMomentItLeavesNothing) {
    int asked = 0;
    auto o = options(dicom());
    o.stop = [&] {
        ++asked;
        return false;
    };
    ASSERT_TRUE(run_predict(o).ok());
    fs::remove_all(o.output);
    for (const int when : {1, 50, 90, asked - 2, asked - 1, asked}) {
        int n = 0;
        o.stop = [&] { return ++n >= when; };
        const Error stopped = refusal(o);
        EXPECT_EQ(stopped.kind, ErrorKind::Retry) << when;
        EXPECT_THAT(stopped.message, HasSubstr("cancelled")) << when;
    }
}

TEST_F(Predict, TheCsvCanBeReadBack) {
    Findings findings;
    findings.measurements.push_back({"a_mm", "A, \"quoted\"", {}, {"mm", "UCUM", "mm"}, 1.25, "x,y", ""});
    const std::string csv = measurements_csv(findings);
    EXPECT_THAT(csv, StartsWith("name,title,value,unit,"));
    EXPECT_THAT(csv, HasSubstr("a_mm,\"A, \"\"quoted\"\"\",1.25,mm,"));
    EXPECT_THAT(csv, HasSubstr("\"x,y\""));
}

TEST(ShippedBundle, IsFoundInTheSourceTreeOfAFreshBuild) {
    EXPECT_TRUE(load_bundle(shipped_bundle()).ok()) << shipped_bundle();
}

}  // namespace
}  // namespace cardionode
