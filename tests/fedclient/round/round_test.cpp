// The machine of states against a federation in a folder: what a hospital answers, and what a crash leaves.
#include "fedclient/round/round.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "tests/fedclient/round/fake_federation.h"

namespace cardionode::test {

int World::night_in_a_child() {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(static_cast<int>(night()));
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Round, GoesFromAMessageToAReplyThatWasTaken) {
    World w;
    w.ask({.id = "m1"});
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_THAT(w.states("m1"), ElementsAre("pulled", "fetched", "checked", "validated", "trained", "filtered",
                                            "booked", "prepared", "pushed", "taken"));
    const auto reply = w.reply("m1");
    EXPECT_EQ(reply["weights"], "filtered heart 0.92");
    EXPECT_EQ(reply["metrics"]["n/heart"], 20) << "17, as a multiple of five";
    EXPECT_EQ(reply["metrics"]["n/unlabelled"], 5);
    EXPECT_EQ(reply["metrics"]["steps"], 10);
    EXPECT_FALSE(reply.contains("failure"));
    EXPECT_LT(w.log().find("book m1"), w.log().find("push m1")) << "the ledger comes before anything leaves";
    EXPECT_EQ(w.count("book m1"), 1);
}

TEST(Round, TheGlobalModelIsStagedWithItsValidation) {
    World w;
    w.ask({.id = "m1", .record = "abcdef0123456789ff", .round = 3});
    w.night();
    auto store = RoundStore::open(store_file(w.settings), RoundStore::Mode::ReadOnly);
    ASSERT_TRUE(store.ok());
    const auto accepted = store->accepted("tavi");
    ASSERT_EQ(accepted->size(), 1U);
    EXPECT_EQ(accepted->front().version, 2) << "a train message of round 3 carries what two rounds made";
    EXPECT_EQ(accepted->front().validation.dice.at("heart"), 0.90);
    EXPECT_EQ(text_of(accepted->front().weights), "heart 0.90");
}

TEST(Round, AnEvaluationIsAnsweredWithNumbersAlone) {
    World w;
    w.ask({.id = "e1", .type = "evaluate"});
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_THAT(w.states("e1"),
                ElementsAre("pulled", "fetched", "checked", "validated", "prepared", "pushed", "taken"));
    const auto reply = w.reply("e1");
    EXPECT_FALSE(reply.contains("weights"));
    EXPECT_EQ(reply["metrics"]["dice/heart"], 0.90);
    EXPECT_EQ(reply["metrics"]["num-examples"], 6);
    EXPECT_EQ(w.count("trained"), 0);
    EXPECT_EQ(w.log().find("book"), std::string::npos);
}

struct Refusal {
    const char* name;
    std::function<void(World&, Ask&)> change;
    const char* word;
};

class Refused : public testing::TestWithParam<Refusal> {};

TEST_P(Refused, ByAnHonestErrorReplyWithItsReason) {
    World w;
    Ask ask{.id = "m1"};
    GetParam().change(w, ask);
    w.ask(ask);
    w.night();
    EXPECT_THAT(w.reason("m1"), StartsWith(GetParam().word));
    EXPECT_EQ(w.reply("m1")["code"], 2);
    EXPECT_FALSE(w.reply("m1").contains("weights"));
    EXPECT_EQ(w.states("m1").back(), "taken");
}

INSTANTIATE_TEST_SUITE_P(
    Round, Refused,
    testing::Values(
        Refusal{"UnknownSchema", [](World&, Ask& a) { a.schema = 2; }, "fedclient:unknown_schema"},
        Refusal{"UnknownModel", [](World&, Ask& a) { a.model = "other"; }, "fedclient:unknown_model"},
        Refusal{"OtherArchitecture", [](World&, Ask& a) { a.architecture = "x"; }, "fedclient:other_architecture"},
        Refusal{"BadSignature", [](World&, Ask& a) { a.signature = "forged"; }, "fedclient:bad_signature"},
        Refusal{"TooManySteps", [](World&, Ask& a) { a.steps = 100'000; }, "fedclient:out_of_bounds"},
        Refusal{"TooFastARate", [](World&, Ask& a) { a.learning_rate = 1; }, "fedclient:out_of_bounds"},
        Refusal{"MethodNotAllowed",
                [](World& w, Ask& a) {
                    w.settings.bounds.methods = {"fedavg"};
                    a.method = "fedkd_student";
                },
                "fedclient:out_of_bounds"},
        Refusal{"UnknownMessage", [](World&, Ask& a) { a.type = "query"; }, "fedclient:unsupported_message"},
        Refusal{"DamagedObjects", [](World& w, Ask&) { w.errors.emplace("fetch", reject_error("a hash")); },
                "fedclient:bad_objects"},
        Refusal{"OddTensors", [](World& w, Ask&) { w.errors.emplace("inbound", reject_error("a tensor is missing")); },
                "fedclient:bad_weights"},
        Refusal{"SmallHoldOut", [](World& w, Ask&) { w.settings.data.minimum_holdout_studies = 50; },
                "fedclient:no_holdout"},
        Refusal{"NothingToLearn", [](World& w, Ask&) { w.errors.emplace("train", reject_error("no label")); },
                "fedclient:nothing_to_learn"},
        Refusal{"LossNotFinite", [](World& w, Ask&) { w.errors.emplace("train", bug_error("nan")); },
                "fedclient:not_finite"},
        Refusal{"OwnUpdateWorse", [](World& w, Ask&) { w.trained = "heart 0.80"; }, "fedclient:own_update_worse"},
        Refusal{"OwnUpdateNan", [](World& w, Ask&) { w.trained = "heart nan"; }, "fedclient:own_update_worse"},
        Refusal{"TooFewPatients", [](World& w, Ask&) { w.patients = 2; }, "fedclient:privacy_rule"},
        Refusal{"BudgetSpent", [](World& w, Ask&) { w.errors.emplace("book", reject_error("spent")); },
                "fedclient:privacy_budget"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Round, AModelThatFellOnTheHoldOutIsNotStagedAndNotLearnedFrom) {
    World w;
    w.ask({.id = "m1", .weights = "heart 0.90", .record = "one", .round = 1});
    w.night();
    w.ask({.id = "m2", .weights = "heart 0.70", .record = "two", .round = 2});
    w.night();
    EXPECT_THAT(w.reason("m2"), StartsWith("fedclient:validation_drop: heart fell from Dice 0.900 to 0.700"));
    auto store = RoundStore::open(store_file(w.settings), RoundStore::Mode::ReadOnly);
    EXPECT_EQ(store->accepted("tavi")->size(), 1U);
    EXPECT_EQ(w.count("trained"), 1);
}

TEST(Round, AnOldRoundWithOtherWeightsIsRefused) {
    World w;
    w.ask({.id = "m1", .record = "one", .round = 5});
    w.night();
    w.ask({.id = "m2", .record = "two", .round = 5});
    w.night();
    EXPECT_EQ(w.reason("m2"), "fedclient:bad_weights");
    w.ask({.id = "m3", .record = "one", .round = 6, .run = 8});
    w.night();
    EXPECT_EQ(w.reason("m3"), "") << "weights that were accepted before stay accepted";
}

TEST(Round, AReissuedMessageIsAnsweredFromTheCachedResult) {
    World w;
    w.ask({.id = "m1"});
    w.night();
    w.ask({.id = "m2"});  // the same run, round and base model
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.reply("m2"), w.reply("m1"));
    EXPECT_EQ(w.count("trained"), 1) << "no second training";
    EXPECT_EQ(w.count("book m1"), 1);
    EXPECT_EQ(w.count("book m2"), 0) << "the same bytes spend no more privacy";
    w.ask({.id = "m3", .record = "record-2", .round = 2});
    w.night();
    EXPECT_EQ(w.count("trained"), 2) << "another round is another result";
}

TEST(Round, AForgedReissueGetsNothing) {
    World w;
    w.ask({.id = "m1"});
    w.night();
    w.ask({.id = "m2", .signature = "forged"});
    w.night();
    EXPECT_EQ(w.reason("m2"), "fedclient:bad_signature");
}

// --- crashes

class Killed : public testing::TestWithParam<const char*> {};

TEST_P(Killed, TheNextProcessGoesOnAndNothingIsDoneTwice) {
    World w;
    w.ask({.id = "m1"});
    w.kill_at = GetParam();
    ASSERT_EQ(w.night_in_a_child(), -SIGKILL) << "the place was reached";
    w.kill_at.clear();
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.states("m1").back(), "taken");
    EXPECT_EQ(w.reply("m1")["weights"], "filtered heart 0.92");
    for (int step = 0; step < 10; ++step)
        EXPECT_EQ(w.count("step " + std::to_string(step)), 1) << "no step of training is done twice";
    EXPECT_EQ(w.count("book m1"), 1);
    EXPECT_LT(w.log().find("book m1"), w.log().find("push m1"));
    EXPECT_EQ(w.night(), NightEnd::Done);  // and the lock is free
    EXPECT_LE(w.count("push m1"), 2) << "a push may be repeated, with the same bytes";
}

INSTANTIATE_TEST_SUITE_P(Round, Killed,
                         testing::Values("poll>", "fetch<", "fetch>", "verify<", "validate<", "train<", "train-",
                                         "train>", "filter<", "filter>", "book<", "book>", "prepare<", "prepare>",
                                         "push<", "push>", "receipt<", "receipt>"),
                         [](const auto& info) {
                             std::string name = info.param;
                             const char end = name.back();
                             name.pop_back();
                             return name + (end == '<' ? "Before" : end == '>' ? "After" : "Amid");
                         });

TEST(Round, ASecondClientEndsAtOnce) {
    World w;
    w.ask({.id = "m1"});
    const int lock = ::open((w.settings.state / "lock").c_str(), O_RDWR | O_CREAT, 0600);
    ASSERT_EQ(::flock(lock, LOCK_EX | LOCK_NB), 0);
    EXPECT_EQ(w.night(), NightEnd::RetryLater);
    EXPECT_EQ(w.log(), "") << "it did not even join";
    ::close(lock);
    EXPECT_EQ(w.night(), NightEnd::Done);
}

TEST(Round, TwoClientsAtOnceTrainOnce) {
    World w;
    w.ask({.id = "m1"});
    int other = 0;
    w.at = [&](const std::string& place) {  // while the first one trains, a second one starts
        if (place == "train-") other = w.night_in_a_child();
    };
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(other, static_cast<int>(NightEnd::RetryLater));
    EXPECT_EQ(w.count("trained"), 1);
    EXPECT_EQ(w.count("join"), 1);
}

// --- time

TEST(Round, TrainingEndsEarlyBeforeTheDeadlineAndWhatWasLearnedIsSent) {
    World w;
    w.settings.window.upload_reserve_seconds = 100;
    w.seconds_a_step = 60;
    w.ask({.id = "m1", .deadline = w.now() + 400});  // 400 - 100 s: five steps
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.reply("m1")["metrics"]["steps"], 5);
    EXPECT_EQ(w.reason("m1"), "");
}

TEST(Round, WithoutTimeToLearnTheReplySaysSo) {
    World w;
    w.settings.window.upload_reserve_seconds = 100;
    w.ask({.id = "m1", .deadline = w.now() + 50});
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.reason("m1"), "fedclient:deadline");
    EXPECT_EQ(w.count("trained"), 0);
}

TEST(Round, AMessageWhoseTimeIsOverIsDroppedWithoutAWord) {
    World w;
    w.ask({.id = "m1", .created_at = w.now() - 7200, .ttl = 3600});
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_THAT(w.states("m1"), ElementsAre("pulled", "failed"));
    EXPECT_EQ(w.reason("m1"), "no reply");
}

TEST(Round, AStudyThatWaitsPausesTrainingAtTheNextStep) {
    World w;
    w.ask({.id = "m1"});
    w.clinic_pauses = 3;
    w.at = [&](const std::string& place) {
        if (place == "train-") w.clinic = true;
    };
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.states("m1").back(), "taken");
    EXPECT_THAT(w.lines, testing::Contains("a study waits: training pauses"));
    for (int step = 0; step < 10; ++step) EXPECT_EQ(w.count("step " + std::to_string(step)), 1);
}

