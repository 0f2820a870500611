// Images that do not come as they should: late, again, under another patient or another scanner's UID, over hours. Each
// rule of the settings over real sockets; hours pass by the shifted clock, and this test stands in for the pipeline.
#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "conf/command/operator_reports.h"
#include "tests/scp/server/receiver.h"
#include "tests/support/free_port.h"
#include "tests/support/pacs.h"
#include "tests/support/shifted_clock.h"

using namespace cardionode;
using namespace cardionode::test;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

namespace {

constexpr Milliseconds kLease = minutes(10);
const std::string kStudy = "1.2.3.1";

Instance slice_of_patient(int number, const std::string& patient, std::uint8_t content = 1) {
    Instance instance;
    instance.sop_class_uid = kCtImage;
    instance.sop_instance_uid = kStudy + ".9." + std::to_string(number);
    instance.transfer_syntax_uid = kExplicit;
    DataSet set(kExplicit);
    set.element(0x00080016, "UI", instance.sop_class_uid).element(0x00080018, "UI", instance.sop_instance_uid);
    set.element(0x00080060, "CS", "CT").element(0x00100010, "PN", "Somebody^Else").element(0x00100020, "LO", patient);
    set.element(0x0020000d, "UI", kStudy).element(0x0020000e, "UI", kStudy + ".1").pixels(2000, content);
    instance.dataset = set.bytes;
    return instance;
}

std::vector<Instance> slices(int from, int count, const std::string& study = kStudy) {
    std::vector<Instance> out;
    for (int i = from; i < from + count; ++i) out.push_back(made_slice(i, study));
    return out;
}

class Arrival : public testing::Test {
protected:
    void start(const std::string& scp_settings = {}) {
        const bool own_quiet = scp_settings.find("study_quiet") != std::string::npos;
        receiver_.emplace((own_quiet ? "" : "  series_quiet_seconds: 20\n  study_quiet_seconds: 60\n") + scp_settings);
        receiver_->start(clock_.environment());
        queue_.emplace(Queue::open(receiver_->folder() / "queue/queue.db", clock_).value());
    }

    /// Sends them in one association, and waits until the queue has them.
    void send(const std::vector<Instance>& instances, const std::string& from = "CT1") {
        {
            Scanner scanner(receiver_->port(), instances, {.calling_ae_title = from});
            ASSERT_TRUE(scanner.accepted());
            for (const Instance& instance : instances) ASSERT_EQ(scanner.store(instance), 0);
            scanner.release();
        }
        ASSERT_TRUE(eventually(seconds(30), [&] { return receiver_->files_in("ingest") == 0; }));
    }
    /// A study that is quiet from now on. Once the receiver has handed it over, it has looked at all others too.
    void mark() { send({made_slice(1, marker(++markers_))}, "MARKER"); }
    static std::string marker(int number) { return "1.2.9." + std::to_string(number); }
    ::testing::AssertionResult has_looked_since_mark(int number) {
        if (!comes_to(StudyState::Ready, marker(number))) return ::testing::AssertionFailure() << "mark " << number;
        const ClaimedStudy claimed = claim();
        if (claimed.study_key != key_of(marker(number))) return ::testing::AssertionFailure() << "another was ready";
        finish(claimed);
        return ::testing::AssertionSuccess();
    }
    std::string key_of(const std::string& study_instance_uid = kStudy) {
        for (const StudyRow& row : queue_->studies().value())
            if (row.study_instance_uid == study_instance_uid) return row.study_key;
        ADD_FAILURE() << "no such study";
        return {};
    }
    StudyRow row(const std::string& study = kStudy) { return queue_->study(key_of(study)).value().value(); }
    bool comes_to(StudyState state, const std::string& study = kStudy) {
        return eventually(seconds(20), [&] { return row(study).state == state; });
    }
    /// Time passes until it is handed over.
    ::testing::AssertionResult is_handed_over(Milliseconds after = seconds(61)) {
        clock_.advance(after);
        if (comes_to(StudyState::Ready)) return ::testing::AssertionSuccess();
        return ::testing::AssertionFailure() << "it is " << to_string(row().state) << ": " << row().last_error;
    }
    ClaimedStudy claim() {
        const auto claimed = queue_->claim_study("w", kLease).value();
        if (!claimed) throw std::runtime_error("nothing to claim");
        return *claimed;
    }
    bool finish(const ClaimedStudy& study) { return queue_->finish_study(study, {"found", "{}"}, {}, {}).value(); }
    void analyse() { ASSERT_TRUE(finish(claim())); }
    bool nothing_to_do() { return !queue_->claim_study("w", kLease).value(); }
    std::string events() {
        std::string all;
        for (const EventRow& event : queue_->events_of(key_of()).value())
            all += event.event + ": " + event.detail + "\n";
        return all;
    }
    /// What `cardionode show` prints.
    std::string show() { return show_report({.config = receiver_->folder() / "node.yaml"}, key_of(), clock_)->text; }
    /// Not a byte of `text` in the log or in the queue's files.
    void expect_nowhere(const std::string& text) {
        EXPECT_THAT(receiver_->log(), Not(HasSubstr(text)));
        for (const auto& entry : std::filesystem::directory_iterator(receiver_->folder() / "queue")) {
            std::ifstream in(entry.path(), std::ios::binary);
            std::ostringstream bytes;
            bytes << in.rdbuf();
            EXPECT_EQ(bytes.str().find(text), std::string::npos) << entry.path();
        }
    }

