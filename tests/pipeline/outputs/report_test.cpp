// The files for people: the HTML report and the MITK point sets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "conf/base/base64.h"
#include "pipeline/outputs/html_report.h"
#include "pipeline/outputs/pages.h"
#include "pipeline/outputs/point_set.h"
#include "tests/pipeline/outputs/read_back.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/written_ct.h"

using namespace cardionode;
using namespace cardionode::test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

namespace {

ReportFacts facts() {
    ReportFacts facts;
    facts.software_version = "0.1.0";
    facts.images = "series 4 <CTA>";
    facts.settings = {{"device", "cpu"}};
    return facts;
}

/// Findings with the names that a bundle uses, so that sets are whole.
Findings named_findings(const CtSeries& ct) {
    Findings f = findings_for(ct);
    f.landmarks[2].name = "hinge_noncoronary";
    return f;
}

}  // namespace

TEST(Base64, AgreesWithRfc4648) {
    EXPECT_EQ(to_base64(""), "");
    EXPECT_EQ(to_base64("f"), "Zg==");
    EXPECT_EQ(to_base64("fo"), "Zm8=");
    EXPECT_EQ(to_base64("foo"), "Zm9v");
    EXPECT_EQ(to_base64("foobar"), "Zm9vYmFy");
    EXPECT_EQ(to_base64(std::string("\xff\xfe\x00", 3)), "//4A");
}

TEST(HtmlReport, ShowsNumbersPointsReasonsWarningsAndModel) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    const std::string html = html_report(ct, named_findings(ct), facts());
    EXPECT_THAT(html, HasSubstr("RESEARCH USE ONLY"));
    EXPECT_THAT(html, HasSubstr("492 mm²"));
    EXPECT_THAT(html, HasSubstr("Rests on: <b>a</b> hinge right, hinge left, hinge non &ensp;<b>b</b> ostium left, "));
    EXPECT_THAT(html, HasSubstr("27.5 mm"));
    EXPECT_THAT(html, HasSubstr("not found: peak probability 0.12 is below 0.30"));
    EXPECT_THAT(html, HasSubstr("<b>Not measured</b> (the lower point was not found): Membranous septum length."));
    EXPECT_THAT(html, HasSubstr("synthetic data"));
    EXPECT_THAT(html, HasSubstr("test-bundle 1.2.0"));
    EXPECT_THAT(html, HasSubstr(named_findings(ct).model.sha256));
    EXPECT_THAT(html, HasSubstr("without patient identity"));
}

TEST(HtmlReport, HoldsEverythingAndFetchesNothing) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    const std::string html = html_report(ct, named_findings(ct), facts());
    EXPECT_THAT(html, Not(HasSubstr("http://")));
    EXPECT_THAT(html, Not(HasSubstr("https:")));
    EXPECT_THAT(html, Not(HasSubstr("<script")));
    std::size_t pictures = 0;
    for (std::size_t at = 0; (at = html.find("<img ", at)) != std::string::npos; ++at) {
        ++pictures;
        EXPECT_THAT(html.substr(html.find("src=", at), 100),
                    ::testing::StartsWith("src=\"data:image/png;base64,iVBORw0KGgo"));
    }
    EXPECT_EQ(pictures, 6U);
}

TEST(HtmlReport, TextOfOthersCannotBecomeMarkup) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    Findings findings = named_findings(ct);
    findings.warnings = {"<img src=x onerror=alert(1)> & \"more\""};
    findings.measurements[0].title = "<b>Area</b>";
    ReportFacts f = facts();
    f.identity = {{"Patient", "<script>"}};
    const std::string html = html_report(ct, findings, f);
    EXPECT_THAT(html, HasSubstr("series 4 &lt;CTA&gt;"));
    EXPECT_THAT(html, HasSubstr("&lt;img src=x onerror=alert(1)&gt; &amp; &quot;more&quot;"));
    EXPECT_THAT(html, HasSubstr("&lt;b&gt;Area"));
    EXPECT_THAT(html, HasSubstr("Patient <b>&lt;script&gt;</b>"));
}

