// Storage commitment with a real PACS, both ways: Orthanc commits what it got from us, and asks us about what it sent.
// Orthanc always reports on an association of its own.
#include <fstream>

#include <gmock/gmock.h>

#include "tests/pipeline/send/sending_fixture.h"
#include "tests/support/free_port.h"
#include "tests/support/pacs.h"
#include "tests/support/process.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::seconds;
using testing::Each;
using testing::HasSubstr;
using testing::SizeIs;

namespace {

class WithOrthanc : public Sending {
protected:
    void SetUp() override {
        if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
        pacs_.start();
        // The receiver has the real time.
        clock_.advance(std::chrono::duration_cast<Milliseconds>(system_clock().now() - clock_.now()));
        std::ofstream(folder_ / "node.yaml")
            << "node:\n  spool: " << (folder_ / "spool").string() << "\n  work: " << folder_.path().string()
            << "\n  database: " << database_.string() << "\nscp:\n  port: " << port_
            << "\n  min_free_mib: 0\n  accept_unknown_peers: false\n  peers:\n    - ae_title: PACS1\n"
            << "      host: 127.0.0.1\n      port: " << pacs_.port() << "\n"
            << "destinations:\n  - name: pacs1\n    ae_title: PACS1\n    host: 127.0.0.1\n    port: " << pacs_.port()
            << "\n";
        Process::Options options;
        options.output = folder_ / "receiver.log";
        receiver_ = Process::start({program("cardionode-scp"), "--config", (folder_ / "node.yaml").string()}, options);
        ASSERT_TRUE(eventually(seconds(30), [&] { return listens(port_); }));
    }
    SendWorker sender() {
        SendWorkerOptions options;
        options.database = database_;
        options.work_folder = folder_.path();
        options.destination.name = "pacs1";
        options.destination.ae_title = "PACS1";
        options.destination.host = "127.0.0.1";
        options.destination.port = pacs_.port();
        options.destination.commitment = "required";
        options.destination.retry_first_seconds = 1;
        options.timeouts = {10, 30, 1};
        auto made = SendWorker::create(options);
        if (!made) throw std::runtime_error(made.error().message);
        return std::move(*made);
    }
    std::string log() const {
        std::ifstream in(folder_ / "receiver.log");
        return {std::istreambuf_iterator<char>(in), {}};
    }

    int port_ = free_port();
    Orthanc pacs_{folder_ / "pacs", {{"CARDIONODE", port_}}};
    std::optional<Process> receiver_;
};

}  // namespace

TEST_F(WithOrthanc, CommitsWhatItGotAndOnlyThenTheStudyIsDone) {
    finish_study({"pacs1"}, 3);
    auto worker = sender();
    for (int o = 0; o < 3; ++o) {
        EXPECT_NE(study().state, StudyState::Done);
        ASSERT_TRUE(*worker.send_next());
    }
    EXPECT_EQ(study().state, StudyState::Sending) << "sent is not committed";
    ASSERT_TRUE(*worker.send_next());
    EXPECT_TRUE(eventually(seconds(20), [&] { return study().state == StudyState::Done; }))
        << study().last_error << "\n"
        << log();
    for (const OutputRow& output : outputs()) EXPECT_EQ(output.commitment, "committed");
    EXPECT_THAT(log(), HasSubstr("commitment_answered"));
    EXPECT_THAT(pacs_.instances(), SizeIs(3));
}

TEST_F(WithOrthanc, WhatItLostIsSentAgainAndThenCommitted) {
    finish_study({"pacs1"}, 2);
    auto worker = sender();
    ASSERT_TRUE(*worker.send_next());
    ASSERT_TRUE(*worker.send_next());
    const auto held = pacs_.instances();
    ASSERT_THAT(held, SizeIs(2));
    ASSERT_TRUE(run({"curl", "-sf", "-X", "DELETE",
                     "http://127.0.0.1:" + std::to_string(pacs_.http_port()) + "/instances/" + held[0].id})
                    .ok());
    ASSERT_TRUE(*worker.send_next());
    ASSERT_TRUE(eventually(seconds(20), [&] { return study().outputs_sent == 1; })) << log();
    EXPECT_THAT(study().last_error, HasSubstr("no such instance (0x0112)"));
    std::jthread sending([&](const std::stop_token& stop) { worker.run(stop); });
    EXPECT_TRUE(eventually(seconds(30), [&] { return study().state == StudyState::Done; })) << study().last_error;
    EXPECT_THAT(pacs_.instances(), SizeIs(2)) << "none is lost, none is there twice";
}

TEST_F(WithOrthanc, IsToldThatWeKeepWhatItSent) {
    // Two images that Orthanc holds and sends to us as a scanner would.
    finish_study({"pacs1"}, 2);
    auto worker = sender();
    ASSERT_TRUE(*worker.send_next());
    ASSERT_TRUE(*worker.send_next());
    nlohmann::json resources = nlohmann::json::array();
    for (const auto& held : pacs_.instances()) resources.push_back(held.id);
    ASSERT_EQ(resources.size(), 2U);
    const auto stored = pacs_.post("/modalities/CARDIONODE/store",
                                   {{"Resources", resources}, {"StorageCommitment", true}, {"Synchronous", true}});
    const std::string transaction = stored.at("StorageCommitmentTransactionUID");
    nlohmann::json report;
    EXPECT_TRUE(eventually(seconds(20),
                           [&] {
                               report = pacs_.get("/storage-commitment/" + transaction);
                               return report.at("Status") != "Pending";
                           }))
        << report << "\n"
        << log();
    EXPECT_EQ(report.at("Status"), "Success") << report;
    EXPECT_EQ(report.at("Success").size(), 2U);
    EXPECT_THAT(log(), HasSubstr("commitment_reported"));

    // And about what we never got.
    nlohmann::json unknown = nlohmann::json::array();
    unknown.push_back({"1.2.840.10008.5.1.4.1.1.2", "1.2.3.404"});
    const auto asked = pacs_.post("/modalities/CARDIONODE/storage-commitment", {{"DicomInstances", unknown}});
    const std::string other = asked.at("ID");
    EXPECT_TRUE(eventually(seconds(20),
                           [&] {
                               report = pacs_.get("/storage-commitment/" + other);
                               return report.at("Status") != "Pending";
                           }))
        << report << "\n"
        << log();
    EXPECT_EQ(report.at("Status"), "Failure") << report;
}