    ShiftedClock clock_;
    std::optional<Receiver> receiver_;
    std::optional<Queue> queue_;
    int markers_ = 0;
};
class LateImage : public Arrival {};
class SentAgain : public Arrival {};
class MergedPatient : public Arrival {};
class TwoScanners : public Arrival {};
class LongStudy : public Arrival {};

}  // namespace

TEST_F(LateImage, OfADoneStudyBeginsANewRevision) {
    start();
    send(slices(1, 3));
    ASSERT_TRUE(is_handed_over());
    analyse();
    send(slices(4, 1));
    EXPECT_EQ(row().state, StudyState::Receiving);
    EXPECT_EQ(row().revision, 2);
    ASSERT_TRUE(is_handed_over());
    const ClaimedStudy second = claim();
    EXPECT_EQ(second.revision, 2);
    EXPECT_EQ(second.instances.size(), 4U);
    EXPECT_THAT(events(), HasSubstr("late_image: 1 more instance: revision 2 begins"));
}

TEST_F(LateImage, DuringTheAnalysisVoidsIt) {
    start();
    send(slices(1, 3));
    ASSERT_TRUE(is_handed_over());
    const ClaimedStudy first = claim();
    send(slices(4, 1));
    EXPECT_FALSE(finish(first)) << "a result without the late image was stored";
    ASSERT_TRUE(is_handed_over());
    EXPECT_EQ(claim().instances.size(), 4U);
}

TEST_F(LateImage, BeforeAnybodyTookTheStudyUpIsNotLateAndBelongsToTheSameRevision) {
    for (const char* settings : {"", "  late_images: keep\n"}) {
        start(settings);
        send(slices(1, 3));
        ASSERT_TRUE(is_handed_over());
        send(slices(4, 1));
        EXPECT_EQ(row().state, StudyState::Receiving);
        EXPECT_EQ(row().revision, 1);
        EXPECT_EQ(row().late, 0);
    }
}