TEST(Round, AStopEndsTheNightAndTheNextOneGoesOn) {
    World w;
    w.ask({.id = "m1"});
    w.at = [&](const std::string& place) {
        if (place == "train-") w.stop = true;
    };
    EXPECT_EQ(w.night(), NightEnd::RetryLater);
    EXPECT_EQ(w.states("m1").back(), "validated");
    w.at = [](const std::string&) {};
    w.stop = false;
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.count("step 5"), 1);
}

TEST(Round, TheWindowIsKept) {
    World w;
    w.ask({.id = "m1"});
    const auto hour = [&](int plus) {
        const std::time_t t = static_cast<std::time_t>(w.now());
        std::tm local{};
        localtime_r(&t, &local);
        char text[16];
        std::snprintf(text, sizeof text, "%02d:00", (local.tm_hour + plus) % 24);
        return std::string(text);
    };
    w.settings.window.from = hour(2), w.settings.window.until = hour(4);
    w.agree();  // the window is part of what was agreed to
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.log(), "") << "outside: nothing is asked";
    EXPECT_EQ(w.night({.now = true}), NightEnd::Done);
    EXPECT_EQ(w.states("m1").back(), "taken");
    const auto end = end_of_window({hour(23), hour(1), 0, 0}, w.clock.now());
    ASSERT_TRUE(end.has_value());
    EXPECT_GT(*end, w.clock.now());
    EXPECT_LE(*end, w.clock.now() + std::chrono::hours(1));
}

