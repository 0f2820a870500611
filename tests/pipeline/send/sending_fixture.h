// Studies whose outputs wait in a queue of their own, and a worker that sends them to a peer of this test.
#pragma once

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "pipeline/send/send_worker.h"
#include "tests/pipeline/send/peer.h"
#include "tests/pipeline/send/sample.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {

class Sending : public testing::Test {
protected:
    static void SetUpTestSuite() { prepare_dicom_network(2, 1); }

    /// A finished study whose outputs wait for the destinations.
    /// @param side  pixels a side of each
    void finish_study(const std::vector<std::string>& destinations, int outputs, int side = 32) {
        auto queue = Queue::open(database_, clock_);
        ASSERT_TRUE(queue) << queue.error().message;
        const std::string study = derive_uid({"study", std::to_string(++studies_)});
        ReceivedInstance instance;
        instance.study_instance_uid = study;
        instance.series_instance_uid = derive_uid({study, "series"});
        instance.sop_instance_uid = derive_uid({study, "image"});
        instance.sop_class_uid = "1.2.840.10008.5.1.4.1.1.2";
        instance.transfer_syntax_uid = "1.2.840.10008.1.2.1";
        instance.modality = "CT";
        instance.sha256 = std::string(64, 'a');
        instance.file = "image" + std::to_string(studies_);
        instance.received_at = clock_.now();
        const auto added = queue->add_instances({{instance}});
        ASSERT_TRUE(added) << added.error().message;
        ASSERT_TRUE(queue->force_complete(added->front().study_key));
        auto claim = queue->claim_study("test", std::chrono::seconds(60));
        ASSERT_TRUE(claim && *claim);
        std::vector<OutputFile> files;
        for (int o = 0; o < outputs; ++o) {
            files.push_back(
                write_sample(folder_.path(), "out" + std::to_string(studies_) + "_" + std::to_string(o), side));
        }
        const auto done = queue->finish_study(**claim, {"done", "{}"}, files, destinations);
        ASSERT_TRUE(done && *done);
        key_ = (*claim)->study_key;
    }
    /// @param commitment  as in the settings
    SendWorker worker(const std::string& name, int port, const std::string& commitment = "off") {
        SendWorkerOptions options;
        options.database = database_;
        options.work_folder = folder_.path();
        options.destination.name = name;
        options.destination.ae_title = "PACS";
        options.destination.host = "127.0.0.1";
        options.destination.port = port;
        options.destination.commitment = commitment;
        options.timeouts = {2, 1, 1};
        options.poll = Milliseconds(20);
        auto made = SendWorker::create(options, clock_);
        if (!made) throw std::runtime_error(made.error().message);
        return std::move(*made);
    }
    StudyRow study() { return **Queue::open(database_, clock_)->study(key_); }
    std::vector<OutputRow> outputs() { return *Queue::open(database_, clock_)->outputs_of(key_); }

    TemporaryFolder folder_;
    std::filesystem::path database_ = folder_ / "queue.db";
    FakeClock clock_;
    std::string key_;
    int studies_ = 0;
};

}  // namespace cardionode::test
