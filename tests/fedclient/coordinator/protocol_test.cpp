// The quirks of Flower's servers that a client must live with, over real sockets.
#include <chrono>
#include <fstream>
#include <functional>

#include "conf/base/hash.h"
#include "tests/fedclient/coordinator/coordinator_fixture.h"

namespace cardionode::test {

namespace {

using ::testing::HasSubstr;

class Protocol : public CoordinatorTest {
protected:
    Protocol() { settings.aggregation.quorum = 1; }
    /// A node with a message that it has fetched and confirmed.
    ScriptedNode asked(bool v1 = false, std::vector<std::string> faults = {}) {
        start(std::move(faults));
        auto made = node(v1);
        tick();
        EXPECT_TRUE(receive(made));
        return made;
    }
    static bool refused(const fleet::PushMessagesResponse& response) {
        return response.results_size() == 1 && response.results().contains("None");
    }
    static Json json_of(const Answer& answer) { return Json::parse(answer.body, nullptr, false); }
};

TEST_F(Protocol, PullIsAtMostOnceAndObjectsCanBeReadAgainUntilConfirm) {
    start();
    auto a = node();
    tick();
    ASSERT_TRUE(a.pull());
    EXPECT_EQ(a.message.metadata().src_node_id(), 1U);
    EXPECT_EQ(a.message.metadata().dst_node_id(), a.node_id);
    EXPECT_TRUE(a.message.has_content());
    EXPECT_EQ(a.message.content().items_size(), 0);
    EXPECT_FALSE(ScriptedNode(coordinator->port(), clock).pull()) << "another node got it";
    a.fetch();
    const auto message = a.message;
    const auto root = a.tree.object_id();
    EXPECT_EQ(message.metadata().message_id(), root);
    EXPECT_FALSE(a.pull()) << "delivered twice";
    a.message = message;
    EXPECT_TRUE(a.pull_object(root).object_available());
    ScriptedNode other_connection(coordinator->port(), clock);
    other_connection.node_id = a.node_id;
    other_connection.message = message;
    EXPECT_TRUE(other_connection.pull_object(root).object_available());
    a.confirm();
    EXPECT_FALSE(a.pull_object(root).object_found());
}

TEST_F(Protocol, RepeatedPushListsOnlyWhatIsMissing) {
    auto a = asked();
    const auto answer = reply(a, 1);
    const auto total = static_cast<int>(answer.order.size());
    EXPECT_FALSE(a.push_object(answer.order[0], answer.bytes.at(answer.order[0]))) << "before push-messages";
    auto response = a.push_messages(answer);
    EXPECT_TRUE(response.results().contains(answer.id));
    ASSERT_EQ(response.objects_to_push_size(), total);
    EXPECT_EQ(response.objects_to_push(total - 1), answer.id) << "children come before parents";
    const auto& first = answer.order[0];
    EXPECT_FALSE(a.push_object(first, answer.bytes.at(answer.order[1]))) << "wrong bytes";
    EXPECT_FALSE(a.push_object(first, answer.bytes.at(first).substr(0, 20))) << "cut bytes";
    EXPECT_FALSE(a.push_object(std::string(64, 'f'), "x")) << "not announced";
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(a.push_object(answer.order[i], answer.bytes.at(answer.order[i])));
    EXPECT_TRUE(a.push_object(first, answer.bytes.at(first))) << "v0 says true again";
    response = a.push_messages(answer);
    EXPECT_EQ(response.objects_to_push_size(), total - 3);
    for (const auto& id : response.objects_to_push()) EXPECT_TRUE(a.push_object(id, answer.bytes.at(id)));
    response = a.push_messages(answer);
    EXPECT_TRUE(response.results().contains(answer.id));
    EXPECT_EQ(response.objects_to_push_size(), 0);
}

TEST_F(Protocol, ReceiptIsTheReplyThatIsNoLongerFound) {
    settings.rounds.count = 2;
    auto a = asked();
    const auto answer = reply(a, 1);
    ASSERT_TRUE(a.push(answer));
    EXPECT_TRUE(a.pull_object(answer.id).object_found());
    tick();
    EXPECT_FALSE(a.pull_object(answer.id).object_found());
    EXPECT_EQ(a.last.status, 200);
}

TEST_F(Protocol, RefusedRepliesGetNoneAndStillAListOfObjects) {
    auto a = asked();
    const auto good = reply(a, 1);
    const auto tried = [&](const std::function<void(fleet::Message&)>& change) {
        auto bad = good;
        change(bad.message);
        ScriptedNode::seal(bad);
        const auto response = a.push_messages(bad);
        EXPECT_EQ(a.last.status, 200);
        EXPECT_GT(response.objects_to_push_size(), 0);
        return refused(response);
    };
    const double ttl = good.message.metadata().ttl();
    EXPECT_TRUE(tried([&](auto& m) { m.mutable_metadata()->set_ttl(ttl + 0.2); })) << "ttl too long";
    EXPECT_FALSE(tried([&](auto& m) { m.mutable_metadata()->set_ttl(ttl + 0.05); })) << "within the tolerance";
    EXPECT_TRUE(tried([&](auto& m) { m.mutable_metadata()->set_ttl(0); }));
    EXPECT_TRUE(tried([&](auto& m) { m.mutable_metadata()->set_created_at(1.6e9); })) << "created too long ago";
    EXPECT_TRUE(tried([&](auto& m) { m.mutable_metadata()->set_src_node_id(a.node_id + 1); })) << "another's name";
    EXPECT_TRUE(tried([&](auto& m) { m.mutable_metadata()->set_dst_node_id(2); }));
    EXPECT_TRUE(tried([&](auto& m) { m.mutable_metadata()->set_message_type("evaluate"); }));
    EXPECT_TRUE(tried([&](auto& m) { m.mutable_metadata()->set_reply_to_message_id(std::string(64, '0')); }));
    ASSERT_TRUE(a.push(good));
    EXPECT_TRUE(refused(a.push_messages(reply(a, 2)))) << "a second reply to one message";
}

TEST_F(Protocol, StoppedRunAnswersObjectCallsWith500) {
    auto a = asked(false, {"stop-run=1"});
    const auto answer = reply(a, 1);
    a.push_messages(answer);
    EXPECT_EQ(a.last.status, 500);
    a.pull_object(answer.id);
    EXPECT_EQ(a.last.status, 500);
    a.push_object(answer.id, answer.bytes.at(answer.id));
    EXPECT_EQ(a.last.status, 500);
    EXPECT_FALSE(a.pull());
    EXPECT_EQ(a.last.status, 200) << "nothing tells the node";
    EXPECT_TRUE(a.heartbeat());
    EXPECT_EQ(status()["run"], "stopped");
}

TEST_F(Protocol, V1AnswersWithJsonAndACode) {
    auto a = asked(true, {"stop-run=1"});
    a.push_messages(reply(a, 1));
    EXPECT_EQ(a.last.status, 409);
    EXPECT_EQ(a.last.headers["content-type"], "application/json");
    const auto body = json_of(a.last);
    EXPECT_EQ(body["code"], "RUN_NOT_RUNNING");
    EXPECT_TRUE(body.contains("detail") && body.contains("extra"));
}

TEST_F(Protocol, V1ChecksTheSignedHeaders) {
    start();
    auto a = node(true);
    const auto accepted_at = [&](double ahead) {
        a.signed_ahead_seconds = ahead;
        a.heartbeat();
        EXPECT_TRUE(a.last.status == 200 || a.last.status == 401) << ahead << " " << a.last.status;
        return a.last.status == 200;
    };
    EXPECT_TRUE(accepted_at(-300));
    EXPECT_FALSE(accepted_at(-400));
    EXPECT_TRUE(accepted_at(4.5));
    EXPECT_FALSE(accepted_at(6));
    EXPECT_TRUE(accepted_at(0));
    a.sign_wrong = true;
    EXPECT_FALSE(accepted_at(0));
    a.sign_wrong = false;
    ScriptedNode thief(coordinator->port(), clock, true);
    thief.node_id = a.node_id;
    EXPECT_FALSE(thief.heartbeat());
    EXPECT_EQ(thief.last.status, 401) << "spoke for another node";
    EXPECT_EQ(json_of(thief.last)["code"], "UNAUTHENTICATED");
    ScriptedNode plain(coordinator->port(), clock);
    EXPECT_EQ(plain.post("/v1/fleet/pull-messages", "", {{"Content-Type", "application/protobuf"}}).status, 401);
    fleet::RegisterNodeRequest other;
    other.set_public_key(a.public_key());
    thief.call<fleet::RegisterNodeResponse>("register-node", other);
    EXPECT_EQ(thief.last.status, 401) << "public_key is not the header's";
}

TEST_F(Protocol, V1SkewFaultMovesTheServersClock) {
    start({"skew:600"});
    ScriptedNode a(coordinator->port(), clock, true);
    EXPECT_FALSE(a.enroll());
    EXPECT_EQ(a.last.status, 401);
}

TEST_F(Protocol, V1PushSessionLapsesAfter180SecondsWithoutAnObject) {
    auto a = asked(true);
    const auto answer = reply(a, 1);
    a.push_messages(answer);
    ASSERT_FALSE(a.session.empty());
    const auto session = a.session;
    EXPECT_TRUE(a.push_object(answer.order[0], answer.bytes.at(answer.order[0])));
    EXPECT_FALSE(a.push_object(answer.order[0], answer.bytes.at(answer.order[0]))) << "v1 says false again";
    pass(170);
    EXPECT_TRUE(a.push_object(answer.order[1], answer.bytes.at(answer.order[1]))) << "renewed by an object";
    pass(170);
    EXPECT_TRUE(a.push_object(answer.order[2], answer.bytes.at(answer.order[2])));
    pass(181);
    EXPECT_FALSE(a.push_object(answer.order[3], answer.bytes.at(answer.order[3])));
    EXPECT_FALSE(a.pull_object(answer.id).object_found()) << "the pending reply is gone";
    EXPECT_TRUE(a.push(answer)) << "push-messages again must work";
    EXPECT_NE(a.session, session);
    tick();
    EXPECT_EQ(round(0)["state"], "done");
}

TEST_F(Protocol, V1PushObjectWithoutSessionIsStillAccepted) {
    auto a = asked(true);
    const auto answer = reply(a, 1);
    a.push_messages(answer);
    a.session.clear();
    EXPECT_TRUE(a.push_object(answer.order[0], answer.bytes.at(answer.order[0])));
    a.session = "0123";
    EXPECT_FALSE(a.push_object(answer.order[1], answer.bytes.at(answer.order[1])));
}

TEST_F(Protocol, RegisteringTwiceAndActivatingAnUnknownKeyAreErrors) {
    start();
    for (const bool v1 : {false, true}) {
        ScriptedNode a(coordinator->port(), clock, v1);
        EXPECT_FALSE(a.join());
        EXPECT_EQ(a.last.status, v1 ? 404 : 500);
        EXPECT_TRUE(a.enroll());
        EXPECT_FALSE(a.enroll());
        EXPECT_EQ(a.last.status, v1 ? 409 : 500);
        EXPECT_FALSE(a.join(9)) << "a heartbeat interval under 10 s";
        EXPECT_TRUE(a.join(10));
        const auto id = a.node_id;
        EXPECT_TRUE(a.join(10));
        EXPECT_EQ(a.node_id, id) << "the same key is the same node";
        EXPECT_TRUE(a.heartbeat());
    }
    ScriptedNode stranger(coordinator->port(), clock);
    stranger.node_id = 12345;
    EXPECT_FALSE(stranger.heartbeat());
    EXPECT_EQ(stranger.last.status, 200);
}

TEST_F(Protocol, OnlyListedSitesMayJoinAndBearTheirNames) {
    ScriptedNode known(0, clock);
    std::ofstream(folder / "aachen.pub.pem") << known.public_key();
    settings.sites = {{"aachen", folder / "aachen.pub.pem"}};
    start();
    ScriptedNode listed(coordinator->port(), clock), stranger(coordinator->port(), clock);
    fleet::ActivateNodeRequest request;
    request.set_public_key(known.public_key());
    request.set_heartbeat_interval(30);
    EXPECT_TRUE(listed.call<fleet::ActivateNodeResponse>("activate-node", request));
    EXPECT_FALSE(stranger.join());
    EXPECT_EQ(stranger.last.status, 403);
    EXPECT_EQ(status()["sites"].at(0)["site"], "aachen");
    EXPECT_EQ(status()["sites"].size(), 1U);
}

TEST_F(Protocol, GetRunTellsTheState) {
    auto a = asked();
    fleet::GetRunRequest request;
    request.mutable_node()->set_node_id(a.node_id);
    request.set_run_id(a.message.metadata().run_id());
    const auto response = a.call<fleet::GetRunResponse>("get-run", request);
    ASSERT_TRUE(response);
    EXPECT_EQ(response->run().status().status(), "running");
}

TEST_F(Protocol, DamagedRequestsAreRefusedAndTheServerGoesOn) {
    start();
    auto a = node();
    const std::map<std::string, std::string> protobuf = {{"Content-Type", "application/protobuf"}};
    EXPECT_EQ(a.ask("push-messages", "\xff\xff\xff").status, 500);
    EXPECT_EQ(a.ask("no-such-call", "").status, 404);
    EXPECT_EQ(a.post("/elsewhere", "", protobuf).status, 404);
    EXPECT_EQ(a.post("/api/v0/fleet/pull-messages", "", {{"Content-Type", "text/plain"}}).status, 415);
    EXPECT_EQ(a.ask("push-messages", "").status, 500) << "no message in it";
    fleet::PushMessagesRequest deep;
    auto* tree = deep.add_message_object_trees();
    for (int i = 0; i < 50; ++i) tree = tree->add_children();
    deep.add_messages_list();
    EXPECT_NE(a.ask("push-messages", deep.SerializeAsString()).status, 200);
    EXPECT_EQ(a.pull_object("../../coordinator.db").object_found(), false);
    EXPECT_TRUE(a.heartbeat());
}

class FaultSwitch : public Protocol {};

TEST_F(FaultSwitch, AnswersAreSpoiledAsOftenAsOrderedAndCounted) {
    start({"wrong-hash=1", "truncated-chunk=1", "truncated-answer=1", "drop-object-answer=1"});
    auto a = node();
    tick();
    ASSERT_TRUE(a.pull());
    const auto id = a.tree.object_id();
    int good = 0, lost = 0, cut = 0, damaged = 0;
    for (int i = 0; i < 5; ++i) {
        const auto response = a.pull_object(id);
        if (a.last.cut) ++cut;
        else if (a.last.status == 0) ++lost;
        else if (sha256_hex(response.object_content()) == id) ++good;
        else ++damaged;
    }
    EXPECT_EQ(lost, 1);
    EXPECT_EQ(cut, 1);
    EXPECT_EQ(damaged, 2);
    EXPECT_EQ(good, 1);
    for (const char* name : {"wrong-hash", "truncated-chunk", "truncated-answer", "drop-object-answer"})
        EXPECT_EQ(status()["faults"]["happened"][name], 1) << name;
    EXPECT_TRUE(status()["faults"]["due"].empty());
}

TEST_F(FaultSwitch, CallsFailAsOrdered) {
    start();
    auto a = node();
    const auto order = [&](const char* fault) { ASSERT_TRUE(coordinator->faults().order(fault).ok()); };
    order("http-500=2");
    EXPECT_FALSE(a.heartbeat());
    EXPECT_EQ(a.last.status, 500);
    EXPECT_FALSE(a.heartbeat());
    EXPECT_TRUE(a.heartbeat());
    order("http-502");
    EXPECT_FALSE(a.heartbeat());
    EXPECT_EQ(a.last.status, 502);
    order("drop-connection");
    EXPECT_FALSE(a.heartbeat());
    EXPECT_EQ(a.last.status, 0);
    EXPECT_TRUE(a.heartbeat());
    order("stale-connection");
    EXPECT_TRUE(a.heartbeat());
    EXPECT_NE(a.last.headers["connection"], "close");
    EXPECT_FALSE(a.heartbeat()) << "the kept connection was still there";
    EXPECT_EQ(a.last.status, 0);
    EXPECT_TRUE(a.heartbeat());
    order("slow=1:0.2");
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(a.heartbeat());
    EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(200));
    order("offline");
    EXPECT_FALSE(a.heartbeat());
    EXPECT_EQ(a.last.status, 200);
    EXPECT_EQ(status()["sites"].at(0)["online"], false);
}

TEST_F(FaultSwitch, PushFaultsLoseNothingThatARepeatDoesNotBring) {
    auto a = asked(true, {"late=1", "drop-push-answer=1", "lose-object=1", "lapse-session=1"});
    const auto answer = reply(a, 1);
    EXPECT_TRUE(refused(a.push_messages(answer)));
    a.push_messages(answer);
    EXPECT_EQ(a.last.status, 0);
    for (int i = 0; i < 4 && !a.push(answer); ++i) {
    }
    EXPECT_EQ(a.push_messages(answer).objects_to_push_size(), 0);
    tick();
    EXPECT_EQ(round(0)["state"], "done");
    for (const char* name : {"late", "drop-push-answer", "lose-object", "lapse-session"})
        EXPECT_EQ(status()["faults"]["happened"][name], 1) << name;
}

TEST(Faults, UnknownNamesAndNumbersAreRefused) {
    fed::Faults faults;
    EXPECT_TRUE(faults.order("late=3").ok());
    EXPECT_TRUE(faults.order("slow=2:0.5").ok());
    EXPECT_TRUE(faults.order("skew:-600").ok());
    for (const char* wrong : {"lat=1", "late=x", "late=-1", "slow=1:y", "", "late=1z"}) {
        const auto done = faults.order(wrong);
        ASSERT_FALSE(done.ok()) << wrong;
        EXPECT_EQ(done.error().kind, ErrorKind::Config);
    }
    EXPECT_EQ(faults.argument("skew"), -600);
    EXPECT_EQ(faults.take("slow"), 0.5);
    EXPECT_FALSE(faults.take("http-500"));
}

}  // namespace
}  // namespace cardionode::test