// --- trouble

TEST(Round, WithoutConsentNothingIsAskedAndNothingIsSent) {
    World w;
    w.ask({.id = "m1"});
    fs::remove(w.settings.state / "consent.json");
    EXPECT_EQ(w.night(), NightEnd::Config);
    EXPECT_EQ(w.log(), "");
    w.agree(false);
    EXPECT_EQ(w.night(), NightEnd::Done) << "no is an answer";
    EXPECT_EQ(w.log(), "");
    w.agree();
    w.settings.privacy.outbound.clip_norm *= 10;  // wider than what was agreed to
    EXPECT_EQ(w.night(), NightEnd::Config);
    EXPECT_EQ(w.log(), "");
}

TEST(Round, AConsentThatIsTakenBackStopsAnUpdateThatIsReady) {
    World w;
    w.ask({.id = "m1"});
    w.at = [&](const std::string& place) {
        if (place == "prepare>") w.agree(false);
    };
    EXPECT_EQ(w.night(), NightEnd::Config);
    EXPECT_EQ(w.states("m1").back(), "prepared");
    EXPECT_EQ(w.count("push m1"), 0);
}

TEST(Round, ADryRunDoesEverythingButSend) {
    World w;
    w.ask({.id = "m1"});
    fs::remove(w.settings.state / "consent.json");
    EXPECT_EQ(w.night({.now = true, .dry_run = true}), NightEnd::Done);
    EXPECT_EQ(w.states("m1").back(), "filtered");
    EXPECT_EQ(w.log().find("book"), std::string::npos) << "nothing is spent";
    EXPECT_EQ(w.log().find("push"), std::string::npos);
    w.agree();
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.states("m1").back(), "taken");
    EXPECT_EQ(w.count("trained"), 1);
}

