// What goes wrong between a hospital and its server, fault by fault.
#include <algorithm>
#include <fstream>

#include "tests/fedclient/flower/flower_fixture.h"

namespace cardionode::fed {
namespace {

using Answer = test::FleetServer::Answer;
using End = test::ScriptedServer::End;
using testing::HasSubstr;

class FlowerFaults : public FlowerFixture {
protected:
    /// Acts, but the answer of one call is lost on the way.
    void lose_answer(const std::string& lost, int which) {
        server->after = [=](const std::string& call, int nth, Answer& answer) {
            if (call == lost && nth == which) answer.end = End::DropBeforeAnswer;
        };
    }
    void answer_instead(const std::string& wanted, int first, int last, int status) {
        server->instead = [=](const std::string& call, int nth) -> std::optional<Answer> {
            if (call != wanted || nth < first || nth > last) return std::nullopt;
            Answer answer;
            answer.status = status;
            answer.content_type = "text/html";
            answer.body = "<html>Bad Gateway</html>";
            return answer;
        };
    }
    void prepare_reply(const Incoming& message) {
        const auto pulled = transport->fetch(message);
        ASSERT_TRUE(pulled.ok()) << pulled.error().message;
        const auto prepared = transport->prepare(message, good_reply());
        ASSERT_TRUE(prepared.ok()) << prepared.error().message;
    }
    void expect_stored(const Incoming& message) {
        const auto outcome = transport->push(message);
        ASSERT_TRUE(outcome.ok()) << outcome.error().message;
        EXPECT_EQ(*outcome, PushOutcome::Stored);
    }
};
INSTANTIATE_TEST_SUITE_P(Dialects, FlowerFaults, testing::Values(Dialect::V0, Dialect::V1),
                         [](const auto& info) { return info.param == Dialect::V0 ? "V0" : "V1"; });

TEST_P(FlowerFaults, ALostPullAnswerIsALostMessageUntilItIsIssuedAgain) {
    const std::string first = issue();
    join();
    lose_answer("pull-messages", 1);
    const auto nothing = transport->poll();
    ASSERT_TRUE(nothing.ok()) << nothing.error().message;
    EXPECT_FALSE(nothing->has_value());
    EXPECT_EQ(server->calls["pull-messages"], 2);
    clock.advance(std::chrono::seconds(60));
    const std::string second = issue();
    EXPECT_NE(first, second);
    EXPECT_EQ(next().message_id, second);
}

TEST_P(FlowerFaults, AMessageIsOnDiskBeforeAnythingElseHappens) {
    const Incoming message = joined_with_message();
    join();  // killed right after the answer
    const Incoming again = next();
    EXPECT_EQ(again.message_id, message.message_id);
    EXPECT_EQ(again.run_id, message.run_id);
    EXPECT_EQ(again.created_at, message.created_at);
    EXPECT_FALSE(transport->poll()->has_value());
}

TEST_P(FlowerFaults, AMessageWhoseTimeIsOverIsNotReturnedAgain) {
    issue(600);
    join();
    next();
    clock.advance(std::chrono::seconds(601));
    join();
    EXPECT_FALSE(transport->poll()->has_value());
}

TEST_P(FlowerFaults, SeveralMessagesInOneAnswerAreAllKept) {
    issue();
    clock.advance(std::chrono::seconds(1));
    issue();
    join();
    const std::string first = next().message_id;
    join();
    EXPECT_EQ(next().message_id, first);
    EXPECT_NE(next().message_id, first);
}

TEST_P(FlowerFaults, GatewayErrorsPass) {
    answer_instead("pull-object", 2, 4, 502);
    const Incoming message = joined_with_message();
    prepare_reply(message);
    answer_instead("push-object", 1, 3, 503);
    expect_stored(message);
    expect_reply_arrived();
    EXPECT_GT(slept.count(), 0);
}

TEST_P(FlowerFaults, InternalErrorsPassToo) {
    answer_instead("pull-object", 2, 3, 500);
    const Incoming message = joined_with_message();
    prepare_reply(message);
    answer_instead("push-messages", 1, 2, 500);
    expect_stored(message);
}

TEST_P(FlowerFaults, AServerThatStaysAwayIsRetriedUntilTheDeadline) {
    const Incoming message = joined_with_message();
    answer_instead("pull-object", 1, 1'000'000, 502);
    options.deadline = clock.now() + std::chrono::minutes(5);
    start();
    const auto pulled = transport->fetch(message);
    ASSERT_FALSE(pulled.ok());
    EXPECT_EQ(pulled.error().kind, ErrorKind::Retry);
    EXPECT_EQ(clock.now(), *options.deadline);
    EXPECT_FALSE(server->confirmed);
}

TEST_P(FlowerFaults, ABodyThatBreaksOffIsFetchedAgain) {
    server->after = [](const std::string& call, int nth, Answer& answer) {
        if (call == "pull-object" && nth % 2 == 0) answer.end = End::CutBody;
    };
    const Incoming message = joined_with_message();
    const auto pulled = transport->fetch(message);
    ASSERT_TRUE(pulled.ok()) << pulled.error().message;
    EXPECT_EQ(values_of(pulled->arrays.at("arrays").weights, "head.w"),
              values_of(folder / "global.safetensors", "head.w"));
}

TEST_P(FlowerFaults, EachCallOnAConnectionThatTheServerJustClosed) {
    server->after = [](const std::string&, int, Answer& answer) { answer.end = End::CloseSilently; };
    const Incoming message = joined_with_message();
    prepare_reply(message);
    expect_stored(message);
    EXPECT_EQ(slept.count(), 0);
    EXPECT_GT(transport->totals().reconnects, 5);
}

TEST_P(FlowerFaults, AFetchGoesOnWhereTheLastProcessWasKilled) {
    const Incoming message = joined_with_message();
    server->instead = [&](const std::string& call, int) -> std::optional<Answer> {
        if (call != "pull-object" || server->pulled.size() < 4) return std::nullopt;
        Answer answer;
        answer.status = 502;
        return answer;
    };
    options.deadline = clock.now() + std::chrono::seconds(10);
    start();
    ASSERT_FALSE(transport->fetch(message).ok());
    ASSERT_EQ(server->pulled.size(), 4U);
    options.deadline.reset();
    server->instead = nullptr;
    join();
    ASSERT_TRUE(transport->fetch(next()).ok());
    auto once = server->pulled;
    std::sort(once.begin(), once.end());
    EXPECT_EQ(std::adjacent_find(once.begin(), once.end()), once.end());  // no object twice
    EXPECT_TRUE(server->confirmed);
}

TEST_P(FlowerFaults, AnObjectThatAPowerCutDamagedIsFetchedAgain) {
    const Incoming message = joined_with_message();
    answer_instead("confirm-message-received", 1, 1'000'000, 502);
    options.patience = Milliseconds(0);
    start();
    ASSERT_FALSE(transport->fetch(message).ok());  // all fetched, nothing confirmed
    server->instead = nullptr;
    const std::string config_id = [&] {
        for (const std::string& id : server->pulled) {
            if (server->outgoing.head_of(id)->type == ObjectType::ConfigRecord) return id;
        }
        return std::string();
    }();
    std::ofstream(message.folder / "objects" / config_id) << "zeros";
    server->pulled.clear();
    start();
    const auto pulled = transport->fetch(message);
    ASSERT_TRUE(pulled.ok()) << pulled.error().message;
    EXPECT_EQ(server->pulled, std::vector<std::string>{config_id});
    EXPECT_EQ(pulled->configs.at("config"), config);
}

TEST_P(FlowerFaults, AWrongObjectIsNeverTakenAndNeverConfirmed) {
    server->after = [](const std::string& call, int, Answer& answer) {
        if (call == "pull-object") answer.body.back() ^= 1;
    };
    const Incoming message = joined_with_message();
    const auto pulled = transport->fetch(message);
    ASSERT_FALSE(pulled.ok());
    EXPECT_EQ(pulled.error().kind, ErrorKind::Reject);
    EXPECT_THAT(pulled.error().message, HasSubstr("hash"));
    EXPECT_FALSE(server->confirmed);
}

TEST_P(FlowerFaults, ATruncatedObjectIsFetchedAgain) {
    server->after = [](const std::string& call, int nth, Answer& answer) {
        if (call == "pull-object" && nth == 2) answer.body.resize(answer.body.size() - 3);
    };
    const Incoming message = joined_with_message();
    EXPECT_TRUE(transport->fetch(message).ok());
}

TEST_P(FlowerFaults, AnObjectThatIsNotThereYetIsWaitedFor) {
    const std::string id = issue();
    server->unavailable = server->outgoing.tree_of(id)->children[0].id;
    server->instead = [&](const std::string& call, int nth) {
        if (call == "pull-object" && nth == 5) server->unavailable.clear();
        return std::optional<Answer>();
    };
    join();
    ASSERT_TRUE(transport->fetch(next()).ok());
    EXPECT_GE(slept, Milliseconds(1500));
}

TEST_P(FlowerFaults, ALostConfirmationDoesNotHinder) {
    const Incoming message = joined_with_message();
    lose_answer("confirm-message-received", 1);
    const auto pulled = transport->fetch(message);
    ASSERT_TRUE(pulled.ok()) << pulled.error().message;
    join();
    server->pulled.clear();
    EXPECT_TRUE(transport->fetch(message).ok());
    EXPECT_TRUE(server->pulled.empty());
}

TEST_P(FlowerFaults, ARefusedReplyIsNotUploaded) {
    const Incoming message = joined_with_message();
    prepare_reply(message);
    server->refuse_replies = true;
    EXPECT_EQ(transport->push(message).value(), PushOutcome::Refused);
    EXPECT_EQ(server->calls["push-object"], 0);
    join();
    EXPECT_FALSE(transport->poll()->has_value());  // it is over
}

TEST_P(FlowerFaults, AnUploadGoesOnWhereTheLastProcessWasKilled) {
    const Incoming message = joined_with_message();
    prepare_reply(message);
    answer_instead("push-object", 4, 1'000'000, 502);
    options.deadline = clock.now() + std::chrono::seconds(10);
    start();
    ASSERT_FALSE(transport->push(message).ok());
    ASSERT_EQ(server->pushed.size(), 3U);
    options.deadline.reset();
    server->instead = nullptr;
    join();
    expect_stored(message);
    expect_reply_arrived();
    auto once = server->pushed;
    std::sort(once.begin(), once.end());
    EXPECT_EQ(std::adjacent_find(once.begin(), once.end()), once.end());
    EXPECT_EQ(once.size(), post_order(server->reply->tree).size());
}

TEST_P(FlowerFaults, ALostUploadAnswerCountsOnce) {
    const Incoming message = joined_with_message();
    prepare_reply(message);
    lose_answer("push-object", 2);
    expect_stored(message);
    expect_reply_arrived();
    lose_answer("push-messages", 2);
    expect_stored(message);  // stored is stored
    ASSERT_TRUE(server->take());
    EXPECT_EQ(transport->receipt(message).value(), Receipt::Taken);
}

TEST_P(FlowerFaults, AReplyThatWasTakenBeforeTheLastAnswerCameIsNoRefusal) {
    const Incoming message = joined_with_message();
    prepare_reply(message);
    server->after = [&](const std::string& call, int, Answer& answer) {
        // The ServerApp takes the reply the moment it is complete; of the last upload the server says nothing good.
        if (call != "push-object" || !server->take()) return;
        answer.body.clear();  // stored = false
    };
    expect_stored(message);
    EXPECT_EQ(transport->receipt(message).value(), Receipt::Taken);
}

TEST_P(FlowerFaults, AnUploadSessionThatLapsedIsOpenedAgain) {
    if (GetParam() == Dialect::V0) GTEST_SKIP() << "v0 has no sessions";
    const Incoming message = joined_with_message();
    prepare_reply(message);
    server->instead = [&](const std::string& call, int nth) {
        if (call == "push-object" && nth == 3) server->lapse_session();
        return std::optional<Answer>();
    };
    expect_stored(message);
    expect_reply_arrived();
    EXPECT_EQ(server->calls["push-messages"], 2);
}

TEST_P(FlowerFaults, ARunThatIsOverEndsTheRoundCleanly) {
    const Incoming message = joined_with_message();
    prepare_reply(message);
    server->run_over = true;
    EXPECT_EQ(transport->push(message).value(), PushOutcome::Refused);
    EXPECT_EQ(transport->receipt(message).value(), Receipt::RunOver);
    server->run_over = false;
    clock.advance(std::chrono::seconds(1));
    issue();
    const Incoming second = next();
    server->run_over = true;
    const auto pulled = transport->fetch(second);
    ASSERT_FALSE(pulled.ok());
    EXPECT_EQ(pulled.error().kind, ErrorKind::Reject);
    EXPECT_THAT(pulled.error().message, HasSubstr("run is over"));
}

TEST_P(FlowerFaults, AReceiptWaitsThroughTrouble) {
    const Incoming message = joined_with_message();
    prepare_reply(message);
    expect_stored(message);
    answer_instead("pull-object", server->calls["pull-object"] + 1, server->calls["pull-object"] + 2, 502);
    EXPECT_EQ(transport->receipt(message).value(), Receipt::Waiting);
}

TEST_P(FlowerFaults, AMalformedTreeIsRefused) {
    join();
    server->issue("train", {}, config, now(), 0.0);  // without any time to live
    const auto message = transport->poll();
    ASSERT_FALSE(message.ok());
    EXPECT_EQ(message.error().kind, ErrorKind::Reject);
}

TEST_P(FlowerFaults, APortalInBetweenIsNamed) {
    server->instead = [](const std::string& call, int) -> std::optional<Answer> {
        if (call != "activate-node") return std::nullopt;
        Answer answer;
        answer.content_type = "text/html";
        answer.body = "<html>Please log in</html>";
        return answer;
    };
    start();
    const auto joined = transport->join();
    ASSERT_FALSE(joined.ok());
    EXPECT_EQ(joined.error().kind, ErrorKind::Retry);
    EXPECT_THAT(joined.error().message, HasSubstr("portal"));
}

TEST_P(FlowerFaults, ABodyLimitOfTheProxyIsNamed) {
    const Incoming message = joined_with_message();
    prepare_reply(message);
    answer_instead("push-object", 1, 1'000'000, 413);
    const auto outcome = transport->push(message);
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().kind, ErrorKind::Config);
    EXPECT_THAT(outcome.error().message, HasSubstr("16 MB"));
}

TEST_P(FlowerFaults, PushWithoutPrepareIsABug) {
    const Incoming message = joined_with_message();
    ASSERT_TRUE(transport->fetch(message).ok());
    const auto outcome = transport->push(message);
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().kind, ErrorKind::Bug);
}

}  // namespace
}  // namespace cardionode::fed
