#include "pipeline/evaluate/summary.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/evaluate/pictures.h"
#include "pipeline/evaluate/tables.h"

using namespace cardionode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace {

PointScore point(const char* name, double truth_x, std::optional<double> found_x, const char* reason = "") {
    PointScore p;
    p.name = name;
    p.truth = PatientPoint{{truth_x, 0, 0}};
    if (found_x) p.found = PatientPoint{{*found_x, 0, 0}};
    if (p.found) p.offset_root = Vec3{0, *found_x - truth_x, 0};
    p.reason = reason;
    return p;
}

CaseScore a_case(const char* name, const char* profile, std::vector<PointScore> points) {
    CaseScore c;
    c.name = name;
    c.profile = profile;
    c.points = std::move(points);
    return c;
}

StructureScore structure(VoxelCounts voxels) {
    StructureScore s;
    s.name = "valve_calcium";
    s.voxels = voxels;
    s.voxel_ml = 0.001;
    return s;
}

/// Hinge points 1, 2 and 3 mm off, one missed; ostia right.
std::vector<CaseScore> four() {
    return {a_case("a", "soft", {point("hinge_right", 0, 1), point("ostium_left", 5, 5)}),
            a_case("b", "soft", {point("hinge_right", 0, 2), point("ostium_left", 5, 5)}),
            a_case("c", "sharp", {point("hinge_right", 0, 3), point("ostium_left", 5, 5)}),
            a_case("d", "sharp",
                   {point("hinge_right", 0, std::nullopt, "implausible: 12.5 mm below the annular plane"),
                    point("ostium_left", 5, 5)})};
}

const PointSummary& named(const GroupSummary& group, const std::string& name) {
    for (const PointSummary& p : group.points) {
        if (p.name == name) return p;
    }
    throw std::runtime_error("no " + name);
}

}  // namespace

TEST(Summary, NeverDropsAMissedPoint) {
    const Summary summary = summarise(four());
    const PointSummary& hinge = named(summary.all, "hinge_right");
    EXPECT_EQ(hinge.present, 4);
    EXPECT_EQ(hinge.found, 3);
    EXPECT_DOUBLE_EQ(hinge.error_mm.median, 2.5);  // of 1, 2, 3 and infinity: not 2
    EXPECT_DOUBLE_EQ(hinge.within_3mm, 0.75);
    EXPECT_DOUBLE_EQ(hinge.error_mm.mean, 2);
    EXPECT_EQ(hinge.error_mm.infinite, 1);
    EXPECT_THAT(hinge.why_missed, ElementsAre(testing::Pair("implausible: # mm below the annular plane", 1)));
    EXPECT_EQ(named(summary.all, "all points").present, 8);
    EXPECT_EQ(named(summary.all, "hinge points and ostia").present, 8);
}

TEST(Summary, TellsASystematicOffsetFromSpread) {
    std::vector<CaseScore> cases;
    for (const double off : {2.8, 3.0, 3.2}) cases.push_back(a_case("x", "-", {point("hinge_left", 0, off)}));
    const PointSummary hinge = named(summarise(cases).all, "hinge_left");
    EXPECT_NEAR((*hinge.bias_lps_mm)[0], 3, 1e-9);
    EXPECT_NEAR((*hinge.bias_root_mm)[1], 3, 1e-9);
    EXPECT_NEAR(*hinge.spread_root_mm, std::sqrt(0.08 / 3), 1e-9);
}

TEST(Summary, NamesTheWorstProfile) {
    const Summary summary = summarise(four());
    ASSERT_EQ(summary.profiles.size(), 2U);
    EXPECT_EQ(summary.worst_profile, "sharp");
    EXPECT_EQ(summarise({four()[0]}).worst_profile, "");
}

TEST(Summary, AsksOfUnenhancedCasesOnlyWhetherARootWasInvented) {
    std::vector<CaseScore> cases = four();
    CaseScore quiet = a_case("e", "soft", {});
    quiet.contrast = false;
    quiet.points.emplace_back();
    quiet.points[0].name = "hinge_right";
    CaseScore inventive = quiet;
    inventive.name = "f";
    inventive.points[0].found = PatientPoint{{1, 2, 3}};
    cases.push_back(quiet);
    cases.push_back(inventive);
    const GroupSummary all = summarise(cases).all;
    EXPECT_EQ(all.without_contrast, 2);
    EXPECT_EQ(all.invented_root, 1);
    EXPECT_EQ(named(all, "hinge_right").present, 4);
    EXPECT_EQ(named(all, "hinge_right").absent, 0);
    EXPECT_THAT(markdown(summarise(cases)), HasSubstr("in 1 of 2 cases the node gave no point"));
}

