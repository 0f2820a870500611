// A hospital's transport and a server for it; the clock stands still but for the transport's own pauses.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fedclient/flower/flower_http.h"
#include "fedclient/flower/tensor_objects.h"
#include "models/weights/tensor_file.h"
#include "tests/fedclient/flower/fleet_server.h"
#include "tests/fedclient/flower/weights_of_test.h"
#include "tests/support/authority.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {

class FlowerFixture : public testing::TestWithParam<Dialect> {
protected:
    FlowerFixture() {
        test::Authority authority(folder / "pki", "consortium");
        const auto key = authority.issue("node");
        std::filesystem::permissions(key.key, std::filesystem::perms::owner_read);
        options.dialect = GetParam();
        options.node_key = key.key;
        options.work = folder / "work";
        options.heartbeat_pause = std::chrono::hours(1);
        options.http.surroundings.clock = &clock;
        options.http.surroundings.seed = 1;
        options.http.surroundings.sleep = [this](Milliseconds time) {
            slept += time;
            clock.advance(time);
        };
        test::write_weights(folder / "global.safetensors", {{"body.w", {300}, 1}, {"head.w", {1'400'000}, 2}});
        test::write_weights(folder / "update.safetensors", {{"body.w", {300}, 3}, {"head.w", {1'400'000}, 4}});
        serve();
    }

    void serve() {
        server = std::make_unique<test::FleetServer>(folder / "server", GetParam() == Dialect::V1);
        options.http.url = server->url();
    }

    double now() const { return static_cast<double>(clock.now().time_since_epoch().count()) / 1000; }

    /// Another process on the same folder.
    void start() {
        transport.reset();
        auto made = make_flower_transport(options);
        ASSERT_TRUE(made.ok()) << made.error().message;
        transport = std::move(made).value();
    }
    void join() {
        start();
        const auto joined = transport->join();
        ASSERT_TRUE(joined.ok()) << joined.error().message;
    }
    std::string issue(double ttl = 3600) {
        return server->issue("train", {{"arrays", folder / "global.safetensors"}}, config, now(), ttl);
    }
    /// Joined, and the message at hand.
    Incoming next() {
        auto message = transport->poll();
        EXPECT_TRUE(message.ok()) << message.error().message;
        EXPECT_TRUE(message.ok() && message->has_value());
        return message.ok() && *message ? **message : Incoming{};
    }
    Incoming joined_with_message() {
        issue();
        join();
        return next();
    }
    Reply good_reply() const {
        Reply reply;
        reply.weights = folder / "update.safetensors";
        reply.metrics = {{"num-examples", std::int64_t{12}}, {"n/aorta", std::int64_t{7}}};
        reply.configs = {{"config", {{"model-id", std::string("heart")}}}};
        return reply;
    }
    static std::vector<float> values_of(const std::filesystem::path& file, const std::string& name) {
        const auto open = TensorFile::open(file);
        if (!open || !open->find(name)) return {};
        return open->floats(*open->find(name)).value();
    }
    /// What the server got is the reply, tensor by tensor.
    void expect_reply_arrived() {
        ASSERT_TRUE(server->reply.has_value());
        ASSERT_EQ(server->reply->tree.children.size(), 1U);
        const ObjectTree& record = server->reply->tree.children[0].children.at(0);
        const auto made = decode_tensors(server->replies, record.id, folder / "arrived.safetensors");
        ASSERT_TRUE(made.ok()) << made.error().message;
        for (const char* name : {"body.w", "head.w"})
            EXPECT_EQ(values_of(folder / "arrived.safetensors", name), values_of(folder / "update.safetensors", name));
    }

    test::TemporaryFolder folder;
    test::FakeClock clock;
    Milliseconds slept{0};
    TransportOptions options;
    Record config = {
        {"fed-schema", std::int64_t{1}}, {"round", std::int64_t{4}}, {"heads", std::vector<std::string>{"aorta"}}};
    std::unique_ptr<test::FleetServer> server;
    std::unique_ptr<Transport> transport;
};

}  // namespace cardionode::fed
