// A queue in a folder of its own with a clock that the test moves, and instances that need no DICOM.
#pragma once

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scp/queue/queue.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Milliseconds kSeriesQuiet = seconds(20);
constexpr Milliseconds kStudyQuiet = seconds(60);
constexpr Milliseconds kLease = seconds(120);

/// @param study   "1", "2" ...: part of the UIDs
/// @param number  of the instance within its series; unique within the study for one series
/// @param content decides the checksum; the file name is made of all of them
inline ReceivedInstance make_instance(const std::string& study, const std::string& series, int number,
                                      const std::string& content = "a") {
    ReceivedInstance instance;
    instance.study_instance_uid = "1.2." + study;
    instance.series_instance_uid = instance.study_instance_uid + "." + series;
    instance.sop_instance_uid = instance.series_instance_uid + "." + std::to_string(number);
    instance.sop_class_uid = "1.2.840.10008.5.1.4.1.1.2";
    instance.transfer_syntax_uid = "1.2.840.10008.1.2.1";
    instance.modality = "CT";
    instance.sha256 = "sha-" + instance.sop_instance_uid + "-" + content;
    instance.file = study + "-" + series + "-" + std::to_string(number) + "-" + content + ".dcm";
    instance.bytes = 1000;
    instance.calling_ae_title = "CT1";
    instance.called_ae_title = "CARDIONODE";
    instance.peer_address = "10.0.0.7";
    return instance;
}

inline std::vector<ReceivedInstance> make_series(const std::string& study, const std::string& series, int count) {
    std::vector<ReceivedInstance> out;
    for (int i = 1; i <= count; ++i) out.push_back(make_instance(study, series, i));
    return out;
}

inline OutputFile make_output(const std::string& uid, const std::string& kind = "SEG") {
    return {kind, "1.2.840.10008.5.1.4.1.1.66.4", uid, uid + ".dcm"};
}

/// The value of a Result that the test cannot go on without.
template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return *std::move(result);
}
inline void must(Result<void> result) {
    if (!result) throw std::runtime_error(result.error().message);
}

class QueueTest : public testing::Test {
protected:
    QueueTest() : queue(open()) {}

    Queue open() const { return must(Queue::open(file(), clock, {.jitter_seed = 7})); }
    std::filesystem::path file() const { return folder / "queue.db"; }

    Ingested add(const ReceivedInstance& instance) { return must(queue.add_instances({&instance, 1})).at(0); }
    /// @return the study's key
    std::string add_series(const std::string& study, const std::string& series, int count) {
        return must(queue.add_instances(make_series(study, series, count))).at(0).study_key;
    }
    std::string add_ready_study(const std::string& study, int count = 3) {
        const std::string key = add_series(study, "1", count);
        must(queue.force_complete(key));
        return key;
    }
    ClaimedStudy claim(const std::string& worker = "w") {
        auto claimed = must(queue.claim_study(worker, kLease));
        if (!claimed) throw std::runtime_error("nothing to claim");
        return *claimed;
    }
    ClaimedOutput claim_output(const std::string& destination = "") {
        auto claimed = must(queue.claim_output("s", kLease, destination));
        if (!claimed) throw std::runtime_error("no output to claim");
        return *claimed;
    }
    /// Takes a study up to `sending` with these outputs.
    std::string add_sending_study(const std::string& study, const std::vector<OutputFile>& outputs,
                                  const std::vector<std::string>& destinations) {
        const std::string key = add_ready_study(study);
        must(queue.finish_study(claim(), {"all found", "{}"}, outputs, destinations));
        return key;
    }
    StudyRow row(const std::string& key) { return must(queue.study(key)).value(); }
    StudyState state(const std::string& key) { return row(key).state; }
    std::vector<std::string> events(const std::string& key) {
        std::vector<std::string> out;
        for (const EventRow& event : must(queue.events_of(key))) out.push_back(event.event);
        return out;
    }
    std::vector<std::string> output_states(const std::string& key) {
        std::vector<std::string> out;
        for (const OutputRow& output : must(queue.outputs_of(key))) out.push_back(output.state);
        return out;
    }

    TemporaryFolder folder;
    FakeClock clock;
    Queue queue;
};

}  // namespace cardionode::test
