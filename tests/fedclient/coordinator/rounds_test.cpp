// Rounds with scripted nodes: each update counts once whatever happens.
#include <limits>

#include "tests/fedclient/coordinator/coordinator_fixture.h"

namespace cardionode::test {

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Rounds : public CoordinatorTest {};

TEST_F(Rounds, WeightedMeanOfTwoRoundsBecomesTheGlobalModel) {
    settings.rounds.count = 2;
    settings.rounds.first = 7;
    settings.rounds.expected_sites = 2;
    start();
    auto a = node(), b = node(true);
    tick();
    ASSERT_TRUE(receive(a));
    ASSERT_TRUE(receive(b));
    EXPECT_EQ(a.message.metadata().message_type(), "train");
    EXPECT_EQ(a.arrays().at("w"), (std::vector<float>{0, 0}));
    const auto config = a.config();
    EXPECT_EQ(fed::value_of<std::int64_t>(config, "fed-schema"), 1);
    EXPECT_EQ(fed::value_of<std::int64_t>(config, "round"), 7);
    EXPECT_EQ(fed::value_of<std::int64_t>(config, "server-round"), 7);
    EXPECT_EQ(fed::value_of<std::string>(config, "model-id"), "heart-root");
    EXPECT_EQ(fed::value_of<std::string>(config, "method"), "fedavg");
    EXPECT_EQ(fed::value_of<std::string>(config, "arch-sha256"), std::string(64, 'a'));
    EXPECT_EQ(fed::value_of<std::string>(config, "base-model"), a.record_ids().at("arrays"));
    for (const char* key : {"deadline", "clip-norm", "dp-sigma", "min-client", "steps", "learning-rate", "seed"})
        EXPECT_TRUE(fed::number_of(config, key)) << key;

    ASSERT_TRUE(a.push(reply(a, 1, 3)));
    tick();
    EXPECT_EQ(state_of(a), "answered");
    EXPECT_EQ(state_of(b), "asked");
    ASSERT_TRUE(b.push(reply(b, 5, 1)));
    tick();
    EXPECT_EQ(round(0)["state"], "done");
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));  // (3 * 1 + 1 * 5) / 4

    ASSERT_TRUE(receive(a));
    ASSERT_TRUE(receive(b));
    EXPECT_EQ(b.arrays().at("w"), (std::vector<float>{2, 2}));
    ASSERT_TRUE(a.push(reply(a, 4)));
    ASSERT_TRUE(b.push(reply(b, 8)));
    EXPECT_FALSE(coordinator->finished());
    tick();
    EXPECT_THAT(global().at("w"), ElementsAre(6, 6));
    EXPECT_EQ(status()["global"]["round"], 8);
    EXPECT_TRUE(coordinator->finished());
    EXPECT_FALSE(a.pull());
}

TEST_F(Rounds, LostPullAnswerIsIssuedAgainAndCountedOnce) {
    start({"drop-pull-answer=1"});
    auto a = node(), b = node();
    tick();
    EXPECT_FALSE(a.pull());
    EXPECT_EQ(a.last.status, 0) << "the answer came";
    EXPECT_FALSE(a.pull()) << "delivered twice";
    EXPECT_EQ(a.last.status, 200);
    ASSERT_TRUE(receive(b));
    ASSERT_TRUE(b.push(reply(b, 3)));
    tick();
    EXPECT_FALSE(a.pull());
    pass(settings.rounds.silent_seconds + 1);
    tick();
    ASSERT_TRUE(receive(a));
    ASSERT_TRUE(a.push(reply(a, 1)));
    tick();
    EXPECT_EQ(round(0)["state"], "done");
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
    EXPECT_EQ(status()["faults"]["happened"]["drop-pull-answer"], 1);
}

TEST_F(Rounds, AnswerIsLostWhenTheNodeGoesOfflineBeforeItIsTaken) {
    start();
    auto a = node(), b = node();
    tick();
    ASSERT_TRUE(receive(a));
    const auto first = reply(a, 100);
    ASSERT_TRUE(a.push(first));
    a.leave();
    tick();
    EXPECT_EQ(state_of(a), "away");
    EXPECT_THAT(round(0)["train"].dump(), HasSubstr("Node Unavailable"));
    ASSERT_TRUE(a.join(300));
    EXPECT_FALSE(a.push(first)) << "an answer to a closed message was accepted";
    tick();
    ASSERT_TRUE(receive(a)) << "not issued again";
    ASSERT_TRUE(a.push(reply(a, 1)));
    ASSERT_TRUE(receive(b));
    ASSERT_TRUE(b.push(reply(b, 3)));
    tick();
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
}

