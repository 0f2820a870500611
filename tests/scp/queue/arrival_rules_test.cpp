// Rules for what does not come as it should, at the queue alone; over real sockets: tests/scp/server/arrival_test.cpp.
#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::ElementsAre;
using testing::IsEmpty;

class ArrivalRule : public QueueTest {};

TEST_F(ArrivalRule, WhatCameAfterTheLastLookDoesNotMakeAStudyQuiet) {
    const std::string key = add_series("1", "1", 3);
    const Moment looked = clock.now() + seconds(59);
    clock.advance(seconds(300));
    const ArrivalRules rules{.series_quiet = kSeriesQuiet, .study_quiet = kStudyQuiet};
    EXPECT_THAT(must(queue.close_quiet(rules, looked)), IsEmpty()) << "what came since may not be in the queue yet";
    EXPECT_THAT(must(queue.close_quiet(rules, looked + seconds(1))), ElementsAre(key));
}

TEST_F(ArrivalRule, TheSameFileOfAnotherPatientAgainIsToldAsTheFirstTime) {
    ReceivedInstance first = make_instance("1", "1", 1), other = make_instance("1", "1", 2);
    first.patient_mark = "aa";
    other.patient_mark = "bb";
    add(first);
    EXPECT_EQ(add(other).outcome, IngestOutcome::OtherPatient);
    EXPECT_EQ(add(other).outcome, IngestOutcome::OtherPatient) << "its only copy would be lost";
    other.file = "again.dcm";
    EXPECT_EQ(add(other).outcome, IngestOutcome::Duplicate);
    ReceivedInstance right = make_instance("1", "1", 2, "b");
    right.patient_mark = "aa";
    EXPECT_EQ(add(right).outcome, IngestOutcome::Stored) << "the right patient's image under that UID is used";
    const StudyRow study = row(add(first).study_key);
    EXPECT_EQ(study.instances, 2);
    EXPECT_EQ(study.conflicts, 1);
    EXPECT_EQ(study.other_patient, 1);
}

TEST_F(ArrivalRule, OfARevisionThatAPersonLetGoOnDoesNotAskAboutTheSameImagesAgain) {
    ReceivedInstance first = make_instance("1", "1", 1), other = make_instance("1", "1", 2);
    first.patient_mark = "aa";
    other.patient_mark = "bb";
    const std::string key = add(first).study_key;
    add(other);
    clock.advance(kStudyQuiet);
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), IsEmpty());
    EXPECT_EQ(state(key), StudyState::SetAside);
    must(queue.retry(key));
    must(queue.finish_study(claim(), {}, {}, {}));
    ReceivedInstance late = make_instance("1", "1", 3);
    late.patient_mark = "aa";
    add(late);
    clock.advance(kStudyQuiet);
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), ElementsAre(key));
}

TEST_F(ArrivalRule, ThatComesTogetherWithOneOfAnotherPatientIsAskedAbout) {
    ReceivedInstance first = make_instance("1", "1", 1);
    first.patient_mark = "aa";
    const std::string key = add(first).study_key;
    must(queue.force_complete(key));
    must(queue.finish_study(claim(), {}, {}, {}));
    std::vector<ReceivedInstance> batch = {make_instance("1", "1", 2), make_instance("1", "1", 3)};
    batch[0].patient_mark = "bb";
    batch[1].patient_mark = "aa";
    must(queue.add_instances(batch));
    EXPECT_EQ(row(key).revision, 2);
    clock.advance(kStudyQuiet);
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), IsEmpty());
    EXPECT_EQ(state(key), StudyState::SetAside);
}