TEST(HtmlReport, IsMadeWhenNothingWasFound) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    Findings findings;
    findings.model = {"m", "1", "ab", "cpu"};
    findings.warnings = {"no heart was found"};
    const std::string html = html_report(ct, findings, facts());
    EXPECT_THAT(html, HasSubstr("no heart was found"));
    EXPECT_THAT(html, HasSubstr("not measured"));
}

TEST(ReportPages, AnnulusAndBothOstiaComeFirst) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    std::vector<std::string> ids;
    for (const Page& page : pages_for_report(ct, named_findings(ct), 6)) ids.push_back(page.id);
    ASSERT_EQ(ids.size(), 6U);
    EXPECT_THAT(std::vector<std::string>(ids.begin(), ids.begin() + 3),
                ElementsAre("annulus", "root_left_ostium", "root_right_ostium"));
    std::sort(ids.begin(), ids.end());
    EXPECT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
}

TEST(ReportPages, TheLengthwiseCutHoldsOstiumAndAxisAndShowsTheHeightInItsLength) {
    const TemporaryFolder folder;
    for (const CtShape& shape : {CtShape{}, oblique({})}) {
        const CtSeries ct = write_ct(folder / (shape.row[0] == 1 ? "a" : "b"), shape);
        const Findings findings = named_findings(ct);
        const Plane& plane = *findings.annular_plane;
        int seen = 0;
        for (const Page& page : plan_pages(ct, findings)) {
            if (page.height_of.empty()) continue;
            ++seen;
            const PatientPoint ostium = *findings.landmark(page.height_of)->position;
            const double height = dot(subtract(ostium.lps_mm, plane.point.lps_mm), plane.normal);
            const PatientPoint foot{subtract(ostium.lps_mm, scale(plane.normal, height))};
            const Projected top = project(*page.view, 800, ostium), bottom = project(*page.view, 800, foot);
            EXPECT_NEAR(top.off_mm, 0, 1e-9);
            EXPECT_NEAR(project(*page.view, 800, plane.point).off_mm, 0, 1e-9);
            EXPECT_NEAR(top.pixel.x, bottom.pixel.x, 1e-6);
            EXPECT_NEAR((bottom.pixel.y - top.pixel.y) * page.view->width_mm / 800, height, 1e-6);
        }
        EXPECT_EQ(seen, 2);
    }
}

TEST(PointSet, IsReadByAnXmlParserInTheOrderOfThePaper) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    const Findings findings = named_findings(ct);
    const auto sets = point_sets(findings);
    ASSERT_EQ(sets.size(), 2U);
    EXPECT_EQ(sets[0].name, "hps");
    ASSERT_EQ(sets[0].points.size(), 5U);
    const char* order[] = {"hinge_right", "hinge_left", "hinge_noncoronary", "ostium_right", "ostium_left"};
    for (std::size_t n = 0; n < 5; ++n)
        EXPECT_EQ(distance_mm(sets[0].points[n], *findings.landmark(order[n])->position), 0);

    std::ofstream(folder / "hps.mps") << point_set_mps(sets[0].points);
    const auto [status, printed] = run_command(
        "/usr/bin/python3 -c 'import sys, xml.etree.ElementTree as e; r = e.parse(sys.argv[1]).getroot(); "
        "t = r.find(\"point_set/time_series\"); print(r.tag, r.findtext(\"file_version\"), "
        "t.findtext(\"time_series_id\"), "
        "*[\"%s|%s|%s,%s,%s\" % tuple(p.findtext(k) for k in (\"id\", \"specification\", \"x\", \"y\", \"z\")) "
        "for p in t.findall(\"point\")])' " +
        (folder / "hps.mps").string());
    ASSERT_EQ(status, 0) << printed;
    std::string expected = "point_set_file 0.1 0";
    char number[100];
    for (std::size_t n = 0; n < 5; ++n) {
        const Vec3& p = sets[0].points[n].lps_mm;
        std::snprintf(number, sizeof number, " %zu|0|%.6f,%.6f,%.6f", n, p[0], p[1], p[2]);
        expected += number;
    }
    EXPECT_EQ(printed, expected + "\n");
}

TEST(PointSet, ASetWithAPointMissingIsNotWritten) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    const auto sets = point_sets(named_findings(ct));  // the lower septum point was not found
    EXPECT_TRUE(sets[1].points.empty());
    EXPECT_EQ(sets[1].missing, "Membranous septum, lower point");
}