TEST_F(Rounds, NodeIsOfflineAfterTwoHeartbeatIntervals) {
    start();
    auto a = node(), b = node();
    tick();
    ASSERT_TRUE(a.pull());
    pass(599);
    ASSERT_TRUE(a.heartbeat(300));
    pass(2);
    tick();
    EXPECT_EQ(state_of(a), "asked");
    EXPECT_EQ(state_of(b), "away");
}

TEST_F(Rounds, DeadlineEndsTheWaitAndTheLateAnswerIsRefused) {
    settings.rounds.expected_sites = 3;
    settings.rounds.deadline_seconds = 500;
    start();
    auto a = node(), b = node(), c = node();
    tick();
    for (auto* n : {&a, &b, &c}) ASSERT_TRUE(receive(*n));
    ASSERT_TRUE(a.push(reply(a, 1)));
    ASSERT_TRUE(b.push(reply(b, 3)));
    pass(499);
    tick();
    EXPECT_EQ(round(0)["state"], "training");
    pass(2);
    tick();
    EXPECT_EQ(round(0)["state"], "done");
    EXPECT_EQ(state_of(c), "silent");
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
}

TEST_F(Rounds, LateAnswerIsRefusedWhileTheRunGoesOn) {
    settings.rounds.count = 2;
    settings.rounds.deadline_seconds = 500;
    start();
    auto a = node(), b = node(), c = node();
    tick();
    for (auto* n : {&a, &b, &c}) ASSERT_TRUE(receive(*n));
    ASSERT_TRUE(a.push(reply(a, 1)));
    ASSERT_TRUE(b.push(reply(b, 3)));
    pass(501);
    tick();
    const auto late = c.push_messages(reply(c, 99));
    EXPECT_EQ(c.last.status, 200);
    ASSERT_EQ(late.results().size(), 1U);
    EXPECT_TRUE(late.results().contains("None"));
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
}

TEST_F(Rounds, TooFewSitesSkipTheRound) {
    settings.rounds.gather_seconds = 100;
    settings.rounds.count = 2;
    start();
    auto a = node();
    tick();
    EXPECT_FALSE(a.pull());
    pass(101);
    tick();
    EXPECT_EQ(round(0)["state"], "skipped");
    EXPECT_EQ(round(0)["reason"], "1 sites were online, the quorum is 2");
    EXPECT_EQ(round(1)["state"], "gathering");
    auto b = node();
    tick();
    EXPECT_EQ(round(1)["state"], "training");
}

TEST_F(Rounds, TooFewUsableUpdatesSkipTheRoundAndNameTheSite) {
    settings.rounds.expected_sites = 2;
    start();
    auto a = node(), b = node();
    tick();
    ASSERT_TRUE(receive(a) && receive(b));
    ASSERT_TRUE(a.push(reply(a, 1)));
    ASSERT_TRUE(b.push(reply(b, std::numeric_limits<float>::quiet_NaN())));
    tick();
    EXPECT_EQ(round(0)["state"], "skipped");
    ASSERT_EQ(round(0)["dropped"].size(), 1U);
    EXPECT_EQ(round(0)["dropped"][0]["site"], site(b));
    EXPECT_THAT(round(0)["dropped"][0]["reason"].get<std::string>(), HasSubstr("not finite"));
    EXPECT_THAT(global().at("w"), ElementsAre(0, 0));
}

TEST_F(Rounds, HonestRefusalEndsTheWaitForThatSite) {
    settings.rounds.expected_sites = 3;
    start();
    auto a = node(), b = node(), c = node();
    tick();
    for (auto* n : {&a, &b, &c}) ASSERT_TRUE(receive(*n));
    ASSERT_TRUE(a.push(reply(a, 1)));
    ASSERT_TRUE(b.push(reply(b, 3)));
    ASSERT_TRUE(c.push(c.make_failure("fedclient:validation_drop")));
    tick();
    EXPECT_EQ(state_of(c), "refused");
    EXPECT_THAT(round(0)["train"].dump(), HasSubstr("code 2: fedclient:validation_drop"));
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
}

