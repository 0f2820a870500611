#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Ingest : public QueueTest {};
class LateImage : public QueueTest {};

TEST_F(Ingest, ANewInstanceMakesAReceivingStudyAndIsFound) {
    const Ingested stored = add(make_instance("1", "1", 1));
    EXPECT_EQ(stored.outcome, IngestOutcome::Stored);
    EXPECT_EQ(stored.file, "1-1-1-a.dcm");
    EXPECT_THAT(stored.study_key, Not(HasSubstr("1.2.1"))) << "the key tells a UID";
    const StudyRow study = row(stored.study_key);
    EXPECT_EQ(study.state, StudyState::Receiving);
    EXPECT_EQ(study.instances, 1);
    EXPECT_EQ(study.series, 1);
    EXPECT_EQ(study.bytes, 1000);
    EXPECT_EQ(study.calling_ae_title, "CT1");
    EXPECT_EQ(study.first_received, clock.now());
    EXPECT_EQ(must(queue.find_instance("1.2.1.1.1"))->file, "1-1-1-a.dcm");
    EXPECT_EQ(must(queue.find_instance("1.2.1.1.2")), std::nullopt);
}

TEST_F(Ingest, ADuplicateChangesNothingAtAll) {
    const std::string key = add_series("1", "1", 3);
    const auto events_before = events(key);
    const StudyRow before = row(key);
    clock.advance(seconds(59));
    ReceivedInstance again = make_instance("1", "1", 2);
    again.file = "somewhere-else.dcm";
    const Ingested outcome = add(again);
    EXPECT_EQ(outcome.outcome, IngestOutcome::Duplicate);
    EXPECT_EQ(outcome.study_key, key);
    EXPECT_EQ(outcome.file, "1-1-2-a.dcm") << "the caller is told which file holds the content";
    EXPECT_EQ(row(key).last_received, before.last_received);
    EXPECT_EQ(row(key).bytes, before.bytes);
    EXPECT_EQ(events(key), events_before);
    clock.advance(seconds(1));
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), ElementsAre(key))
        << "the duplicate moved the quiet time";
}

TEST_F(Ingest, ADuplicateOfADoneStudyDoesNotReopenIt) {
    const std::string key = add_ready_study("1");
    must(queue.finish_study(claim(), {}, {}, {}));
    ReceivedInstance again = make_instance("1", "1", 1);
    again.file = "again.dcm";
    EXPECT_EQ(add(again).outcome, IngestOutcome::Duplicate);
    EXPECT_EQ(state(key), StudyState::Done);
    EXPECT_EQ(row(key).revision, 1);
}

TEST_F(Ingest, TheSameFileAgainIsStoredAgainNeverADuplicate) {
    const auto series = make_series("1", "1", 3);
    must(queue.add_instances(series));
    const auto again = must(queue.add_instances(series));
    for (const Ingested& i : again) EXPECT_EQ(i.outcome, IngestOutcome::Stored);
    EXPECT_EQ(row(again[0].study_key).instances, 3);
    EXPECT_EQ(must(queue.known_files()).size(), 3U);
}

TEST_F(Ingest, OtherContentUnderAKnownUidIsKeptBesideAndTheFirstStaysInUse) {
    const std::string key = add_series("1", "1", 2);
    const Ingested conflict = add(make_instance("1", "1", 1, "b"));
    EXPECT_EQ(conflict.outcome, IngestOutcome::Conflict);
    EXPECT_EQ(conflict.study_key, key);
    EXPECT_EQ(must(queue.find_instance("1.2.1.1.1"))->file, "1-1-1-a.dcm");
    EXPECT_EQ(row(key).conflicts, 1);
    EXPECT_EQ(row(key).instances, 2);
    EXPECT_THAT(events(key), testing::Contains("conflict"));
    EXPECT_THAT(must(queue.known_files()), ElementsAre("1-1-1-a.dcm", "1-1-1-b.dcm", "1-1-2-a.dcm"));
    must(queue.force_complete(key));
    const ClaimedStudy claimed = claim();
    EXPECT_EQ(claimed.instances.size(), 2U);
    EXPECT_EQ(claimed.conflicts, 1);
    for (const InstanceRow& i : claimed.instances) EXPECT_FALSE(i.conflict);
}

