#include "tests/scp/queue/queue_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::ElementsAre;
using testing::HasSubstr;

class Report : public QueueTest {};

TEST_F(Report, AnEmptyQueueHasAStatus) {
    const QueueStatus status = must(queue.status());
    EXPECT_EQ(status.studies_by_state.size(), 6U);
    for (const auto& [state, count] : status.studies_by_state) EXPECT_EQ(count, 0);
    EXPECT_EQ(status.oldest_unfinished, std::nullopt);
    EXPECT_TRUE(must(queue.studies()).empty());
    EXPECT_EQ(must(queue.study("S0000")), std::nullopt);
    EXPECT_EQ(queue.instances_of("S0000").error().kind, ErrorKind::Reject);
    EXPECT_EQ(queue.events_of("S0000").error().kind, ErrorKind::Reject);
}

TEST_F(Report, TheStatusCountsEverything) {
    const Moment start = clock.now();
    add_sending_study("1", {make_output("9.1"), make_output("9.2"), make_output("9.3")}, {"pacs"});
    clock.advance(seconds(10));
    add_series("2", "1", 2);
    add(make_instance("2", "1", 1, "b"));
    must(queue.output_sent(claim_output(), ""));
    must(queue.output_failed(claim_output(), reject_error("0xA900"), {}));
    const QueueStatus status = must(queue.status());
    std::map<StudyState, int> by_state(status.studies_by_state.begin(), status.studies_by_state.end());
    EXPECT_EQ(by_state[StudyState::Sending], 1);
    EXPECT_EQ(by_state[StudyState::Receiving], 1);
    EXPECT_EQ(status.instances, 5);
    EXPECT_EQ(status.conflicts, 1);
    EXPECT_EQ(status.bytes, 6000);
    EXPECT_EQ(status.outputs_sent, 1);
    EXPECT_EQ(status.outputs_waiting, 1);
    EXPECT_EQ(status.outputs_set_aside, 1);
    EXPECT_EQ(status.oldest_unfinished, start);
    ASSERT_EQ(status.destinations.size(), 1U);
    EXPECT_EQ(status.destinations[0].destination, "pacs");
    EXPECT_EQ(status.destinations[0].last_sent, clock.now());
    EXPECT_EQ(status.destinations[0].last_error, "0xA900");
}

TEST_F(Report, TheNewestStudiesComeFirst) {
    const std::string first = add_series("1", "1", 1);
    clock.advance(seconds(1));
    const std::string second = add_series("2", "1", 1);
    clock.advance(seconds(1));
    const std::string third = add_series("3", "1", 1);
    clock.advance(seconds(1));
    add(make_instance("1", "1", 7));
    std::vector<std::string> keys;
    for (const StudyRow& study : must(queue.studies(2))) keys.push_back(study.study_key);
    EXPECT_THAT(keys, ElementsAre(first, third));
}

TEST_F(Report, ConflictsAreListedWithTheInstances) {
    const std::string key = add_series("1", "1", 1);
    add(make_instance("1", "1", 1, "b"));
    const auto instances = must(queue.instances_of(key));
    ASSERT_EQ(instances.size(), 2U);
    EXPECT_FALSE(instances[0].conflict);
    EXPECT_TRUE(instances[1].conflict);
}

TEST_F(Report, EventsTellTheWholeStoryInOrder) {
    const std::string key = add_series("1", "1", 2);
    clock.advance(kStudyQuiet);
    must(queue.close_quiet(kSeriesQuiet, kStudyQuiet));
    must(queue.fail_study(claim(), retry_error("GPU memory full"), {}));
    must(queue.retry(key));
    const OutputFile output = make_output("9.1");
    const std::string destination = "pacs";
    must(queue.finish_study(claim(), {"7 of 7 landmarks", "{}"}, {&output, 1}, {&destination, 1}));
    must(queue.output_sent(claim_output(), ""));
    EXPECT_THAT(events(key), ElementsAre("receiving", "series_complete", "ready", "processing", "try_failed", "retry",
                                         "processing", "sending", "output_sent", "done"));
    const auto told = must(queue.events_of(key, 3));
    ASSERT_EQ(told.size(), 3U);
    EXPECT_EQ(told[0].event, "sending");
    EXPECT_EQ(told[0].detail, "7 of 7 landmarks");
    EXPECT_EQ(told[0].study_key, key);
    for (const EventRow& event : must(queue.events_of(key))) EXPECT_THAT(event.detail, Not(HasSubstr("1.2.1")));
}

TEST_F(Report, TheEventsOfAStudyAreBounded) {
    const std::string key = add_ready_study("1");
    for (int i = 0; i < 300; ++i) must(queue.release_study(claim()));
    EXPECT_EQ(must(queue.events_of(key, 10'000)).size(), 500U);
}