TEST_F(LateImage, IsOnlyKeptWhereTheSettingsSaySoAndARetryTakesItAlong) {
    start("  late_images: keep\n");
    send(slices(1, 3));
    ASSERT_TRUE(is_handed_over());
    const ClaimedStudy first = claim();
    send(slices(4, 1));
    EXPECT_EQ(row().state, StudyState::Processing);
    EXPECT_TRUE(finish(first)) << "the analysis that runs goes on";
    send(slices(5, 2));
    EXPECT_EQ(row().state, StudyState::Done);
    EXPECT_EQ(row().revision, 1);
    EXPECT_EQ(row().instances, 6);
    EXPECT_EQ(row().late, 3);
    EXPECT_TRUE(nothing_to_do());
    EXPECT_EQ(receiver_->stored().size(), 6U) << "kept on the disk";
    const std::string shown = show();
    EXPECT_THAT(shown, HasSubstr("Late images  3, in no result yet"));
    ASSERT_TRUE(queue_->retry(key_of()).ok());
    const ClaimedStudy second = claim();
    EXPECT_EQ(second.revision, 2);
    EXPECT_EQ(second.instances.size(), 6U);
    EXPECT_TRUE(finish(second));
    EXPECT_EQ(row().late, 0);
    EXPECT_FALSE(queue_->retry(key_of()).ok()) << "there is nothing more to take along";
}

TEST_F(SentAgain, AWholeStudyMakesNoWorkWhateverItsStateIsAndWhoeverSendsIt) {
    start();
    const auto images = slices(1, 3);
    send(images);
    send(images, "CT2");
    EXPECT_EQ(row().instances, 3);
    ASSERT_TRUE(is_handed_over());
    send(images);
    EXPECT_EQ(row().state, StudyState::Ready);
    const ClaimedStudy first = claim();
    send(images, "PACS1");
    EXPECT_EQ(row().state, StudyState::Processing);
    EXPECT_TRUE(finish(first));
    const std::string before = events();
    const StudyRow done = row();
    send(images);
    EXPECT_EQ(row().state, StudyState::Done);
    EXPECT_EQ(row().revision, 1);
    EXPECT_EQ(row().bytes, done.bytes);
    EXPECT_EQ(row().conflicts, 0);
    EXPECT_EQ(events(), before);
    EXPECT_TRUE(nothing_to_do());
    EXPECT_EQ(receiver_->files_in("instances"), 3U) << "one file each";
}

TEST_F(MergedPatient, SetsTheStudyAsideForAPersonWhoLetsItGoOnWithTheFirstPatientId) {
    start();
    send({slice_of_patient(1, "FIRST-ID"), slice_of_patient(2, "FIRST-ID")});
    send({slice_of_patient(3, "MERGED-ID"), slice_of_patient(4, " FIRST-ID")});  // a space in front means nothing
    EXPECT_EQ(row().instances, 3);
    EXPECT_EQ(row().conflicts, 1);
    EXPECT_EQ(row().other_patient, 1);
    clock_.advance(seconds(61));
    ASSERT_TRUE(comes_to(StudyState::SetAside)) << to_string(row().state);
    EXPECT_THAT(row().last_error, HasSubstr("1 instance has another Patient ID"));
    EXPECT_TRUE(nothing_to_do());
    const std::string shown = show();
    EXPECT_THAT(shown, HasSubstr("no: another Patient ID than the first image"));
    EXPECT_THAT(receiver_->log(), HasSubstr("instance_of_other_patient"));
    ASSERT_TRUE(queue_->retry(key_of()).ok());
    const ClaimedStudy claimed = claim();
    EXPECT_EQ(claimed.instances.size(), 3U);
    EXPECT_EQ(claimed.other_patient, 1);
    EXPECT_TRUE(finish(claimed));
    for (const char* identity : {"FIRST-ID", "MERGED-ID", "Somebody"}) expect_nowhere(identity);
}

TEST_F(MergedPatient, AfterARestartIsStillKnown) {
    start();
    send({slice_of_patient(1, "FIRST-ID")});
    receiver_->process().kill_hard();
    receiver_->start(clock_.environment());
    send({slice_of_patient(2, "MERGED-ID"), slice_of_patient(3, "FIRST-ID")});
    EXPECT_EQ(row().instances, 2);
    EXPECT_EQ(row().other_patient, 1);
}

