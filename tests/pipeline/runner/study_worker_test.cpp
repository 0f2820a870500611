#include "pipeline/runner/study_worker.h"

#include <chrono>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/pipeline/runner/ct_study.h"
#include "tests/support/fake_clock.h"
#include "tests/support/heart_phantom.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using namespace cardionode::test;
using namespace std::chrono_literals;

namespace {

class Worker : public testing::Test {
protected:
    Worker() {
        options_.database = folder_ / "queue.db";
        options_.spool = folder_ / "spool";
        options_.analysis.work_folder = folder_ / "work";
        options_.analysis.device_name = "NODE";
        options_.analysis.software_version = "0.1.0";
        options_.manifest = manifest();
        options_.destinations = {"pacs1"};
        options_.pipeline.max_attempts = 2;
    }
    Queue queue() { return Queue::open(options_.database, clock_).value(); }
    std::string receive(const std::string& name) {
        const auto instances = write_ct_study(options_.spool, name, contrast_ct(350, 2), clock_.now());
        auto q = queue();
        const auto key = q.add_instances(instances).value().front().study_key;
        const auto ready = q.force_complete(key);
        if (!ready) throw std::runtime_error(ready.error().message);
        clock_.advance(1s);
        return key;
    }
    StudyRow study(const std::string& key) { return queue().study(key).value().value(); }
    StudyWorker worker() { return StudyWorker::create(options_, model_, clock_).value(); }
    bool work() { return worker().work_next({}).value(); }

    TemporaryFolder folder_;
    FakeClock clock_;
    StudyWorkerOptions options_;
    Model model_ = [](const Volume&, const Progress&) -> Result<Prediction> { return prediction(); };
};

}  // namespace

TEST_F(Worker, AReadyStudyBecomesRowsOfTheOutbox) {
    options_.destinations = {"pacs1", "pacs2"};
    const auto key = receive("a");
    EXPECT_TRUE(work());
    EXPECT_EQ(study(key).state, StudyState::Sending) << study(key).last_error;
    const auto rows = queue().outputs_of(key).value();
    std::set<std::string> uids;
    for (const auto& row : rows) uids.insert(row.output.sop_instance_uid);
    EXPECT_EQ(rows.size(), 2 * uids.size());
    EXPECT_GE(uids.size(), 5U);
    const auto json = nlohmann::json::parse(queue().result_json_of(key).value());
    EXPECT_EQ(json["landmarks"].size(), 7U);
    EXPECT_THAT(study(key).outcome, testing::HasSubstr("7 of 7 landmarks"));
    EXPECT_FALSE(work()) << "nothing is left to do";
}

TEST_F(Worker, WithoutADestinationTheStudyIsDone) {
    options_.destinations.clear();
    const auto key = receive("a");
    EXPECT_TRUE(work());
    EXPECT_EQ(study(key).state, StudyState::Done);
}

TEST_F(Worker, WhateverAStudyThrowsEndsThatStudyAlone) {
    const auto first = receive("a"), second = receive("b"), third = receive("c");
    int calls = 0;
    model_ = [&](const Volume&, const Progress&) -> Result<Prediction> {
        if (++calls == 1) throw std::runtime_error("tensor of the wrong shape");
        if (calls == 2) throw 7;
        return prediction();
    };
    auto w = worker();
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(w.work_next({}).value());
    EXPECT_EQ(study(first).state, StudyState::SetAside);
    EXPECT_THAT(study(first).last_error, testing::HasSubstr("tensor of the wrong shape"));
    EXPECT_EQ(study(second).state, StudyState::SetAside);
    EXPECT_EQ(study(third).state, StudyState::Sending);
}

TEST_F(Worker, ARefusedStudyIsSetAsideWithItsReason) {
    options_.analysis.series.min_slices = 500;
    const auto key = receive("a");
    EXPECT_TRUE(work());
    EXPECT_EQ(study(key).state, StudyState::SetAside);
    EXPECT_THAT(study(key).last_error, testing::HasSubstr("slices"));
    EXPECT_TRUE(queue().outputs_of(key).value().empty());
}