TEST(Summary, CountsPointsThatWereFoundOutsideOfTheScan) {
    CaseScore c = a_case("a", "-", {point("hinge_right", 0, 1)});
    c.points[0].truth.reset();
    const PointSummary hinge = named(summarise({c}).all, "hinge_right");
    EXPECT_EQ(hinge.absent, 1);
    EXPECT_EQ(hinge.false_finds, 1);
    EXPECT_EQ(hinge.present, 0);
}

TEST(Summary, PoolsDiceOverVoxelsAndLeavesAgreedEmptinessOutOfTheMedian) {
    std::vector<CaseScore> cases(3);
    cases[0].structures = {structure({90, 100, 100})};
    cases[1].structures = {structure({0, 10, 0})};
    cases[2].structures = {structure({0, 0, 0})};
    const StructureSummary s = summarise(cases).all.structures.at(0);
    EXPECT_EQ(s.cases, 3);
    EXPECT_EQ(s.agreed_none, 1);
    EXPECT_EQ(s.only_found, 1);
    EXPECT_NEAR(*s.pooled_dice, 180.0 / 210, 1e-12);
    EXPECT_EQ(s.dice.count, 2);
    EXPECT_DOUBLE_EQ(s.dice.median, 0.45);
    EXPECT_DOUBLE_EQ(s.volume_error_ml.max, 0.01);
}

TEST(Summary, CountsANumberThatWasNotGivenAsInfinitelyWrong) {
    std::vector<CaseScore> cases(3);
    cases[0].numbers["annulus_area_mm2"] = {500, 525};
    cases[1].numbers["annulus_area_mm2"] = {500, std::nullopt};
    cases[2].numbers["annulus_area_mm2"] = {std::nullopt, 480};
    const NumberSummary n = summarise(cases).all.numbers.at(0);
    EXPECT_EQ(n.both, 1);
    EXPECT_EQ(n.not_given, 1);
    EXPECT_EQ(n.invented, 1);
    EXPECT_DOUBLE_EQ(n.error.median, 25);
    EXPECT_TRUE(std::isinf(n.absolute_error.max));
    EXPECT_DOUBLE_EQ(n.absolute_percent.q1, n.absolute_percent.median) << "both infinite";
}

TEST(Summary, CountsAPlaneThatCouldNotBeMade) {
    CaseScore with =
        a_case("a", "-", {point("hinge_right", 0, 1), point("hinge_left", 0, 1), point("hinge_noncoronary", 0, 1)});
    with.plane_angle_deg = 4;
    CaseScore without = with;
    without.plane_angle_deg.reset();
    EXPECT_DOUBLE_EQ(summarise({with, with, without}).all.plane_angle_deg.median, 4);
    EXPECT_EQ(summarise({with, with, without}).all.plane_angle_deg.infinite, 1);
}

TEST(Summary, RanksMissesBeforeEverything) {
    std::vector<CaseScore> cases = four();
    cases.push_back(a_case("e", "soft", {point("hinge_right", 0, 40)}));
    EXPECT_THAT(worst_first(cases), ElementsAre("d", "e", "c", "b", "a"));
}

TEST(Summary, WritesTablesAndPictures) {
    const std::vector<CaseScore> cases = four();
    const std::string text = markdown(summarise(cases));
    EXPECT_THAT(text, HasSubstr("| hinge_right | 3 of 4 | 2.50 [1.75 - missed]"));
    EXPECT_THAT(text, HasSubstr("sharp (the worst)"));
    EXPECT_THAT(text, HasSubstr("1 times: implausible: # mm below the annular plane"));
    EXPECT_EQ(to_json(summarise(cases))["all"]["points"][0]["name"], "all points");
    EXPECT_GT(distribution_picture(cases, "four").height(), 200);
    const Volume ct(
        Grid::create({{-20, -20, -20}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {2, 2, 2}, {20, 20, 20}).value(),
        100.0F);
    EXPECT_GT(worst_case_picture(ct, cases[3], "").width(), 1000);
}