TEST_F(MergedPatient, OfAStudyThatWasHandedOverChangesNothingOfItsResult) {
    start();
    send({slice_of_patient(1, "FIRST-ID")});
    ASSERT_TRUE(is_handed_over());
    analyse();
    send({slice_of_patient(2, "MERGED-ID"), slice_of_patient(1, "MERGED-ID")});  // a new image, and a corrected one
    EXPECT_EQ(row().state, StudyState::Done);
    EXPECT_EQ(row().revision, 1);
    EXPECT_EQ(row().instances, 1);
    EXPECT_EQ(row().conflicts, 2);
    EXPECT_EQ(row().other_patient, 2);
    EXPECT_TRUE(nothing_to_do());
    send({slice_of_patient(3, "FIRST-ID")});
    ASSERT_TRUE(is_handed_over()) << "a late image of the first patient is analysed: nobody was mixed up by it";
}

TEST_F(MergedPatient, IsLeftOutWhereTheSettingsSaySo) {
    start("  other_patient_id: keep_first\n");
    send({slice_of_patient(1, "FIRST-ID"), slice_of_patient(2, "MERGED-ID")});
    ASSERT_TRUE(is_handed_over());
    const ClaimedStudy claimed = claim();
    EXPECT_EQ(claimed.instances.size(), 1U);
    EXPECT_EQ(claimed.other_patient, 1);
    EXPECT_THAT(events(), HasSubstr("other_patient: 1 instance from CT1"));
}

TEST_F(MergedPatient, IsUsedWhereTheSettingsSaySo) {
    start("  other_patient_id: accept\n");
    send({slice_of_patient(1, "FIRST-ID"), slice_of_patient(2, "MERGED-ID")});
    ASSERT_TRUE(is_handed_over());
    EXPECT_EQ(row().other_patient, 1) << "it is shown all the same";
    EXPECT_EQ(row().conflicts, 0);
    EXPECT_EQ(claim().instances.size(), 2U);
}

TEST_F(MergedPatient, SentAgainIsADuplicateAndAnImageWithoutAnIdIsEvidenceOfNothing) {
    start("  other_patient_id: keep_first\n");
    send({slice_of_patient(1, ""), slice_of_patient(2, "FIRST-ID"), slice_of_patient(3, "MERGED-ID")});
    send({slice_of_patient(3, "MERGED-ID"), slice_of_patient(4, "")}, "CT2");
    EXPECT_EQ(row().instances, 3);
    EXPECT_EQ(row().conflicts, 1);
    EXPECT_EQ(row().other_patient, 1);
    EXPECT_EQ(receiver_->files_in("instances"), 4U);
}

TEST_F(TwoScanners, ThatSendTheSameUidTheFirstStaysAndTheOtherIsCountedAndShown) {
    const int metrics = free_port();
    start("metrics:\n  receiver_port: " + std::to_string(metrics) + "\n");
    const Instance first = made_slice(1, kStudy, 2000, 1), second = made_slice(1, kStudy, 2000, 2);
    send({first, made_slice(2)}, "CT1");
    send({second}, "CT2");
    send({second}, "CT2");  // the same conflict again is a duplicate of its own
    EXPECT_EQ(row().instances, 2);
    EXPECT_EQ(row().conflicts, 1);
    EXPECT_THAT(events(), HasSubstr("conflict: 1 instance from CT2 under a UID that was there with other content"));
    EXPECT_THAT(receiver_->log(), HasSubstr("instance_conflict"));
    EXPECT_THAT(http_get(metrics, "/metrics").value().second,
                HasSubstr("cardionode_instances_indexed_total{outcome=\"conflict\"} 1\n"));
    ASSERT_TRUE(is_handed_over());
    const ClaimedStudy claimed = claim();
    ASSERT_EQ(claimed.instances.size(), 2U);
    EXPECT_EQ(claimed.instances[0].sha256, sha256_of(first));
    EXPECT_EQ(receiver_->stored().count(sha256_of(second)), 1U) << "the other content is kept, once";
    EXPECT_TRUE(finish(claimed));
    send({made_slice(2, kStudy, 2000, 3)}, "CT2");
    EXPECT_EQ(row().state, StudyState::Done) << "a conflict begins no revision";
}