TEST_F(Ingest, TheSameConflictAgainIsADuplicateAndTheSameFileAConflictAgain) {
    const std::string key = add_series("1", "1", 1);
    add(make_instance("1", "1", 1, "b"));
    EXPECT_EQ(add(make_instance("1", "1", 1, "b")).outcome, IngestOutcome::Conflict) << "its only copy would be lost";
    ReceivedInstance resent = make_instance("1", "1", 1, "b");
    resent.file = "resent.dcm";
    const Ingested outcome = add(resent);
    EXPECT_EQ(outcome.outcome, IngestOutcome::Duplicate);
    EXPECT_EQ(outcome.file, "1-1-1-b.dcm");
    EXPECT_EQ(row(key).conflicts, 1);
}

TEST_F(Ingest, AConflictDoesNotMakeANewRevision) {
    const std::string key = add_ready_study("1");
    must(queue.finish_study(claim(), {}, {}, {}));
    EXPECT_EQ(add(make_instance("1", "1", 1, "b")).outcome, IngestOutcome::Conflict);
    EXPECT_EQ(state(key), StudyState::Done);
    EXPECT_EQ(row(key).revision, 1);
}

TEST_F(Ingest, AUidThatAnotherStudyHoldsIsAConflict) {
    const std::string first = add_series("1", "1", 1);
    ReceivedInstance stolen = make_instance("2", "1", 1);
    stolen.sop_instance_uid = make_instance("1", "1", 1).sop_instance_uid;
    const Ingested outcome = add(stolen);
    EXPECT_EQ(outcome.outcome, IngestOutcome::Conflict);
    EXPECT_NE(outcome.study_key, first);
    EXPECT_EQ(row(first).conflicts, 0);
    EXPECT_EQ(row(outcome.study_key).conflicts, 1);
    EXPECT_EQ(must(queue.find_instance(stolen.sop_instance_uid))->file, "1-1-1-a.dcm");
}

TEST_F(Ingest, AStudyOfConflictsOnlyIsSetAsideWithItsReason) {
    add_series("1", "1", 1);
    ReceivedInstance stolen = make_instance("2", "1", 1);
    stolen.sop_instance_uid = make_instance("1", "1", 1).sop_instance_uid;
    const std::string key = add(stolen).study_key;
    clock.advance(kStudyQuiet);
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), Not(testing::Contains(key)));
    EXPECT_EQ(state(key), StudyState::SetAside);
    EXPECT_THAT(row(key).last_error, HasSubstr("none of its 1 instances can be used"));
    EXPECT_EQ(queue.retry(key).error().kind, ErrorKind::Reject);
    add(make_instance("2", "1", 5));
    EXPECT_EQ(state(key), StudyState::Receiving) << "a good instance brings it back";
    EXPECT_EQ(row(key).revision, 1) << "nobody has seen this revision";
}

TEST_F(Ingest, AFileNameOfAnotherInstanceIsABugAndStoresNothing) {
    add(make_instance("1", "1", 1));
    std::vector<ReceivedInstance> batch = {make_instance("1", "1", 2), make_instance("1", "1", 3)};
    batch[1].file = "1-1-1-a.dcm";
    const auto refused = queue.add_instances(batch);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Bug);
    EXPECT_EQ(must(queue.find_instance(batch[0].sop_instance_uid)), std::nullopt) << "half of the batch is stored";
}

TEST_F(Ingest, DuplicatesAndConflictsInsideOneBatchAreSeen) {
    std::vector<ReceivedInstance> batch = {make_instance("1", "1", 1), make_instance("1", "1", 1),
                                           make_instance("1", "1", 1, "b")};
    batch[1].file = "second.dcm";
    const auto outcomes = must(queue.add_instances(batch));
    EXPECT_EQ(outcomes[0].outcome, IngestOutcome::Stored);
    EXPECT_EQ(outcomes[1].outcome, IngestOutcome::Duplicate);
    EXPECT_EQ(outcomes[2].outcome, IngestOutcome::Conflict);
}

