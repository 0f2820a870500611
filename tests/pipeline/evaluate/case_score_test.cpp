#include "pipeline/evaluate/case_score.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "pipeline/evaluate/statistics.h"

using namespace cardionode;

namespace {

Grid grid() {
    return Grid::create({{0, 0, 0}}, {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}, {2, 2, 2}, {10, 10, 10}).value();
}

Landmark point(const char* name, std::optional<PatientPoint> at, const char* reason = "") {
    Landmark l;
    l.name = name;
    l.position = at;
    l.reason = reason;
    return l;
}

SegmentGroup group(const char* name, const char* segment, int label, std::int64_t columns) {
    SegmentGroup g{name, "", LabelMap(grid(), std::uint8_t{0}), {}};
    for (std::int64_t k = 2; k < 5; ++k) {
        for (std::int64_t j = 2; j < 5; ++j) {
            for (std::int64_t i = 2; i < 2 + columns; ++i) g.labels.at({{i, j, k}}) = static_cast<std::uint8_t>(label);
        }
    }
    Segment s;
    s.label = label;
    s.name = segment;
    g.segments.push_back(s);
    return g;
}

Measurement number(const char* name, std::optional<double> value) {
    Measurement m;
    m.name = name;
    m.value = value;
    return m;
}

Findings truth() {
    Findings t;
    t.landmarks = {point("hinge_right", PatientPoint{{10, 0, 0}}), point("ostium_left", PatientPoint{{0, 12, 15}}),
                   point("septum_upper", std::nullopt)};
    t.annular_plane = Plane{{{0, 0, 0}}, {0, 0, 1}};
    t.groups.push_back(group("heart", "aorta", 6, 4));
    t.measurements = {number("annulus_area_mm2", 490), number("aorta_volume_ml", 100)};
    return t;
}

}  // namespace

TEST(CaseScore, TakesEachPointByItsOwnName) {
    Findings found = truth();
    // In another order, one missing, one that should not be there.
    found.landmarks = {point("septum_upper", PatientPoint{{1, 1, 1}}), point("ostium_left", std::nullopt, "too small"),
                       point("hinge_right", PatientPoint{{13, 4, 0}})};
    const CaseScore score = score_case(found, truth(), structures_of(truth())).value();
    ASSERT_EQ(score.points.size(), 3U);
    EXPECT_EQ(score.points[0].name, "hinge_right");
    EXPECT_DOUBLE_EQ(*score.points[0].error_mm(), 5);
    EXPECT_EQ(*score.points[1].error_mm(), kMissed);
    EXPECT_EQ(score.points[1].reason, "too small");
    EXPECT_FALSE(score.points[2].error_mm());
    EXPECT_TRUE(score.points[2].false_find());
    EXPECT_EQ(*score.largest_error_mm(), kMissed);
}

TEST(CaseScore, TellsTheOffsetInTheRootsOwnDirections) {
    Findings found = truth();
    found.landmarks[0].position = PatientPoint{{12, 3, -1}};
    const CaseScore score = score_case(found, truth(), {}).value();
    const Vec3 offset = score.points[0].offset_root.value();
    EXPECT_NEAR(offset[0], -1, 1e-9);  // down the axis
    EXPECT_NEAR(offset[1], 2, 1e-9);   // outwards
    EXPECT_NEAR(offset[2], 3, 1e-9);   // round the axis
}

TEST(CaseScore, ComparesSegmentsByNameWhateverTheirLabels) {
    Findings found = truth();
    found.groups = {group("heart", "aorta", 2, 8)};
    const CaseScore score = score_case(found, truth(), structures_of(truth())).value();
    ASSERT_EQ(score.structures.size(), 1U);
    EXPECT_EQ(score.structures[0].voxels.truth, 36);
    EXPECT_EQ(score.structures[0].voxels.found, 72);
    EXPECT_NEAR(*score.structures[0].voxels.dice(), 2.0 * 36 / 108, 1e-12);
    EXPECT_NEAR(score.structures[0].true_ml(), 36 * 0.008, 1e-12);
}

TEST(CaseScore, TakesAGroupThatTheNodeDidNotGiveForEmpty) {
    Findings found = truth();
    found.groups.clear();
    const CaseScore score = score_case(found, truth(), structures_of(truth())).value();
    EXPECT_EQ(*score.structures[0].voxels.dice(), 0);
    EXPECT_TRUE(std::isinf(score.structures[0].surface->average_mm));
    EXPECT_EQ(score.structures[0].found_ml(), 0);
}

TEST(CaseScore, MeasuresThePlaneOnlyWhereBothSidesHaveOne) {
    Findings found = truth();
    found.annular_plane = Plane{{{0, 3, 4}}, normalised({0, 1, 1})};
    CaseScore score = score_case(found, truth(), {}).value();
    EXPECT_NEAR(*score.plane_angle_deg, 45, 1e-9);
    EXPECT_NEAR(*score.centre_error_mm, 5, 1e-9);
    found.annular_plane.reset();
    score = score_case(found, truth(), {}).value();
    EXPECT_FALSE(score.plane_angle_deg);
    EXPECT_FALSE(score.centre_error_mm);
}

TEST(CaseScore, KnowsWhetherARootWasGiven) {
    Findings found;
    found.landmarks = {point("hinge_right", std::nullopt)};
    found.measurements = {number("aorta_volume_ml", 90), number("annulus_area_mm2", std::nullopt)};
    EXPECT_FALSE(score_case(found, truth(), {}).value().gives_root());
    found.measurements[1].value = 400;
    EXPECT_TRUE(score_case(found, truth(), {}).value().gives_root());
    found.measurements[1].value.reset();
    found.landmarks[0].position = PatientPoint{{10, 0, 0}};
    EXPECT_TRUE(score_case(found, truth(), {}).value().gives_root());
}

TEST(CaseScore, SurvivesJson) {
    Findings found = truth();
    found.landmarks[1].position.reset();
    found.groups.clear();
    found.warnings = {"no contrast agent seen"};
    CaseScore score = score_case(found, truth(), structures_of(truth())).value();
    score.name = "phantom-000007";
    score.profile = "soft";
    score.contrast = false;
    score.seconds = {{"infer", 1.25}};
    const auto text = to_json(score).dump();
    const auto again = case_score_from(nlohmann::json::parse(text));
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(to_json(*again).dump(), text);
    EXPECT_EQ(*again->points[1].error_mm(), kMissed);
    EXPECT_FALSE(case_score_from(nlohmann::json::parse(R"({"case": "x"})")).ok());
}
