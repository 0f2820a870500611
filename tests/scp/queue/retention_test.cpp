// Deleting what is finished: only that, all of it, and again after a crash.
#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::ElementsAre;
using testing::IsEmpty;

namespace {

class RetentionTest : public QueueTest {
protected:
    std::string add_done_study(const std::string& study) {
        const std::string key = add_sending_study(study, {make_output("9." + study)}, {"pacs"});
        must(queue.output_sent(claim_output(), ""));
        return key;
    }
};

}  // namespace

TEST_F(RetentionTest, OffersWhatIsDoneLongEnoughTheLongestFirst) {
    const std::string first = add_done_study("1");
    clock.advance(hours(1));
    const std::string second = add_done_study("2");
    clock.advance(hours(1));
    EXPECT_THAT(must(queue.finished_studies(hours(3))), IsEmpty());
    EXPECT_THAT(must(queue.finished_studies(minutes(90))), ElementsAre(first));
    EXPECT_THAT(must(queue.finished_studies(Milliseconds(0))), ElementsAre(first, second));
    EXPECT_THAT(must(queue.finished_studies(Milliseconds(0), 1)), ElementsAre(first));
}

TEST_F(RetentionTest, NeverOffersNorRemovesWhatIsNotDelivered) {
    const std::string receiving = add_series("1", "1", 2);
    const std::string sending = add_sending_study("2", {make_output("9.2"), make_output("9.3")}, {"pacs"});
    must(queue.output_sent(claim_output(), ""));  // one of two
    const std::string set_aside = add_ready_study("3");
    must(queue.fail_study(claim(), reject_error("no heart"), {}));
    const std::string processing = add_ready_study("4");
    claim();
    const std::string ready = add_ready_study("5");
    clock.advance(hours(10'000));
    EXPECT_THAT(must(queue.finished_studies(Milliseconds(0))), IsEmpty());
    for (const std::string& key : {receiving, sending, set_aside, processing, ready}) {
        EXPECT_EQ(must(queue.remove_study(key)), std::nullopt) << to_string(state(key));
        EXPECT_TRUE(must(queue.study(key)).has_value());
    }
    EXPECT_THAT(must(queue.files_to_remove(FileRoot::Spool)), IsEmpty());
}

TEST_F(RetentionTest, ARemovedStudyLeavesItsFilesToBeRemovedAndNothingElse) {
    const std::string key = add_done_study("1");
    const std::string other = add_done_study("2");
    add(make_instance("1", "1", 1, "b"));  // a conflict, which does not reopen the study
    const auto removed = must(queue.remove_study(key));
    ASSERT_TRUE(removed.has_value());
    EXPECT_EQ(removed->instances, 4);
    EXPECT_EQ(removed->bytes, 4000);
    EXPECT_EQ(must(queue.study(key)), std::nullopt);
    EXPECT_EQ(must(queue.remove_study(key)), std::nullopt);
    EXPECT_THAT(must(queue.files_to_remove(FileRoot::Spool)),
                ElementsAre("1-1-1-a.dcm", "1-1-1-b.dcm", "1-1-2-a.dcm", "1-1-3-a.dcm"));
    EXPECT_THAT(must(queue.files_to_remove(FileRoot::Work)), ElementsAre("9.1.dcm"));
    EXPECT_EQ(must(queue.known_files()).size(), 3U) << "those of the other study";
    must(queue.files_removed(FileRoot::Spool, must(queue.files_to_remove(FileRoot::Spool, 3))));
    EXPECT_THAT(must(open().files_to_remove(FileRoot::Spool)), ElementsAre("1-1-3-a.dcm"));
    EXPECT_EQ(state(other), StudyState::Done);
}

TEST_F(RetentionTest, WhatIsSentAgainAfterwardsIsANewStudyAndItsFileIsNotRemoved) {
    const std::string key = add_done_study("1");
    ASSERT_TRUE(must(queue.remove_study(key)).has_value());
    const Ingested again = add(make_instance("1", "1", 2));
    EXPECT_EQ(again.outcome, IngestOutcome::Stored);
    EXPECT_NE(again.study_key, key);
    EXPECT_EQ(row(again.study_key).revision, 1);
    EXPECT_THAT(must(queue.files_to_remove(FileRoot::Spool)), ElementsAre("1-1-1-a.dcm", "1-1-3-a.dcm"));
}

TEST_F(RetentionTest, ALateImageSavesAStudyFromBeingRemoved) {
    const std::string key = add_done_study("1");
    ASSERT_THAT(must(queue.finished_studies(Milliseconds(0))), ElementsAre(key));
    add(make_instance("1", "1", 9));
    EXPECT_EQ(must(queue.remove_study(key)), std::nullopt);
    EXPECT_EQ(state(key), StudyState::Receiving);
}