TEST_F(Ingest, AStudyIsReadyWhenItsSeriesAndItselfWereQuiet) {
    const std::string key = add_series("1", "1", 3);
    clock.advance(seconds(19));
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), IsEmpty());
    EXPECT_THAT(events(key), Not(testing::Contains("series_complete")));
    clock.advance(seconds(1));
    must(queue.close_quiet(kSeriesQuiet, kStudyQuiet));
    EXPECT_THAT(events(key), testing::Contains("series_complete"));
    add_series("1", "2", 2);
    clock.advance(seconds(59));
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), IsEmpty());
    EXPECT_EQ(state(key), StudyState::Receiving);
    clock.advance(seconds(1));
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), ElementsAre(key));
    EXPECT_EQ(state(key), StudyState::Ready);
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), IsEmpty()) << "ready is said once";
}

TEST_F(Ingest, AnOpenSeriesKeepsTheStudyOpen) {
    add_series("1", "1", 3);
    clock.advance(seconds(60));
    EXPECT_THAT(must(queue.close_quiet(seconds(61), kStudyQuiet)), IsEmpty());
}

TEST_F(Ingest, AnOpenAssociationKeepsTheStudyOpen) {
    const std::string key = add_series("1", "1", 3);
    for (int i = 0; i < 10; ++i) {
        clock.advance(seconds(15));
        must(queue.still_arriving({&key, 1}));
        EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), IsEmpty());
    }
    clock.advance(seconds(60));
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), ElementsAre(key));
    must(queue.still_arriving({&key, 1}));
    EXPECT_EQ(state(key), StudyState::Ready) << "it is not receiving any more";
}

TEST_F(Ingest, AClockSetBackDoesNotKeepAStudyOpenForThatLong) {
    const std::string key = add_series("1", "1", 3);
    clock.advance(-hours(24));
    must(queue.close_quiet(kSeriesQuiet, kStudyQuiet));
    clock.advance(kStudyQuiet);
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), ElementsAre(key));
}

TEST_F(Ingest, ForceCompleteMakesReadyOnceAndRefusesUnknownStudies) {
    const std::string key = add_series("1", "1", 3);
    must(queue.force_complete(key));
    EXPECT_EQ(state(key), StudyState::Ready);
    EXPECT_EQ(queue.force_complete(key).error().kind, ErrorKind::Reject);
    EXPECT_EQ(queue.force_complete("S0000").error().kind, ErrorKind::Reject);
}

TEST_F(LateImage, BeforeTheFirstClaimKeepsTheRevision) {
    const std::string key = add_ready_study("1");
    add(make_instance("1", "1", 9));
    EXPECT_EQ(state(key), StudyState::Receiving);
    EXPECT_EQ(row(key).revision, 1);
    EXPECT_EQ(must(queue.claim_study("w", kLease)), std::nullopt);
    clock.advance(kStudyQuiet);
    must(queue.close_quiet(kSeriesQuiet, kStudyQuiet));
    EXPECT_EQ(claim().instances.size(), 4U);
}

TEST_F(LateImage, DuringProcessingVoidsTheRunningJob) {
    const std::string key = add_ready_study("1");
    const ClaimedStudy claimed = claim();
    add(make_instance("1", "1", 9));
    EXPECT_EQ(state(key), StudyState::Receiving);
    EXPECT_EQ(row(key).revision, 2);
    EXPECT_FALSE(must(queue.renew_study(claimed, kLease)));
    const OutputFile output = make_output("9.1");
    const std::string destination = "pacs";
    EXPECT_FALSE(must(queue.finish_study(claimed, {}, {&output, 1}, {&destination, 1})));
    EXPECT_FALSE(must(queue.fail_study(claimed, retry_error("x"), {})));
    EXPECT_THAT(must(queue.outputs_of(key)), IsEmpty());
    EXPECT_EQ(state(key), StudyState::Receiving);
    clock.advance(kStudyQuiet);
    EXPECT_THAT(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)), ElementsAre(key));
    const ClaimedStudy second = claim();
    EXPECT_EQ(second.revision, 2);
    EXPECT_EQ(second.attempt, 1);
    EXPECT_EQ(second.instances.size(), 4U);
}

TEST_F(LateImage, AfterAFailedTryMakesANewRevision) {
    const std::string key = add_ready_study("1");
    must(queue.fail_study(claim(), retry_error("GPU memory full"), {}));
    EXPECT_EQ(state(key), StudyState::Ready);
    add(make_instance("1", "1", 9));
    EXPECT_EQ(row(key).revision, 2);
    EXPECT_EQ(row(key).last_error, "");
}

