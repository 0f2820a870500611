#include <chrono>
#include <fstream>
#include <thread>

#include "conf/base/files.h"
#include "fedclient/flower/deadline.h"
#include "tests/fedclient/flower/flower_fixture.h"
#include "tests/support/memory_peak.h"

namespace cardionode::fed {
namespace {

using testing::HasSubstr;

class FlowerTransport : public FlowerFixture {};
INSTANTIATE_TEST_SUITE_P(Dialects, FlowerTransport, testing::Values(Dialect::V0, Dialect::V1),
                         [](const auto& info) { return info.param == Dialect::V0 ? "V0" : "V1"; });

TEST_P(FlowerTransport, ARoundFromJoiningToReceipt) {
    const std::string id = issue();
    join();
    EXPECT_TRUE(server->online);
    const Incoming message = next();
    EXPECT_EQ(message.message_id, id);
    EXPECT_EQ(message.type, "train");
    EXPECT_EQ(message.run_id, 7U);
    EXPECT_EQ(message.folder, options.work / id);
    EXPECT_FALSE(transport->poll()->has_value());

    const auto pulled = transport->fetch(message);
    ASSERT_TRUE(pulled.ok()) << pulled.error().message;
    EXPECT_TRUE(server->confirmed);
    EXPECT_EQ(pulled->configs.at("config"), config);
    const PulledArrays& arrays = pulled->arrays.at("arrays");
    for (const char* name : {"body.w", "head.w"})
        EXPECT_EQ(values_of(arrays.weights, name), values_of(folder / "global.safetensors", name));
    EXPECT_TRUE(server->outgoing.has(arrays.record_id));

    const auto reply_id = transport->prepare(message, good_reply());
    ASSERT_TRUE(reply_id.ok()) << reply_id.error().message;
    const auto outcome = transport->push(message);
    ASSERT_TRUE(outcome.ok()) << outcome.error().message;
    EXPECT_EQ(*outcome, PushOutcome::Stored);
    expect_reply_arrived();
    EXPECT_EQ(server->reply->id, *reply_id);
    EXPECT_EQ(server->reply->reply_to, id);
    EXPECT_EQ(server->reply->dst, 1U);
    EXPECT_TRUE(server->reply->content_present);
    EXPECT_EQ(server->pushed, post_order(server->reply->tree));  // children first, each once

    EXPECT_EQ(transport->receipt(message).value(), Receipt::Waiting);
    ASSERT_TRUE(server->take());
    EXPECT_EQ(transport->receipt(message).value(), Receipt::Taken);
    EXPECT_TRUE(transport->leave().ok());
    EXPECT_FALSE(server->online);
    EXPECT_GT(transport->totals().bytes_sent, 5'600'000U);
    EXPECT_GT(transport->totals().bytes_received, 5'600'000U);
    EXPECT_GT(transport->totals().download_bytes_per_second, 0);
    EXPECT_LE(transport->totals().reconnects, 2);  // one for each poll
}

TEST_P(FlowerTransport, NothingToDoIsNoError) {
    join();
    const auto message = transport->poll();
    ASSERT_TRUE(message.ok());
    EXPECT_FALSE(message->has_value());
}

TEST_P(FlowerTransport, ActivatesFirstAndRegistersOnlyWhenUnknown) {
    join();
    EXPECT_EQ(server->calls["register-node"], 1);
    EXPECT_EQ(server->calls["activate-node"], 2);
    ASSERT_TRUE(transport->leave().ok());
    join();
    EXPECT_EQ(server->calls["register-node"], 1);
    EXPECT_EQ(server->calls["activate-node"], 3);
}

TEST_P(FlowerTransport, JoinsAgainAfterAKillWhileTheServerThinksItOnline) {
    join();
    join();  // the server refuses to activate what is active, and to register what is registered
    EXPECT_EQ(server->calls["register-node"], 1);
    issue();
    EXPECT_TRUE(transport->poll()->has_value());
}

TEST_P(FlowerTransport, SaysWhatToDoWhenTheServerTakesNoNewNodes) {
    const bool v1 = GetParam() == Dialect::V1;
    server->instead = [&](const std::string&, int) {
        test::FleetServer::Answer answer;
        answer.status = v1 ? 403 : 500;
        return std::optional(answer);
    };
    start();
    const auto joined = transport->join();
    ASSERT_FALSE(joined.ok());
    EXPECT_EQ(joined.error().kind, ErrorKind::Config);
    EXPECT_THAT(joined.error().message, HasSubstr("public key"));
}

TEST_P(FlowerTransport, TellsAnotherDialectFromATrouble) {
    options.dialect = GetParam() == Dialect::V1 ? Dialect::V0 : Dialect::V1;
    start();
    const auto joined = transport->join();
    ASSERT_FALSE(joined.ok());
    EXPECT_EQ(joined.error().kind, ErrorKind::Config);
    EXPECT_THAT(joined.error().message, HasSubstr("another dialect"));
}

TEST_P(FlowerTransport, SignsTwoMinutesAgoInV1AndNothingInV0) {
    join();
    if (GetParam() == Dialect::V0) {
        EXPECT_FALSE(server->headers.contains("flwr-signature"));
    } else {
        EXPECT_EQ(server->headers.at("flwr-timestamp"), "2023-11-14T22:11:20.000000+00:00");
    }
    EXPECT_FALSE(server->headers.contains("flwr-package-name"));
    EXPECT_EQ(server->headers.at("content-type"), "application/protobuf");
}

TEST_P(FlowerTransport, TheReplyLivesAsLongAsTheQuestion) {
    const Incoming message = joined_with_message();
    ASSERT_TRUE(transport->fetch(message).ok());
    clock.advance(std::chrono::minutes(10));
    ASSERT_TRUE(transport->prepare(message, good_reply()).ok());
    ASSERT_EQ(transport->push(message).value(), PushOutcome::Stored);
    EXPECT_NEAR(server->reply->created_at, message.created_at + 600, 1);
    EXPECT_NEAR(server->reply->created_at + server->reply->ttl, message.created_at + message.ttl, 1e-3);
}

TEST_P(FlowerTransport, PrepareIsDeterministicAlsoLaterAndInAnotherProcess) {
    const Incoming message = joined_with_message();
    ASSERT_TRUE(transport->fetch(message).ok());
    const auto first = transport->prepare(message, good_reply());
    clock.advance(std::chrono::minutes(3));
    const auto second = transport->prepare(message, good_reply());
    start();
    const auto third = transport->prepare(message, good_reply());
    ASSERT_TRUE(first.ok() && second.ok() && third.ok());
    EXPECT_EQ(*first, *second);
    EXPECT_EQ(*first, *third);
    Reply other = good_reply();
    other.metrics["num-examples"] = std::int64_t{13};
    EXPECT_NE(*transport->prepare(message, other), *first);
}

TEST_P(FlowerTransport, TheReplySurvivesTheFileItWasMadeFrom) {
    const Incoming message = joined_with_message();
    ASSERT_TRUE(transport->fetch(message).ok());
    std::filesystem::copy_file(folder / "update.safetensors", folder / "trained.safetensors");
    Reply reply = good_reply();
    reply.weights = folder / "trained.safetensors";
    ASSERT_TRUE(transport->prepare(message, reply).ok());
    std::filesystem::remove(folder / "trained.safetensors");
    ASSERT_EQ(transport->push(message).value(), PushOutcome::Stored);
    expect_reply_arrived();
}

TEST_P(FlowerTransport, AnHonestErrorReplyHasNoContent) {
    const Incoming message = joined_with_message();
    ASSERT_TRUE(transport->fetch(message).ok());
    Reply reply;
    reply.failure = Reply::Failure{2, "fedclient:validation_drop"};
    ASSERT_TRUE(transport->prepare(message, reply).ok());
    ASSERT_EQ(transport->push(message).value(), PushOutcome::Stored);
    EXPECT_EQ(server->reply->failure_code, 2);
    EXPECT_EQ(server->reply->failure_reason, "fedclient:validation_drop");
    EXPECT_FALSE(server->reply->content_present);
    EXPECT_TRUE(server->reply->tree.children.empty());
}

TEST_P(FlowerTransport, BeatsWhileTheCallerWorksAndStopsWhenItLeaves) {
    std::atomic<int> beats{0};
    server->after = [&](const std::string& call, int, auto&) { beats += call == "send-node-heartbeat"; };
    options.heartbeat_pause = Milliseconds(5);
    join();
    for (int i = 0; i < 2000 && beats < 3; ++i) std::this_thread::sleep_for(Milliseconds(5));
    EXPECT_GE(beats, 3);
    ASSERT_TRUE(transport->leave().ok());
    const int at_leave = beats;
    std::this_thread::sleep_for(Milliseconds(50));
    EXPECT_EQ(beats, at_leave);
}

TEST_P(FlowerTransport, ActivatesAgainWhenTheServerThoughtItGone) {
    std::atomic<int> activations{0};
    server->after = [&](const std::string& call, int, auto&) { activations += call == "activate-node"; };
    server->instead = [&](const std::string& call, int nth) {  // asleep for longer than twice the interval
        if (call == "send-node-heartbeat" && nth == 1) server->restart();
        return std::optional<test::FleetServer::Answer>();
    };
    options.heartbeat_pause = Milliseconds(5);
    join();
    for (int i = 0; i < 2000 && activations < 3; ++i) std::this_thread::sleep_for(Milliseconds(5));
    EXPECT_EQ(activations, 3);  // unknown, registered, again
    ASSERT_TRUE(transport->leave().ok());
}

TEST_P(FlowerTransport, TeachersArePulledOnceByHash) {
    test::write_weights(folder / "teacher.safetensors", {{"t.w", {2'000'000}, 9}});
    const auto issue_with_teacher = [&] {
        server->issue("train",
                      {{"arrays", folder / "global.safetensors"}, {"teacher/aorta", folder / "teacher.safetensors"}},
                      config, now());
    };
    issue_with_teacher();
    join();
    ASSERT_TRUE(transport->fetch(next()).ok());
    const std::size_t first = server->pulled.size();
    clock.advance(std::chrono::hours(12));
    server->pulled.clear();
    issue_with_teacher();
    const auto pulled = transport->fetch(next());
    ASSERT_TRUE(pulled.ok()) << pulled.error().message;
    EXPECT_EQ(values_of(pulled->arrays.at("teacher/aorta").weights, "t.w"),
              values_of(folder / "teacher.safetensors", "t.w"));
    EXPECT_EQ(server->pulled.size() + 3, first);  // an Array and two chunks less

    // A cache that the disk damaged is not believed.
    std::filesystem::path cached =
        options.work / "cache" / (pulled->arrays.at("teacher/aorta").record_id + ".safetensors");
    std::filesystem::remove(cached);
    std::ofstream(cached) << "damaged";
    clock.advance(std::chrono::hours(12));
    issue_with_teacher();
    const auto again = transport->fetch(next());
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(values_of(again->arrays.at("teacher/aorta").weights, "t.w"),
              values_of(folder / "teacher.safetensors", "t.w"));
}

TEST_P(FlowerTransport, LeavesNoChunksBehindAndNoSecondCopy) {
    const Incoming message = joined_with_message();
    ASSERT_TRUE(transport->fetch(message).ok());
    ASSERT_TRUE(transport->prepare(message, good_reply()).ok());
    std::uintmax_t bytes = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(options.work)) {
        if (entry.is_regular_file() && entry.hard_link_count() == 1) bytes += entry.file_size();
    }
    EXPECT_LT(bytes, 5'602'000U + 20'000U);  // the pulled weights and small files
}

TEST_P(FlowerTransport, SixtyMegabytesPassInBoundedMemory) {
    test::write_weights(folder / "global.safetensors", {{"w", {15'000'000}, 1}});
    test::write_weights(folder / "update.safetensors", {{"w", {15'000'000}, 2}});
    issue();
    join();
    const test::MemoryPeak peak;
    const Incoming message = next();
    const auto pulled = transport->fetch(message);
    ASSERT_TRUE(pulled.ok()) << pulled.error().message;
    ASSERT_TRUE(transport->prepare(message, good_reply()).ok());
    ASSERT_EQ(transport->push(message).value(), PushOutcome::Stored);
    EXPECT_LT(peak.risen_megabytes(), 45);  // most of it is the test's server, which holds a few chunks
    EXPECT_EQ(values_of(pulled->arrays.at("arrays").weights, "w"), values_of(folder / "global.safetensors", "w"));
}

TEST(RoundDeadline, IsTheEarlierOneLessTheUpload) {
    Incoming message;
    message.created_at = 1000;
    message.ttl = 500;
    TransferTotals totals;
    const auto seconds = [](Moment m) { return m.time_since_epoch().count() / 1000.0; };
    EXPECT_EQ(seconds(round_deadline(message, {}, 0, totals).end), 1500);
    EXPECT_EQ(seconds(round_deadline(message, {}, 0, totals).work_end), 1440);
    totals.download_bytes_per_second = 1000;
    totals.clock_skew_seconds = 30;
    const RoundDeadline deadline = round_deadline(message, {{"deadline", 1400.0}}, 50'000, totals);
    EXPECT_EQ(seconds(deadline.end), 1430);
    EXPECT_EQ(seconds(deadline.work_end), 1330);
}

TEST(FlowerOptions, AreChecked) {
    test::TemporaryFolder folder;
    TransportOptions options;
    options.work = folder / "work";
    options.http.url = "http://127.0.0.1:1";
    options.node_key = folder / "absent.pem";
    EXPECT_EQ(make_flower_transport(options).error().kind, ErrorKind::Config);
    options.heartbeat_interval_seconds = 5;
    EXPECT_THAT(make_flower_transport(options).error().message, HasSubstr("10 to 1800"));
}

}  // namespace
}  // namespace cardionode::fed