TEST_F(Worker, APassingTroubleIsTriedAgainAndInTheEndSetAside) {
    model_ = [](const Volume&, const Progress&) -> Result<Prediction> { return retry_error("memory full"); };
    const auto key = receive("a");
    auto w = worker();
    EXPECT_TRUE(w.work_next({}).value());
    EXPECT_EQ(study(key).state, StudyState::Ready);
    EXPECT_FALSE(w.work_next({}).value()) << "the pause must pass first";
    clock_.advance(1h);
    EXPECT_TRUE(w.work_next({}).value());
    EXPECT_EQ(study(key).state, StudyState::SetAside);
    EXPECT_THAT(study(key).last_error, testing::HasSubstr("memory full"));
}

TEST_F(Worker, AskedToStopItGivesTheStudyBackUncounted) {
    const auto key = receive("a");
    std::stop_source stop;
    model_ = [&](const Volume&, const Progress& progress) -> Result<Prediction> {
        stop.request_stop();
        if (!progress(1, 9)) return retry_error("cancelled");
        return prediction();
    };
    EXPECT_TRUE(worker().work_next(stop.get_token()).value());
    EXPECT_EQ(study(key).state, StudyState::Ready);
    EXPECT_EQ(study(key).attempts, 0);
    EXPECT_TRUE(study(key).last_error.empty());
    model_ = [](const Volume&, const Progress&) -> Result<Prediction> { return prediction(); };
    EXPECT_TRUE(work());
    EXPECT_EQ(study(key).state, StudyState::Sending);
}

TEST_F(Worker, AWrongInstallationGivesTheStudyBackAndStops) {
    const auto key = receive("a");
    model_ = [](const Volume&, const Progress&) -> Result<Prediction> { return config_error("no such GPU"); };
    auto w = worker();
    const auto stopped = w.run({});
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().kind, ErrorKind::Config);
    EXPECT_EQ(study(key).state, StudyState::Ready);
    EXPECT_EQ(study(key).attempts, 0);
}

TEST_F(Worker, ALateImageMakesTheWorkPointlessAndNothingIsStored) {
    const auto key = receive("a");
    options_.pipeline.lease_seconds = 1;  // a renewal every quarter of a second
    auto late = write_ct_study(options_.spool, "late", contrast_ct(350, 2), clock_.now());
    late.resize(1);
    late[0].study_instance_uid = derive_uid({"study", "a"});
    bool told = false;
    model_ = [&](const Volume&, const Progress& progress) -> Result<Prediction> {
        EXPECT_TRUE(queue().add_instances(late));
        for (int i = 0; i < 100 && !told; ++i) {
            std::this_thread::sleep_for(50ms);
            told = !progress(i, 100);
        }
        return retry_error("cancelled");
    };
    EXPECT_TRUE(work());
    EXPECT_TRUE(told) << "the heartbeat must notice";
    EXPECT_EQ(study(key).state, StudyState::Receiving);
    EXPECT_EQ(study(key).revision, 2);
    EXPECT_EQ(study(key).attempts, 0);
}

TEST_F(Worker, AfterACrashTheStudyRunsAgainAtOnceUnderTheSameUids) {
    const auto key = receive("a");
    std::vector<std::string> first;
    {
        // A worker that wrote everything and was killed before it could tell the queue.
        const auto claim = queue().claim_study("analyser", 120s).value().value();
        StudyInput input;
        input.study_key = key;
        input.moment = study(key).last_received;
        for (const auto& i : claim.instances)
            input.files.push_back({options_.spool / i.file, i.sop_class_uid, i.modality});
        const auto done = analyse(input, options_.analysis, options_.manifest, model_, {});
        ASSERT_TRUE(done) << done.error().message;
        for (const auto& o : done->outputs.files) first.push_back(o.sop_instance_uid);
    }
    EXPECT_TRUE(work()) << "without waiting for the lease of the dead";
    std::vector<std::string> second;
    const auto rows = queue().outputs_of(key).value();
    for (const auto& row : rows) second.push_back(row.output.sop_instance_uid);
    EXPECT_THAT(second, testing::UnorderedElementsAreArray(first));
}

TEST_F(Worker, ASignOfLifeComesWithEveryWindow) {
    receive("a");
    int beats = 0;
    options_.alive = [&] { ++beats; };
    model_ = [](const Volume&, const Progress& progress) -> Result<Prediction> {
        for (int i = 0; i < 1000; ++i) progress(i, 1000);
        return prediction();
    };
    EXPECT_TRUE(work());
    EXPECT_GE(beats, 1000);
}
