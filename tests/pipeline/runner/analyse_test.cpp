#include "pipeline/runner/analyse.h"

#include <map>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "pipeline/runner/report.h"
#include "tests/pipeline/runner/ct_study.h"
#include "tests/support/heart_phantom.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

class Analyse : public testing::Test {
protected:
    Analyse() {
        input_.study_key = "S1";
        input_.moment = Moment(Milliseconds(1'700'000'000'000));
        settings_.work_folder = folder_ / "work";
        settings_.device_name = "NODE";
        settings_.software_version = "0.1.0";
        manifest_.input.mean = 100;
        manifest_.input.sd = 200;
    }
    void add_ct(float blood_hu = 350) {
        for (const auto& i : write_ct_study(folder_.path(), "heart", contrast_ct(blood_hu, 2), input_.moment)) {
            input_.files.push_back({folder_ / i.file, i.sop_class_uid, i.modality});
        }
    }
    Result<Analysis> run(const Cancelled& cancelled = {}) {
        return analyse(input_, settings_, manifest_, model_, cancelled);
    }

    TemporaryFolder folder_;
    StudyInput input_;
    AnalysisSettings settings_;
    BundleManifest manifest_ = manifest();
    Model model_ = [](const Volume&, const Progress&) -> Result<Prediction> { return prediction(); };
};

}  // namespace

TEST_F(Analyse, AStudyGoesAllTheWayToItsOutputs) {
    add_ct();
    const auto done = run();
    ASSERT_TRUE(done) << done.error().message;
    for (const Landmark& l : done->findings.landmarks) EXPECT_TRUE(l.position) << l.name << ": " << l.reason;
    std::map<std::string, int> kinds;
    for (const OutputFile& o : done->outputs.files) {
        ++kinds[o.kind];
        EXPECT_TRUE(std::filesystem::exists(settings_.work_folder / o.file)) << o.file;
        EXPECT_THAT(o.file, testing::StartsWith("S1/r1/"));
    }
    EXPECT_EQ(kinds["SEG"], 2) << "heart and calcium";
    EXPECT_EQ(kinds["SR"], 2) << "landmarks, and volumes";
    EXPECT_GE(kinds["KEY_IMAGE"], 1);
    EXPECT_TRUE(std::filesystem::exists(settings_.work_folder / done->outputs.overview));
    std::vector<std::string> stages;
    for (const StageTime& t : done->stages) stages.push_back(t.stage);
    EXPECT_THAT(stages,
                testing::ElementsAre("read", "preprocess", "infer", "postprocess", "measure", "outputs", "check"));
}

TEST_F(Analyse, ABundleOfTwoLooksLooksAtTheRootAgain) {
    add_ct();
    SecondLookManifest& second = manifest_.second_look.emplace();
    second.input.spacing_mm = {1, 1, 1};
    second.window = {64, 64, 64};
    second.heads = {"hps"};
    // The second look sees each point 1 mm further to the left than the first.
    model_.second = [](const Volume& image, const LabelMap*, const Progress&) -> Result<Prediction> {
        HeadProbabilities hps = background_only("hps", image.grid, 5);
        for (int c = 1; c <= 5; ++c) paint(hps, c, 0.9F, ball({add(root_points()[c - 1].lps_mm, {1, 0, 0})}, 4));
        return Prediction{{hps}, "cpu", {}};
    };
    const auto done = run();
    ASSERT_TRUE(done) << done.error().message;
    std::vector<std::string> stages;
    for (const StageTime& t : done->stages) stages.push_back(t.stage);
    EXPECT_THAT(stages, testing::ElementsAre("read", "preprocess", "infer", "second_look", "postprocess", "measure",
                                             "outputs", "check"));
    const Landmark* hinge = done->findings.landmark("hinge_left");
    ASSERT_TRUE(hinge && hinge->position);
    EXPECT_EQ(hinge->look, 2);
    EXPECT_LT(distance_mm(*hinge->position, {add(root_points()[1].lps_mm, {1, 0, 0})}), 0.2);
    EXPECT_EQ(done->findings.landmark("septum_upper")->look, 1) << "a head that the second look does not have";
    EXPECT_EQ(done->findings.model.sha256, weights_identity(manifest_));
}

TEST_F(Analyse, TheModelGetsTheImageOfTheManifest) {
    add_ct();
    float lowest = 0, highest = 0;
    Vec3 spacing{};
    model_ = [&](const Volume& image, const Progress&) -> Result<Prediction> {
        lowest = *std::min_element(image.voxels.begin(), image.voxels.end());
        highest = *std::max_element(image.voxels.begin(), image.voxels.end());
        spacing = image.grid.spacing();
        return prediction();
    };
    ASSERT_TRUE(run());
    EXPECT_NEAR(lowest, (40.0 - 100) / 200, 1e-4);
    EXPECT_NEAR(highest, (696.0 - 100) / 200, 1e-4) << "clipped";
    EXPECT_EQ(spacing, (Vec3{2, 2, 2}));
}

TEST_F(Analyse, ARepeatedRunWritesTheSameBytes) {
    add_ct();
    const auto contents = [&](const Analysis& a) {
        std::map<std::string, std::string> all;
        for (const OutputFile& o : a.outputs.files)
            all[o.sop_instance_uid] = read_file(settings_.work_folder / o.file).value();
        return all;
    };
    const auto first = run();
    ASSERT_TRUE(first) << first.error().message;
    const auto before = contents(*first);
    const auto second = run();
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(contents(*second), before);
}