TEST_F(Rounds, AnswerThatBreaksTheContractCostsOnlyThatSite) {
    settings.rounds.expected_sites = 3;
    start();
    auto a = node(), b = node(), c = node();
    tick();
    for (auto* n : {&a, &b, &c}) ASSERT_TRUE(receive(*n));
    ASSERT_TRUE(a.push(reply(a, 1)));
    ASSERT_TRUE(b.push(reply(b, 3)));
    ASSERT_TRUE(c.push(c.make_reply({}, metrics(5))));
    tick();
    EXPECT_EQ(state_of(c), "refused");
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
}

TEST_F(Rounds, RestartInMidRoundCountsEachUpdateOnce) {
    settings.rounds.expected_sites = 3;
    start();
    auto a = node(), b = node(), c = node();
    tick();
    for (auto* n : {&a, &b, &c}) ASSERT_TRUE(receive(*n));
    ASSERT_TRUE(a.push(reply(a, 1)));
    tick();                            // a is taken
    ASSERT_TRUE(b.push(reply(b, 3)));  // b is complete, not taken
    const auto third = reply(c, 8, 2);
    const auto announced = c.push_messages(third);  // c is half here
    ASSERT_TRUE(c.push_object(announced.objects_to_push(0), third.bytes.at(announced.objects_to_push(0))));
    coordinator.reset();
    pass(3601);  // longer than any heartbeat, and past the deadline
    start();
    ScriptedNode again(coordinator->port(), clock);
    again.node_id = c.node_id;
    again.message = c.message;
    const auto rest = again.push_messages(third);
    EXPECT_FALSE(rest.results().contains(third.id)) << "the ttl is over";
    tick();
    EXPECT_EQ(round(0)["state"], "done");
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
    EXPECT_EQ(round(0)["weights"]["body"].size(), 2U);
}

TEST_F(Rounds, RestartInMidUploadGoesOnWithTheMissingObjects) {
    settings.rounds.expected_sites = 2;
    start();
    auto a = node(), b = node();
    tick();
    ASSERT_TRUE(receive(a) && receive(b));
    ASSERT_TRUE(a.push(reply(a, 1)));
    tick();
    const auto second = reply(b, 3);
    const auto announced = b.push_messages(second);
    ASSERT_GT(announced.objects_to_push_size(), 3);
    ASSERT_TRUE(b.push_object(announced.objects_to_push(0), second.bytes.at(announced.objects_to_push(0))));
    coordinator.reset();
    start();
    ScriptedNode again(coordinator->port(), clock);
    again.node_id = b.node_id;
    again.message = b.message;
    EXPECT_EQ(again.push_messages(second).objects_to_push_size(), announced.objects_to_push_size() - 1);
    ASSERT_TRUE(again.push(second));
    tick();
    tick();
    EXPECT_THAT(global().at("w"), ElementsAre(2, 2));
    EXPECT_TRUE(coordinator->finished());
    coordinator.reset();
    start();
    tick();
    EXPECT_TRUE(coordinator->finished()) << "a finished run began again";
    EXPECT_EQ(status()["rounds"].size(), 1U);
}

TEST_F(Rounds, FolderOfAnotherRunIsRefused) {
    start();
    coordinator.reset();
    settings.model_id = "other";
    fed::CoordinatorOptions options;
    options.settings = settings;
    options.folder = folder / "state";
    const auto started = fed::Coordinator::start(std::move(options));
    ASSERT_FALSE(started.ok());
    EXPECT_EQ(started.error().kind, ErrorKind::Config);
}

TEST_F(Rounds, TwoCoordinatorsOnOneFolderAreRefused) {
    start();
    fed::CoordinatorOptions options;
    options.settings = settings;
    options.folder = folder / "state";
    const auto second = fed::Coordinator::start(std::move(options));
    ASSERT_FALSE(second.ok());
    EXPECT_THAT(second.error().message, HasSubstr("another coordinator works in this folder"));
}

}  // namespace
}  // namespace cardionode::test