TEST_F(LongStudy, OverAnHourWithPausesIsOneStudyWithAllItsImages) {
    start();
    int images = 0, revision = 0;
    for (int part = 0; part < 5; ++part) {
        send(slices(100 * part, 3));
        images += 3;
        ASSERT_TRUE(is_handed_over(minutes(15))) << "a pause of a quarter of an hour ends the waiting";
        const ClaimedStudy claimed = claim();
        EXPECT_EQ(claimed.instances.size(), static_cast<std::size_t>(images));
        EXPECT_EQ(claimed.revision, ++revision);
        EXPECT_TRUE(finish(claimed));
    }
    EXPECT_EQ(queue_->studies().value().size(), 1U);
    EXPECT_EQ(row().conflicts, 0);
}

TEST_F(LongStudy, WithPausesShorterThanTheQuietTimeIsAnalysedOnce) {
    start("  series_quiet_seconds: 1200\n  study_quiet_seconds: 1200\n");
    for (int part = 0; part < 5; ++part) {
        send(slices(100 * part, 3));
        mark();
        clock_.advance(minutes(15));
        if (part > 0) ASSERT_TRUE(has_looked_since_mark(part)) << "the mark of half an hour ago";
        EXPECT_EQ(row().state, StudyState::Receiving);
    }
    ASSERT_TRUE(is_handed_over(minutes(6)));
    EXPECT_EQ(claim().instances.size(), 15U);
    EXPECT_EQ(row().revision, 1);
}

TEST_F(LongStudy, ThatNeverGetsQuietIsHandedOverAfterTheLongestTimeAndAgainAfterThat) {
    start("  series_quiet_seconds: 1200\n  study_quiet_seconds: 1200\n  longest_study_minutes: 60\n");
    int number = 0;
    const auto an_image_every_quarter_of_an_hour = [&] {
        for (int part = 0; part < 4; ++part) {
            send(slices(number++, 1));
            mark();
            clock_.advance(minutes(14));
            if (part > 0) ASSERT_TRUE(has_looked_since_mark(markers_ - 1));
        }
    };
    an_image_every_quarter_of_an_hour();
    EXPECT_EQ(row().state, StudyState::Receiving) << "56 minutes";
    send(slices(number++, 1));
    ASSERT_TRUE(is_handed_over(minutes(5)));
    EXPECT_THAT(events(), HasSubstr("after scp.longest_study_minutes"));
    send(slices(number++, 1));  // nobody has taken it up yet: it does not wait for another hour
    ASSERT_TRUE(comes_to(StudyState::Ready));
    EXPECT_EQ(row().revision, 1);
    const ClaimedStudy first = claim();
    EXPECT_EQ(first.instances.size(), 6U);
    EXPECT_TRUE(finish(first));
    clock_.advance(minutes(20));
    ASSERT_TRUE(has_looked_since_mark(markers_));
    an_image_every_quarter_of_an_hour();
    EXPECT_EQ(row().state, StudyState::Receiving) << "the hour of a revision begins with its first image";
    EXPECT_EQ(row().revision, 2);
    send(slices(number++, 1));
    ASSERT_TRUE(is_handed_over(minutes(5)));
}

TEST_F(LongStudy, IsHandedOverThoughImagesOfOthersNeverStopComing) {
    start();
    send(slices(1, 3));
    std::atomic<bool> stop{false};
    std::atomic<int> answered{0};
    std::thread other([&] {
        Scanner scanner(receiver_->port(), slices(1, 1, "1.2.3.2"));
        for (int i = 1; !stop && scanner.store(made_slice(i, "1.2.3.2")) == 0; ++i) ++answered;
    });
    EXPECT_TRUE(eventually(seconds(20), [&] { return answered > 50; }));
    clock_.advance(seconds(61));
    const bool handed_over = comes_to(StudyState::Ready);
    stop = true;
    other.join();
    EXPECT_TRUE(handed_over) << answered << " images of another study came meanwhile";
    EXPECT_GT(answered, 50);
}