TEST_F(LateImage, WhileSendingWithdrawsWhatWasNotSentYet) {
    const std::string key = add_sending_study("1", {make_output("9.1"), make_output("9.2", "SR")}, {"pacs"});
    must(queue.output_sent(claim_output(), ""));
    add(make_instance("1", "1", 9));
    EXPECT_EQ(state(key), StudyState::Receiving);
    EXPECT_THAT(output_states(key), ElementsAre("sent", "withdrawn"));
    EXPECT_EQ(must(queue.claim_output("s", kLease)), std::nullopt);
    must(queue.force_complete(key));
    const ClaimedStudy second = claim();
    ASSERT_EQ(second.replaces.size(), 1U) << "only what a destination got is replaced";
    EXPECT_EQ(second.replaces[0].sop_instance_uid, "9.1");
}

TEST_F(LateImage, NoOutputOfTheNewRevisionOvertakesAnOldOneThatIsBeingSent) {
    const std::string key = add_sending_study("1", {make_output("9.1")}, {"pacs", "archive"});
    const ClaimedOutput in_flight = claim_output("pacs");
    add(make_instance("1", "1", 9));
    must(queue.force_complete(key));
    const OutputFile newer = make_output("9.5");
    const std::vector<std::string> destinations = {"pacs", "archive"};
    must(queue.finish_study(claim(), {}, {&newer, 1}, destinations));
    EXPECT_EQ(must(queue.claim_output("s", kLease, "pacs")), std::nullopt);
    EXPECT_TRUE(must(queue.renew_output(in_flight, kLease))) << "it is let through";
    EXPECT_EQ(claim_output("archive").output.sop_instance_uid, "9.5") << "another destination does not wait for it";
    EXPECT_TRUE(must(queue.output_sent(in_flight, "")));
    EXPECT_EQ(claim_output("pacs").output.sop_instance_uid, "9.5");
    EXPECT_THAT(output_states(key), ElementsAre("sent", "withdrawn", "sending", "sending"));
}

TEST_F(LateImage, AnOldOutputWhoseSendingFailsIsWithdrawn) {
    const std::string key = add_sending_study("1", {make_output("9.1")}, {"pacs"});
    const ClaimedOutput in_flight = claim_output();
    add(make_instance("1", "1", 9));
    EXPECT_TRUE(must(queue.output_failed(in_flight, retry_error("connection refused"), {})));
    EXPECT_THAT(output_states(key), ElementsAre("withdrawn"));
    EXPECT_EQ(state(key), StudyState::Receiving);
}

TEST_F(LateImage, AnOldOutputWhoseSenderWentSilentIsWithdrawn) {
    const std::string key = add_sending_study("1", {make_output("9.1")}, {"pacs"});
    claim_output();
    add(make_instance("1", "1", 9));
    clock.advance(kLease);
    EXPECT_EQ(must(queue.claim_output("s", kLease)), std::nullopt);
    EXPECT_THAT(output_states(key), ElementsAre("withdrawn"));
}

TEST_F(LateImage, OfADoneStudyMakesANewRevisionAndKeepsTheOldResult) {
    const std::string key = add_ready_study("1");
    must(queue.finish_study(claim(), {"7 of 7 landmarks", R"({"landmarks":[]})"}, {}, {}));
    add(make_instance("1", "2", 1));
    EXPECT_EQ(state(key), StudyState::Receiving);
    EXPECT_EQ(row(key).revision, 2);
    EXPECT_EQ(row(key).outcome, "");
    EXPECT_EQ(must(queue.result_json_of(key)), R"({"landmarks":[]})");
    EXPECT_THAT(events(key), testing::Contains("late_image"));
}

