// The program itself: how it starts, how it refuses to, and how it stops.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/files.h"
#include "scp/audit/reader.h"
#include "tests/pipeline/runner/ct_study.h"
#include "tests/support/free_port.h"
#include "tests/support/heart_phantom.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using namespace cardionode::test;
using namespace std::chrono_literals;
using testing::HasSubstr;

namespace {

class Service : public testing::Test {
protected:
    Service() { write_settings(std::filesystem::path(CARDIONODE_SOURCE_DIR) / "tests/data/quick_bundle"); }
    void write_settings(const std::filesystem::path& bundle) {
        std::ofstream file(folder_ / "node.yaml");
        file << "node:\n  spool: " << (folder_ / "spool").string() << "\n  work: " << (folder_ / "work").string()
             << "\n  database: " << (folder_ / "queue.db").string() << "\npipeline:\n  device: cpu\n  threads: 1\n"
             << "  poll_seconds: 0.1\n  bundle: " << bundle.string() << "\n";
    }
    Queue queue() { return Queue::open(folder_ / "queue.db").value(); }
    std::string receive(const std::string& name) {
        const auto instances = write_ct_study(folder_ / "spool", name, contrast_ct(350, 1.5), system_clock().now());
        auto q = queue();
        const auto key = q.add_instances(instances).value().front().study_key;
        if (!q.force_complete(key)) throw std::runtime_error("the study is not ready");
        return key;
    }
    Process start() {
        Process::Options options;
        options.output = folder_ / "log";
        return Process::start({program("cardionode-pipeline"), "--config", folder_ / "node.yaml"}, options);
    }
    std::string log() {
        const auto text = read_file(folder_ / "log");
        return text ? *text : "";
    }
    bool logged(const std::string& words) {
        return eventually(60s, [&] { return log().find(words) != std::string::npos; });
    }
    StudyRow study(const std::string& key) { return queue().study(key).value().value(); }

    TemporaryFolder folder_;
};

}  // namespace

TEST_F(Service, AskedToStopWhileIdleItEndsAtOnce) {
    auto pipeline = start();
    ASSERT_TRUE(logged("pipeline_started")) << log();
    pipeline.signal(SIGTERM);
    const auto ending = pipeline.wait(5s);
    ASSERT_TRUE(ending);
    EXPECT_EQ(*ending, (Ending{0, 0}));
    EXPECT_THAT(log(), testing::HasSubstr("pipeline_stopped"));
}

TEST_F(Service, AskedToStopWhileComputingItGivesTheStudyBack) {
    const auto key = receive("a");
    auto pipeline = start();
    ASSERT_TRUE(logged("stage=infer")) << log();
    pipeline.signal(SIGTERM);
    const auto ending = pipeline.wait(30s);
    ASSERT_TRUE(ending);
    EXPECT_EQ(*ending, (Ending{0, 0}));
    // On a fast machine the study may have been finished instead: both are a clean end.
    const auto state = study(key).state;
    EXPECT_TRUE(state == StudyState::Ready || state == StudyState::Done) << to_string(state);
    auto again = start();
    EXPECT_TRUE(eventually(60s, [&] { return study(key).state == StudyState::Done; })) << log();
    EXPECT_EQ(study(key).attempts, 1);
}

TEST_F(Service, KilledWhileComputingItsNextStartTakesTheStudyOverAtOnce) {
    const auto key = receive("a");
    auto first = start();
    ASSERT_TRUE(logged("stage=infer")) << log();
    first.kill_hard();
    auto second = start();
    EXPECT_TRUE(eventually(60s, [&] { return study(key).state == StudyState::Done; })) << log();
    EXPECT_FALSE(queue().outputs_of(key).value().empty());
}

TEST_F(Service, ASecondOneInTheSameWorkFolderIsRefused) {
    auto first = start();
    ASSERT_TRUE(logged("pipeline_started")) << log();
    const auto second = run({program("cardionode-pipeline"), "--config", folder_ / "node.yaml"}, 30s);
    EXPECT_EQ(second.ending, (Ending{2, 0}));
    EXPECT_THAT(second.errors, testing::HasSubstr("another cardionode-pipeline works in"));
    EXPECT_TRUE(first.running());
}

TEST_F(Service, WithoutItsBundleItStopsWithAReason) {
    write_settings(folder_ / "no_bundle");
    const auto ended = run({program("cardionode-pipeline"), "--config", folder_ / "node.yaml"}, 30s);
    EXPECT_EQ(ended.ending, (Ending{2, 0}));
    EXPECT_THAT(ended.errors, testing::HasSubstr("no_bundle"));
}

TEST_F(Service, WrongUseIsToldAndEndsWithTwo) {
    EXPECT_EQ(run({program("cardionode-pipeline"), "--what"}, 30s).ending, (Ending{2, 0}));
    EXPECT_EQ(run({program("cardionode-pipeline"), "--version"}, 30s).ending, (Ending{0, 0}));
}

TEST_F(Service, AnswersPrometheusAndHealthChecksAndIsAudited) {
    if (!installed("curl")) GTEST_SKIP() << "curl is not installed";
    const int port = free_port();
    std::ofstream(folder_ / "node.yaml", std::ios::app)
        << "metrics:\n  pipeline_port: " << port
        << "\naudit:\n  host: 127.0.0.1\n  transport: tcp\n  spool: " << (folder_ / "audit").string() << "\n";
    auto pipeline = start();
    ASSERT_TRUE(logged("pipeline_started")) << log();
    const auto ask = [&](const std::string& path) {
        return run({"curl", "-s", "http://127.0.0.1:" + std::to_string(port) + path}).output;
    };
    EXPECT_THAT(ask("/metrics"), HasSubstr("cardionode_model_info{name="));
    EXPECT_EQ(ask("/health"), "live\nready\n");
    EXPECT_EQ(pipeline.stop(), (Ending{0, 0}));
    auto audit = AuditReader::open(folder_ / "audit").value();
    const auto events = audit.next(10).value();
    ASSERT_EQ(events.size(), 2U);
    EXPECT_THAT(events[0], HasSubstr("Application Start"));
    EXPECT_THAT(events[1], HasSubstr("Application Stop"));
}