TEST(Round, AFullDiskLosesNothing) {
    World w;
    w.ask({.id = "m1"});
    w.errors.emplace("filter", retry_error("writing: No space left on device"));
    EXPECT_EQ(w.night(), NightEnd::RetryLater);
    EXPECT_EQ(w.states("m1").back(), "trained");
    w.errors.clear();
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.count("trained"), 1);
    w.settings.least_free_mib = std::int64_t{1} << 40;
    EXPECT_EQ(w.night(), NightEnd::RetryLater);
}

TEST(Round, TroubleThatStaysIsSaidAfterThreeTries) {
    World w;
    w.ask({.id = "m1"});
    w.errors.emplace("train", retry_error("not enough memory"));
    EXPECT_EQ(w.night(), NightEnd::RetryLater);
    EXPECT_EQ(w.night(), NightEnd::RetryLater);
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.reason("m1"), "fedclient:local_trouble");
}

TEST(Round, AServerThatIsAwayLeavesTheReplyForTheNextNight) {
    World w;
    w.ask({.id = "m1"});
    w.errors.emplace("push", retry_error("connection refused"));
    EXPECT_EQ(w.night(), NightEnd::RetryLater);
    EXPECT_EQ(w.states("m1").back(), "prepared");
    w.errors.clear();
    EXPECT_EQ(w.night(), NightEnd::Done);
    EXPECT_EQ(w.count("trained"), 1);
}

