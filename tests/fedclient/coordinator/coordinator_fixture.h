// A coordinator in the test's process, with a clock that stands still and rounds that move when the test says so.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "fedclient/coordinator/coordinator.h"
#include "fedclient/coordinator/node_signature.h"
#include "tests/fedclient/coordinator/scripted_node.h"
#include "tests/fedclient/coordinator/weights_files.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {

class CoordinatorTest : public ::testing::Test {
protected:
    using Json = nlohmann::json;

    CoordinatorTest() : clock(Moment(Milliseconds(1'795'000'000'000))) {  // after Flower's earliest created_at
        settings.server.port = 0;
        settings.model_id = "heart-root";
        settings.arch_sha256 = std::string(64, 'a');
        settings.weights = folder / "initial.safetensors";
        settings.rounds.finish_after_seconds = 0;
        settings.evaluation.enabled = false;
        write_weights(settings.weights, {{"w", {0, 0}}, {"outs.hps.w", {0}}});
    }

    /// Once more after reset(): goes on from the folder.
    void start(std::vector<std::string> faults = {}) {
        fed::CoordinatorOptions options;
        options.settings = settings;
        options.folder = folder / "state";
        options.faults = std::move(faults);
        options.clock = &clock;
        options.own_ticks = false;
        auto started = fed::Coordinator::start(std::move(options));
        ASSERT_TRUE(started.ok()) << started.error().message;
        coordinator = std::move(*started);
    }
    void tick() {
        const auto done = coordinator->tick();
        ASSERT_TRUE(done.ok()) << done.error().message;
    }
    void pass(double seconds) { clock.advance(Milliseconds(static_cast<std::int64_t>(seconds * 1000))); }
    Json status() const { return Json::parse(coordinator->status().value()); }
    Json round(std::size_t index) const { return status()["rounds"].at(index); }
    /// The train results of the latest round: "site state" or "site state (reason)"; sites by number of the node.
    std::string state_of(const ScriptedNode& node, const std::string& phase = "train") const {
        const auto all = status();
        for (const auto& result : all["rounds"].back()[phase])
            if (result["site"] == site(node)) return result["state"];
        return "not asked";
    }
    static std::string site(const ScriptedNode& node) {
        return "site-" + fed::key_id_of(node.public_key()).value().substr(0, 8);
    }

    /// Registered, online.
    ScriptedNode node(bool v1 = false) {
        ScriptedNode made(coordinator->port(), clock, v1);
        EXPECT_TRUE(made.enroll()) << made.last.status << made.last.body;
        EXPECT_TRUE(made.join(300)) << made.last.status << made.last.body;
        return made;
    }
    static fed::Record metrics(double n, double before = 0.5, double after = 0.6) {
        return {{"num-examples", n}, {"n/hps", n}, {"n/unlabelled", 0.0}, {"before/hps", before}, {"after/hps", after}};
    }
    /// Pulls, fetches, confirms.
    static bool receive(ScriptedNode& node) {
        if (!node.pull()) return false;
        node.fetch();
        node.confirm();
        return true;
    }
    /// All weights are `value`.
    static ReplyObjects reply(const ScriptedNode& node, float value, double n = 1) {
        return node.make_reply({{"w", {value, value}}, {"outs.hps.w", {value}}}, metrics(n));
    }
    Weights global() const { return read_weights(coordinator->model().value()); }

    TemporaryFolder folder;
    FakeClock clock;
    fed::RunSettings settings;
    std::unique_ptr<fed::Coordinator> coordinator;
};

}  // namespace cardionode::test