TEST_F(LateImage, IsNoSegmentationAndNoReport) {
    const std::string key = add_ready_study("1");
    const int before = row(key).instances;
    must(queue.finish_study(claim(), {"7 of 7 landmarks", "{}"}, {}, {}));
    int n = 0;
    for (const char* sop_class : {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"}) {
        ReceivedInstance correction = make_instance("1", "7", ++n);
        correction.sop_class_uid = sop_class;
        add(correction);
        EXPECT_EQ(state(key), StudyState::Done) << "a radiologist's correction does not run the pipeline again";
        EXPECT_EQ(row(key).revision, 1);
    }
    EXPECT_EQ(row(key).instances, before + 2) << "it is kept";
    add(make_instance("1", "2", 1));
    EXPECT_EQ(row(key).revision, 2) << "an image does";
}

TEST_F(LateImage, OfAStudyThatWasSetAsideGivesItAnotherChance) {
    const std::string key = add_ready_study("1");
    must(queue.fail_study(claim(), reject_error("too few slices"), {}));
    EXPECT_EQ(state(key), StudyState::SetAside);
    add(make_instance("1", "1", 9));
    EXPECT_EQ(state(key), StudyState::Receiving);
    EXPECT_EQ(row(key).revision, 2);
}

TEST_F(Ingest, AStudyThatComesOverAnHourWithPausesStaysOneStudy) {
    // Series of a quarter of an hour apart, each longer away than both quiet times: the study is handed over early and
    // goes on as a new revision; nothing is split, nothing is left out.
    std::string key;
    for (int part = 0; part < 5; ++part) {
        for (int i = 0; i < 4; ++i) {
            key = add(make_instance("1", std::to_string(part / 2), 10 * part + i)).study_key;
            clock.advance(seconds(15));  // shorter than the quiet time of a series
            EXPECT_TRUE(must(queue.close_quiet(kSeriesQuiet, kStudyQuiet)).empty());
        }
        clock.advance(minutes(14));
        const auto ready = must(queue.close_quiet(kSeriesQuiet, kStudyQuiet));
        ASSERT_EQ(ready, std::vector<std::string>{key}) << part;
        const auto claimed = claim();
        EXPECT_EQ(claimed.study_key, key);
        EXPECT_EQ(claimed.revision, part + 1);
        EXPECT_EQ(claimed.instances.size(), 4U * static_cast<std::size_t>(part + 1));
        must(queue.finish_study(claimed, {"found", "{}"}, {}, {}));
    }
    EXPECT_EQ(must(queue.studies()).size(), 1U);
}

TEST_F(Ingest, AStudyWithLongPausesIsOneRevisionWhereTheSettingsAllowForThem) {
    std::string key;
    for (int i = 0; i < 5; ++i) {
        key = add(make_instance("1", "1", i)).study_key;
        clock.advance(minutes(14));
        EXPECT_TRUE(must(queue.close_quiet(minutes(15), minutes(20))).empty());
    }
    clock.advance(minutes(7));
    EXPECT_EQ(must(queue.close_quiet(minutes(15), minutes(20))), std::vector<std::string>{key});
    EXPECT_EQ(claim().instances.size(), 5U);
}

TEST_F(Ingest, TwoScannersWithOneUidKeepTheFirstInUseAndTheOtherBeside) {
    auto first = make_instance("1", "1", 1, "of CT1"), second = make_instance("1", "1", 1, "of CT2");
    second.calling_ae_title = "CT2";
    second.peer_address = "10.0.0.8";
    EXPECT_EQ(add(first).outcome, IngestOutcome::Stored);
    EXPECT_EQ(add(second).outcome, IngestOutcome::Conflict);
    EXPECT_EQ(must(queue.find_instance(first.sop_instance_uid))->sha256, first.sha256);
    const auto instances = must(queue.instances_of(row(add(first).study_key).study_key));
    ASSERT_EQ(instances.size(), 2U);
    EXPECT_NE(instances[0].conflict, instances[1].conflict);
}

TEST_F(Ingest, AWholeStudySentAgainChangesNothingWhereverItStands) {
    const std::string key = add_series("1", "1", 5);
    for (const auto& stand : {StudyState::Receiving, StudyState::Ready, StudyState::Done}) {
        if (stand == StudyState::Ready) must(queue.force_complete(key));
        if (stand == StudyState::Done) must(queue.finish_study(claim(), {"found", "{}"}, {}, {}));
        auto again = make_series("1", "1", 5);
        for (auto& instance : again) instance.file = "again-" + instance.file;
        for (const Ingested& ingested : must(queue.add_instances(again)))
            EXPECT_EQ(ingested.outcome, IngestOutcome::Duplicate);
        EXPECT_EQ(state(key), stand);
        EXPECT_EQ(row(key).revision, 1);
        EXPECT_EQ(row(key).instances, 5);
    }
}
