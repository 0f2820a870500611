#include "pipeline/runner/pipeline_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

using namespace cardionode;
using testing::HasSubstr;

namespace {

Result<Analysis> finished(double read_seconds, double infer_seconds) {
    Analysis analysis;
    analysis.stages = {{"read", read_seconds}, {"infer", infer_seconds}};
    return analysis;
}

}  // namespace

TEST(PipelineStats, TellsModelAndVersion) {
    const PipelineStats stats("heart", "3", "0.1.0");
    EXPECT_THAT(stats.metrics(), HasSubstr("cardionode_model_info{name=\"heart\",version=\"3\"} 1\n"));
    EXPECT_THAT(stats.metrics(), HasSubstr("cardionode_build_info{version=\"0.1.0\"} 1\n"));
}

TEST(PipelineStats, AddsUpStagesAndKeepsTheLastInference) {
    const test::FakeClock clock(Moment(Milliseconds(1'700'000'000'500)));
    PipelineStats stats("m", "1", "0", clock);
    stats.study(finished(1, 10));
    stats.study(finished(2, 20.5));
    const std::string text = stats.metrics();
    EXPECT_THAT(text, HasSubstr("cardionode_studies_finished_total 2\n"));
    EXPECT_THAT(text, HasSubstr("cardionode_stage_duration_seconds_sum{stage=\"infer\"} 30.5\n"));
    EXPECT_THAT(text, HasSubstr("cardionode_stage_duration_seconds_count{stage=\"infer\"} 2\n"));
    EXPECT_THAT(text, HasSubstr("cardionode_last_inference_seconds 20.5\n"));
    EXPECT_THAT(text, HasSubstr("cardionode_last_study_finished_timestamp_seconds 1700000000.5\n"));
}

TEST(PipelineStats, TellsFailuresByKindAndSendingByDestination) {
    PipelineStats stats("m", "1", "0");
    stats.study(reject_error("no CT"));
    stats.output("pacs1", std::string());
    stats.output("pacs1", retry_error("away"));
    stats.output("pacs1", retry_error("away"));
    const std::string text = stats.metrics();
    EXPECT_THAT(text, HasSubstr("cardionode_studies_failed_total{kind=\"reject\"} 1\n"));
    EXPECT_THAT(text, HasSubstr("cardionode_studies_failed_total{kind=\"bug\"} 0\n"));
    EXPECT_THAT(text, HasSubstr("cardionode_outputs_sent_total{destination=\"pacs1\"} 1\n"));
    EXPECT_THAT(text, HasSubstr("cardionode_output_tries_failed_total{destination=\"pacs1\",kind=\"retry\"} 2\n"));
}