TEST_F(Analyse, ACancelledRunStopsBeforeTheNextStageAndWritesNothing) {
    add_ct();
    int asked = 0;
    model_ = [](const Volume&, const Progress& progress) -> Result<Prediction> {
        if (!progress(1, 10)) return retry_error("cancelled");
        return prediction();
    };
    bool now = false;
    const auto stopped = run([&] {
        ++asked;
        return now;
    });
    ASSERT_TRUE(stopped);
    EXPECT_GT(asked, 80) << "after each file, stage and window";
    std::filesystem::remove_all(settings_.work_folder);
    model_ = [&](const Volume&, const Progress& progress) -> Result<Prediction> {
        now = true;
        if (!progress(1, 10)) return retry_error("cancelled");
        return prediction();
    };
    const auto cancelled = run([&] { return now; });
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().kind, ErrorKind::Retry);
    EXPECT_FALSE(std::filesystem::exists(settings_.work_folder));
}

TEST_F(Analyse, AStudyWithoutCtIsRefusedWithAReason) {
    add_ct();
    for (StudyFile& f : input_.files) {
        DcmFileFormat file;
        ASSERT_TRUE(file.loadFile(f.file.c_str()).good());
        file.getDataset()->putAndInsertString(DCM_SOPClassUID, UID_EnhancedSRStorage);
        file.getDataset()->putAndInsertString(DCM_Modality, "SR");
        ASSERT_TRUE(file.saveFile(f.file.c_str(), EXS_LittleEndianExplicit).good());
        f.sop_class_uid = UID_EnhancedSRStorage;
        f.modality = "SR";
    }
    const auto refused = run();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Reject);
    EXPECT_THAT(refused.error().message, testing::HasSubstr("CT"));
    EXPECT_THAT(refused.error().message, testing::Not(testing::HasSubstr("read:"))) << "for people";
}

TEST_F(Analyse, AnErrorOfTheModelNamesItsStage) {
    add_ct();
    model_ = [](const Volume&, const Progress&) -> Result<Prediction> { return retry_error("memory full"); };
    const auto failed = run();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().message, "infer: memory full");
}

TEST_F(Analyse, WithoutAHeartTheOutputsSaySoAndNothingIsMeasured) {
    add_ct();
    model_ = [](const Volume&, const Progress&) -> Result<Prediction> {
        Prediction p = prediction();
        p.heads[0] = background_only("heart", p.heads[0].channels[0].grid, 7);
        return p;
    };
    const auto done = run();
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_FALSE(done->outputs.files.empty());
    EXPECT_THAT(summary_of(*done), testing::HasSubstr("no heart found"));
    for (const Measurement& m : done->findings.measurements) EXPECT_FALSE(m.value) << m.name;
}

TEST_F(Analyse, TheReportHoldsEveryPointAndMeasurementAndNoPatient) {
    input_.warnings = {"2 images were left out"};
    add_ct(45);  // no contrast agent
    const auto done = run();
    ASSERT_TRUE(done) << done.error().message;
    const auto text = to_json(*done, settings_.work_folder);
    const auto json = nlohmann::json::parse(text);
    ASSERT_EQ(json["landmarks"].size(), 7U);
    EXPECT_EQ(json["landmarks"][0]["name"], "hinge_right");
    EXPECT_EQ(json["landmarks"][0]["found"], false);
    EXPECT_TRUE(json["landmarks"][0]["lps_mm"].is_null());
    EXPECT_THAT(json["landmarks"][0]["reason"].get<std::string>(), testing::HasSubstr("no contrast agent seen"));
    EXPECT_EQ(json["measurements"].size(), done->findings.measurements.size());
    EXPECT_TRUE(json["measurements"][0]["value"].is_null());
    EXPECT_EQ(json["measurements"][0]["unit"], "mm2");
    EXPECT_EQ(json["warnings"][0], "2 images were left out");
    EXPECT_EQ(json["model"], "phantom 1");
    EXPECT_TRUE(std::filesystem::exists(json["overview"].get<std::string>()));
    EXPECT_TRUE(json["seconds"].contains("infer"));
    EXPECT_FALSE(json["series"].get<std::string>().empty());
    EXPECT_THAT(text, testing::Not(testing::HasSubstr("PHANTOM^")));
    EXPECT_THAT(text, testing::Not(testing::HasSubstr("2.25.")));
}

TEST(Report, FoundPointsComeInMillimetres) {
    Analysis analysis;
    Landmark l;
    l.name = "hinge_left";
    l.position = PatientPoint{{1.23456, -2, 3}};
    l.confidence = 0.87654;
    analysis.findings.landmarks = {l};
    const auto json = nlohmann::json::parse(to_json(analysis, "/work"));
    EXPECT_EQ(json["landmarks"][0]["lps_mm"], (std::vector<double>{1.235, -2, 3}));
    EXPECT_EQ(json["landmarks"][0]["confidence"], 0.877);
    EXPECT_EQ(summary_of(analysis), "1 of 1 landmarks, 0 outputs");
}

TEST(Report, TextThatIsNotUtf8IsNoException) {
    Analysis analysis;
    analysis.why_chosen = "Herz\xE4";
    EXPECT_NO_THROW({ EXPECT_FALSE(to_json(analysis, "/work").empty()); });
}
