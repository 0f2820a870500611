#include "conf/command/train_curves.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "conf/command/command.h"
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

TEST(TrainCurves, CurvesAndStatusComeOutOfARunsMetrics) {
    const test::TemporaryFolder folder;
    {
        std::ofstream out(folder / "metrics.jsonl");
        for (int step = 1; step <= 400; ++step) {
            out << R"({"step": )" << step << R"(, "loss": )" << 3.0 / step << R"(, "rate": 0.002, "seconds": 0.5, )"
                << R"("heads": {"heart": )" << 2.0 / step << R"(, "hps": )" << 1.0 / step << "}}\n";
            if (step % 100 == 0) {
                out << R"({"step": )" << step << R"(, "validation": {"dice": {"heart/aorta": )" << step / 500.0
                    << R"(, "heart/left_ventricle": 0.5}, "landmarks": {"hinge_left": {"present": 4, "found": 1, )"
                    << R"("median_mm": )" << (step < 200 ? "null" : "3.5") << "}}}}\n";
            }
        }
        out << R"({"step": 401, "lo)";  // the run is writing
    }
    std::ofstream(folder / "recipe.yaml") << "steps: 1000\n" << kRecipe;
    const Result<RunMetrics> metrics = read_metrics(folder / "metrics.jsonl");
    ASSERT_TRUE(metrics.ok()) << metrics.error().message;
    EXPECT_EQ(metrics->last_step, 400);
    EXPECT_NEAR(metrics->phantom_dice.at("heart").back().value, 0.65, 1e-9) << "mean over its classes";
    EXPECT_TRUE(std::isinf(metrics->phantom_mm.at("hinge_left").front().value));
    ASSERT_TRUE(draw_curves(*metrics, folder / "curves.png").ok());
    EXPECT_GT(std::filesystem::file_size(folder / "curves.png"), 5000u);
    const Result<std::string> status = run_status(folder.path());
    ASSERT_TRUE(status.ok()) << status.error().message;
    for (const char* part : {"400 of 1000 (40 %)", "5 min at 0.50 s a step", "hinge_left 3.5 mm", "heart 0.650"}) {
        EXPECT_NE(status->find(part), std::string::npos) << part << " in\n" << *status;
    }
    EXPECT_FALSE(run_status(folder / "nothing").ok());
    const char* asked[] = {"cardionode", "train", "status", "/nowhere"};
    EXPECT_EQ(run_cardionode(4, asked), 2);
    const char* bare[] = {"cardionode", "train"};
    EXPECT_EQ(run_cardionode(2, bare), 2);
}

}  // namespace
}  // namespace cardionode
