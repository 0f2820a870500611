// The key image series: valid objects, the right things at the right pixels, and nothing about the patient.
#include <algorithm>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/outputs/check.h"
#include "pipeline/outputs/pages.h"
#include "tests/pipeline/outputs/read_back.h"
#include "tests/pipeline/outputs/real_cta.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/written_ct.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

Rgb pixel_at(const Canvas& canvas, double x, double y) {
    const std::size_t at =
        (static_cast<std::size_t>(y) * static_cast<std::size_t>(canvas.width()) + static_cast<std::size_t>(x)) * 3;
    return {canvas.pixels()[at], canvas.pixels()[at + 1], canvas.pixels()[at + 2]};
}

bool is_coloured(const Rgb& p) { return std::max({p.r, p.g, p.b}) - std::min({p.r, p.g, p.b}) > 60; }

}  // namespace

TEST(KeyImages, DciodvfyFindsNoErrorAndPydicomReadsThem) {
    if (run_command("which dciodvfy").first != 0) GTEST_SKIP() << "dicom3tools is absent";
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", oblique({.bad_attributes = true}));
    const auto outputs = write_outputs(ct, findings_for(ct), request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    int pictures = 0;
    for (const OutputFile& file : outputs->files) {
        if (file.kind != "KEY_IMAGE") continue;
        ++pictures;
        const std::string path = (folder / "work" / file.file).string();
        const std::string printed = run_command("dciodvfy " + path).second;
        EXPECT_EQ(printed.find("Error"), std::string::npos) << printed;
        const auto [status, shape] = run_command("/usr/bin/python3 -c 'import pydicom; print(pydicom.dcmread(\"" +
                                                 path + "\").pixel_array.shape)'");
        EXPECT_EQ(status, 0) << shape;
        EXPECT_EQ(shape, "(768, 768, 3)\n");
    }
    EXPECT_GE(pictures, 6);
    EXPECT_TRUE(std::filesystem::exists(folder / "work" / outputs->overview));
}

TEST(KeyImages, EveryFoundLandmarkIsDrawnWhereItLies) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", oblique({}));
    Findings findings = findings_for(ct);
    findings.groups.clear();  // no contour: every colour in the pictures is a landmark
    const Window window = choose_window(ct, findings);
    for (const Landmark& landmark : findings.landmarks) {
        if (!landmark.position) continue;
        int on_cut = 0;
        for (const Page& page : plan_pages(ct, findings)) {
            if (!page.slice) continue;
            const Projected at = project(*page.view, 768, *landmark.position);
            if (std::abs(at.off_mm) > ct.volume.grid.spacing()[2] / 2) continue;
            ++on_cut;
            const Canvas canvas = draw_page(page, ct, findings, window, 768);
            EXPECT_TRUE(is_coloured(pixel_at(canvas, at.pixel.x, at.pixel.y))) << landmark.name << " " << page.id;
        }
        EXPECT_GE(on_cut, 1) << landmark.name;
    }
}

TEST(KeyImages, TheAnnulusPageLiesInTheAnnularPlane) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    const Findings findings = findings_for(ct);
    const auto pages = plan_pages(ct, findings);
    const auto page = std::find_if(pages.begin(), pages.end(), [](const Page& p) { return p.id == "annulus"; });
    ASSERT_NE(page, pages.end());
    for (std::size_t n = 0; n < 3; ++n)
        EXPECT_NEAR(project(*page->view, 768, *findings.landmarks[n].position).off_mm, 0, 1e-9);
    for (std::size_t n = 3; n < 5; ++n) EXPECT_GT(project(*page->view, 768, *findings.landmarks[n].position).off_mm, 1);
    EXPECT_GT(page->view->right[0], 0.5);  // the patient's left is on the right
}

TEST(KeyImages, ContoursFollowTheLabels) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", oblique({}));
    const Findings findings = findings_for(ct);
    const LabelMap& labels = findings.groups[0].labels;
    for (const Page& page : plan_pages(ct, findings)) {
        if (!page.view) continue;
        const auto shares = label_shares(labels, *page.view, 256);
        for (int y = 3; y < 256; y += 11) {
            for (int x = 3; x < 256; x += 11) {
                const auto voxel = labels.grid.nearest_voxel(to_patient(*page.view, 256, {x + 0.5, y + 0.5}));
                const int label = voxel ? labels.at(*voxel) : 0;
                const auto share = shares.find(1);
                const float inside =
                    share == shares.end()
                        ? 0
                        : share->second[static_cast<std::size_t>(y) * 256 + static_cast<std::size_t>(x)];
                EXPECT_TRUE(inside <= 0.9F || label == 1) << page.id;
                EXPECT_TRUE(inside >= 0.05F || label != 1) << page.id;
            }
        }
    }
}

TEST(KeyImages, DirectionLettersFollowThePatient) {
    EXPECT_EQ(direction_letters({1, 0, 0}), "L");
    EXPECT_EQ(direction_letters({0, 1, 0}), "P");
    EXPECT_EQ(direction_letters({0, 0, -1}), "F");
    EXPECT_EQ(direction_letters(normalised({-1, -0.8, 0.1})), "RA");
}

TEST(KeyImages, AreMadeWhenNothingWasFound) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    Findings findings = findings_for(ct);
    findings.groups.clear();
    findings.annular_plane.reset();
    for (Landmark& landmark : findings.landmarks) landmark.position.reset();
    for (Measurement& measurement : findings.measurements) measurement.value.reset();
    const auto outputs = write_outputs(ct, findings, request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    const auto checked = check_outputs(ct, outputs->files, folder / "work");
    EXPECT_TRUE(checked) << checked.error().message;
}

TEST(KeyImages, TheFontHasEveryPrintableCharacter) {
    for (char c = '!'; c <= '~'; ++c) {
        Canvas canvas(40, 40, {0, 0, 0});
        canvas.text({10, 28}, std::string(1, c), 14, {255, 255, 255});
        EXPECT_GT(*std::max_element(canvas.pixels().begin(), canvas.pixels().end()), 150) << c;
    }
}

TEST(KeyImages, OfTheRealCta) {
    CARDIONODE_NEEDS(shared("data/cta/dicom"));
    const TemporaryFolder folder;
    const auto work = kept_folder(folder / "work");
    const RealCase real = real_cta(shared("data/cta"));
    const auto outputs = write_outputs(real.ct, real.findings, request_for(work));
    ASSERT_TRUE(outputs) << outputs.error().message;
    const auto checked = check_outputs(real.ct, outputs->files, work);
    EXPECT_TRUE(checked) << checked.error().message;
    EXPECT_GT(std::filesystem::file_size(work / outputs->overview), 100'000U);
}