TEST(Round, ALossThatIsNotFiniteRaisesAnAlarm) {
    World w;
    w.ask({.id = "m1"});
    w.errors.emplace("train", bug_error("the loss is not finite"));
    EXPECT_EQ(w.night(), NightEnd::Alarm);
}

TEST(Round, TheSplitIsFixedForEver) {
    World w;
    EXPECT_EQ(w.night(), NightEnd::Done);
    w.settings.data.holdout = 0.4;
    EXPECT_EQ(w.night(), NightEnd::Config);
}

TEST(Round, TidiesUpWhatNobodyNeeds) {
    World w;
    w.settings.keep_accepted = 2;
    for (int round = 1; round <= 4; ++round) {
        const std::string n = std::to_string(round);
        w.ask({.id = "m" + n, .record = "record-" + n, .round = round});
        ASSERT_EQ(w.night(), NightEnd::Done);
    }
    EXPECT_TRUE(fs::exists(messages_folder(w.settings) / "m1")) << "as long as the message could come again";
    w.clock.advance(std::chrono::hours(2));
    ASSERT_EQ(w.night(), NightEnd::Done);
    EXPECT_FALSE(fs::exists(messages_folder(w.settings) / "m1"));
    EXPECT_EQ(std::distance(fs::directory_iterator(staged_folder(w.settings, "tavi")), {}), 2);
    auto store = RoundStore::open(store_file(w.settings), RoundStore::Mode::ReadOnly);
    EXPECT_EQ(store->accepted("tavi")->size(), 4U) << "the history stays";
    EXPECT_NE(w.reply("m4"), nullptr);
}

TEST(LocalRecipe, TakesTheHospitalsDataInPlaceOfTheConsortiums) {
    World w;
    std::ofstream(w.folder / "recipe.yaml")
        << "seed: 1\ninit: {weights: x}\ndata: {studies: /etc,\n  share: 0.3\n}\nsteps: 9\n"
           "# end\n";
    const auto file = local_recipe(w.settings, w.settings.models[0]);
    ASSERT_TRUE(file.ok()) << file.error().message;
    const std::string text = text_of(*file);
    EXPECT_THAT(text, HasSubstr("seed: 1\nsteps: 9\n"));
    EXPECT_EQ(text.find("/etc"), std::string::npos) << text;
    EXPECT_EQ(text.find("init"), std::string::npos) << text;
    EXPECT_THAT(text, HasSubstr("studies: '" + (w.settings.state / "studies/tavi").string() + "'"));
}

}  // namespace
}  // namespace cardionode::test
