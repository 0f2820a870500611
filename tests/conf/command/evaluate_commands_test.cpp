#include <fstream>
#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/files.h"
#include "conf/command/command.h"
#include "conf/command/evaluate_compare.h"
#include "conf/command/evaluate_folder.h"
#include "conf/command/evaluate_phantoms.h"
#include "conf/command/evaluate_reference.h"
#include "pipeline/read/nifti.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::filesystem::path kSource = CARDIONODE_SOURCE_DIR;

EvaluatePhantomsOptions quick(const std::filesystem::path& out, int count) {
    EvaluatePhantomsOptions options;
    options.bundle = kSource / "tests/data/quick_bundle";
    options.shapes = kSource / "models/train/shapes";
    options.out = out;
    options.count = count;
    options.edition = 1;
    options.size_mm = {96, 96, 96};
    options.spacing_mm = 4;
    options.worst = 1;
    return options;
}

std::vector<std::string> lines_of(const std::filesystem::path& file) {
    std::ifstream in(file);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}

void write_text(const std::filesystem::path& file, const std::string& text) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
}

TEST(EvaluatePhantoms, GoesOnAfterAStopAndAKillAndGivesTheSameCases) {
    test::TemporaryFolder folder;
    ASSERT_TRUE(evaluate_phantoms(quick(folder / "whole", 2)).ok());

    EvaluatePhantomsOptions options = quick(folder / "cut", 2);
    int asked = 0;
    options.stop = [&] { return ++asked > 1; };
    const auto stopped = evaluate_phantoms(options);
    ASSERT_FALSE(stopped.ok());
    EXPECT_THAT(stopped.error().message, HasSubstr("after 1 cases (the same command goes on)"));
    EXPECT_EQ(lines_of(folder / "cut" / "cases.jsonl").size(), 1U);
    std::ofstream(folder / "cut" / "cases.jsonl", std::ios::app)
        << R"({"case": "phantom-0000)";  // killed while writing
    ASSERT_TRUE(evaluate_phantoms(quick(folder / "cut", 2)).ok());

    const auto whole = lines_of(folder / "whole" / "cases.jsonl"), cut = lines_of(folder / "cut" / "cases.jsonl");
    ASSERT_EQ(whole.size(), 2U);
    ASSERT_EQ(cut.size(), 2U);
    for (std::size_t n = 0; n < 2; ++n) {
        json a = json::parse(whole[n]), b = json::parse(cut[n]);
        a.erase("seconds");
        b.erase("seconds");
        EXPECT_EQ(a, b);
    }
    for (const char* file : {"summary.json", "table.md", "distribution.png", "worst_1.png"}) {
        EXPECT_TRUE(std::filesystem::file_size(folder / "whole" / file) > 100) << file;
    }
    const json summary = json::parse(read_file(folder / "whole" / "summary.json").value());
    EXPECT_EQ(summary["all"]["cases"], 2);
    EXPECT_EQ(summary["all"]["points"][0]["name"], "all points");

    EvaluatePhantomsOptions other = quick(folder / "whole", 2);
    other.spacing_mm = 3;
    const auto refused = evaluate_phantoms(other);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Config);
    EXPECT_THAT(refused.error().message, HasSubstr("spacing_mm was 4.0, is 3.0"));
}

const char* kPhantom =
    R"({"seed": 1, "contrast_agent": true, "scanner_profile": "soft", "annulus_normal_lps": [0, 0, 1],
  "points": [{"head": "hps", "name": "hinge_right", "value": 1, "lps_mm": [1, 2, 3], "inside": true},
             {"head": "hps", "name": "hinge_left", "value": 2, "lps_mm": [9, 2, 3], "inside": true}]})";
const char* kResults = R"({"landmarks": [{"name": "hinge_left", "lps_mm": [9, 2, 5], "confidence": 0.9, "reason": ""},
  {"name": "hinge_right", "lps_mm": null, "confidence": 0.1, "reason": "not sure"}]})";

Grid grid() {
    return Grid::create({{0, 0, 0}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {2, 2, 2}, {12, 12, 12}).value();
}

LabelMap block(std::uint8_t label, std::int64_t columns) {
    LabelMap map(grid(), std::uint8_t{0});
    for (std::int64_t i = 2; i < 2 + columns; ++i) {
        for (std::int64_t j = 2; j < 8; ++j) map.at({{i, j, 5}}) = label;
    }
    return map;
}

TEST(EvaluateCompare, PairsByNameAndCountsACaseWithoutResultAsMissed) {
    test::TemporaryFolder folder;
    for (const char* name : {"a", "b"}) write_text(folder / "truth" / name / "phantom.json", kPhantom);
    write_text(folder / "found" / "a" / "landmarks.json", kResults);
    write_text(folder / "found" / "z" / "landmarks.json", kResults);
    ASSERT_TRUE(write_nifti(block(6, 4), folder / "truth" / "a" / "heart.nii.gz").ok());
    ASSERT_TRUE(write_nifti(block(6, 8), folder / "found" / "a" / "heart.nii.gz").ok());
    std::string printed;
    const auto done = evaluate_compare(
        {folder / "found", folder / "truth", folder / "out", [&](const std::string& line) { printed += line + "\n"; }});
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_THAT(printed, HasSubstr("without truth, left out: z"));
    EXPECT_THAT(printed, HasSubstr("without result, counted as missed: b"));
    EXPECT_THAT(printed, HasSubstr("| hinge_left | 1 of 2 |"));
    EXPECT_THAT(printed, HasSubstr("| hinge_right | 0 of 2 |"));
    EXPECT_THAT(printed, HasSubstr("| aorta | 0.667 |"));
    EXPECT_THAT(printed, HasSubstr("1 times: not sure"));
    EXPECT_EQ(lines_of(folder / "out" / "cases.jsonl").size(), 2U);
}

TEST(EvaluateCompare, TakesTwoCasesByThemselves) {
    test::TemporaryFolder folder;
    write_text(folder / "truth" / "phantom.json", kPhantom);
    write_text(folder / "found" / "landmarks.json", kResults);
    std::string printed;
    const auto done =
        evaluate_compare({folder / "found", folder / "truth", {}, [&](const std::string& line) { printed += line; }});
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_THAT(printed, HasSubstr("| hinge_left | 1 of 1 | 2.00"));
}

TEST(EvaluateCompare, SaysWhatIsWrongWithItsInput) {
    test::TemporaryFolder folder;
    const auto error = [&](const char* found, const char* truth) {
        const auto done = evaluate_compare({folder / found, folder / truth, {}, {}});
        return done.ok() ? std::string("no error") : done.error().message;
    };
    write_text(folder / "truth" / "phantom.json", kPhantom);
    write_text(folder / "found" / "landmarks.json", kResults);
    EXPECT_THAT(error("nowhere", "truth"), HasSubstr("no such folder"));
    std::filesystem::create_directories(folder / "empty");
    EXPECT_THAT(error("empty", "truth"), HasSubstr("neither a case"));
    write_text(folder / "many" / "a" / "landmarks.json", kResults);
    EXPECT_THAT(error("many", "truth"), HasSubstr("a case by itself"));
    write_text(folder / "odd" / "landmarks.json", R"({"points": []})");
    EXPECT_THAT(error("odd", "truth"), HasSubstr("not as `cardionode predict` writes it"));
    ASSERT_TRUE(write_nifti(block(6, 4), folder / "truth" / "heart.nii.gz").ok());
    const LabelMap other(
        Grid::create({{5, 0, 0}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {2, 2, 2}, {12, 12, 12}).value(),
        std::uint8_t{0});
    ASSERT_TRUE(write_nifti(other, folder / "found" / "heart.nii.gz").ok());
    EXPECT_THAT(error("found", "truth"), HasSubstr("different grids"));
}

/// An annulus in the plane z = 5 about (10, 10, 5), and an aorta of columns 2 to 5.
void write_reference(const std::filesystem::path& folder) {
    write_text(folder / "ground_truth_lps.json",
               R"({"centroids": {"annulus_proper": {"lps": [10, 10, 5]}}, "landmarks": {"aorta:annulus":
               {"start": [0, 10, 5], "end": [20, 10, 5], "start_pd": [10, 0, 5], "end_pd": [10, 20, 5], "area": 4.9}}})");
    std::filesystem::create_directories(folder / "masks");
    ASSERT_TRUE(write_nifti(block(1, 4), folder / "masks" / "aorta.nii.gz").ok());
}

TEST(EvaluateReference, MeasuresAsTheFlowTestsScriptDoes) {
    test::TemporaryFolder folder;
    write_reference(folder.path());
    Findings findings;
    const auto add_point = [&](const char* name, Vec3 at) {
        Landmark l;
        l.name = name;
        l.position = PatientPoint{at};
        findings.landmarks.push_back(l);
    };
    // Centroid 3 mm above the annulus; the plane leans by 45 degrees.
    add_point("hinge_right", {0, 10, 8});
    add_point("hinge_left", {15, 20, 8 + 10});
    add_point("hinge_noncoronary", {15, 0, 8 - 10});
    SegmentGroup heart{"heart", "", block(6, 8), {}};
    heart.labels.at({{1, 2, 5}}) = 3;  // the box of the heart: columns 1 to 3
    heart.labels.at({{3, 7, 5}}) = 3;
    for (const auto& [label, name] : {std::pair{3, "left_ventricle"}, std::pair{6, "aorta"}}) {
        Segment s;
        s.label = label;
        s.name = name;
        heart.segments.push_back(s);
    }
    findings.groups.push_back(heart);
    Measurement area;
    area.name = "annulus_area_mm2";
    area.value = 539;
    findings.measurements.push_back(area);

    const auto score = score_reference(findings, folder.path());
    ASSERT_TRUE(score.ok()) << score.error().message;
    EXPECT_NEAR(*score->hinge_centroid_mm, 3, 1e-9);
    EXPECT_NEAR(*score->plane_angle_deg, 45, 1e-6);
    EXPECT_NEAR(*score->aorta_dice, 2.0 * 23 / (24 + 47), 1e-9);  // one voxel of it is the ventricle's
    EXPECT_NEAR(*score->aorta_dice_in_heart_box, 2.0 * 11 / (12 + 11), 1e-9);
    EXPECT_THAT(reference_text(*score), HasSubstr("annulus area: 539 mm2, silver standard 490 mm2 (+10 %)"));
}

TEST(EvaluateReference, SaysWhatWasNotFound) {
    test::TemporaryFolder folder;
    write_reference(folder.path());
    const auto score = score_reference({}, folder.path());
    ASSERT_TRUE(score.ok());
    EXPECT_EQ(*score->aorta_dice, 0);
    EXPECT_FALSE(score->hinge_centroid_mm);
    EXPECT_THAT(reference_text(*score), HasSubstr("none found"));
    EXPECT_EQ(score_reference({}, folder / "nowhere").error().kind, ErrorKind::Config);
}

TEST(EvaluateCommands, HaveHelpWithAnExample) {
    for (const char* name : {"phantoms", "compare", "reference"}) {
        const char* argv[] = {"cardionode", "evaluate", name, "--help"};
        ::testing::internal::CaptureStdout();
        EXPECT_EQ(run_cardionode(4, argv), 0);
        std::fflush(nullptr);
        EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr("Example:")) << name;
    }
}

}  // namespace
}  // namespace cardionode
