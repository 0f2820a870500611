// The program cardionode-fedcoord: its help, its settings, its status, and kill -9 in mid-round.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "fedclient/coordinator/run_settings.h"
#include "tests/fedclient/coordinator/scripted_node.h"
#include "tests/fedclient/coordinator/weights_files.h"
#include "tests/support/free_port.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {
namespace {

using ::testing::HasSubstr;

class Program : public ::testing::Test {
protected:
    Program() {
        write_weights(folder / "initial.safetensors", {{"w", {0, 0}}});
        std::ofstream(folder / "run.yaml") << "server: {port: " << port << ", status_port: " << status_port << "}\n"
                                           << "model: {id: heart-root, weights: initial.safetensors}\n"
                                           << "rounds: {poll_seconds: 0.05, finish_after_seconds: 1}\n"
                                           << "evaluation: {enabled: false}\n";
    }
    Process serve(bool until_finished = false) {
        std::vector<std::string> words = {program("cardionode-fedcoord"), "run", (folder / "run.yaml").string(),
                                          "--state", (folder / "state").string()};
        if (until_finished) words.push_back("--until-finished");
        Process::Options options;
        options.output = folder / "log";
        auto process = Process::start(words, options);
        EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] { return listens(port); })) << log();
        return process;
    }
    std::string log() const { return read_file(folder / "log").value(); }
    nlohmann::json status() const {
        const auto shown =
            run({program("cardionode-fedcoord"), "status", "--json", "--state", (folder / "state").string()});
        return nlohmann::json::parse(shown.output);
    }
    ScriptedNode node() const {
        ScriptedNode made(port, system_clock());
        EXPECT_TRUE(made.enroll() && made.join());
        return made;
    }
    static bool receive(ScriptedNode& node) {
        if (!eventually(std::chrono::seconds(20), [&] { return node.pull().has_value(); })) return false;
        node.fetch();
        node.confirm();
        return true;
    }
    static ReplyObjects reply(const ScriptedNode& node, float value) {
        return node.make_reply({{"w", {value, value}}}, {{"num-examples", 1.0}, {"n/hps", 1.0}});
    }

    TemporaryFolder folder;
    int port = free_port(), status_port = free_port();
};

TEST_F(Program, HelpSaysWhatItIsNotFor) {
    const auto help = run({program("cardionode-fedcoord"), "--help"});
    EXPECT_TRUE(help.ok());
    EXPECT_THAT(help.output, HasSubstr("tests, demonstrations and simulation"));
    EXPECT_THAT(help.output, HasSubstr("Flower SuperLink"));
    EXPECT_THAT(run({program("cardionode-fedcoord"), "run", "--help"}).output, HasSubstr("lapse-session"));
}

TEST_F(Program, WrongSettingsAreAllNamedAndEndWith78) {
    std::ofstream(folder / "run.yaml") << "model: {id: a b, weights: x}\nrounds: {cuont: 3}\nplan: {method: magic}\n";
    const auto ended = run({program("cardionode-fedcoord"), "run", (folder / "run.yaml").string(), "--state",
                            (folder / "state").string()});
    EXPECT_EQ(ended.ending.exit_code, 78);
    for (const char* key : {"model.id", "rounds.cuont", "plan.method"}) EXPECT_THAT(ended.errors, HasSubstr(key));
}

TEST_F(Program, KilledInMidRoundGoesOnAndCountsEachUpdateOnce) {
    auto process = serve();
    auto a = node(), b = node();
    ASSERT_TRUE(receive(a) && receive(b));
    ASSERT_TRUE(a.push(reply(a, 1)));
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] {
        const auto all = status();
        return all["rounds"].back()["train"].dump().find("answered") != std::string::npos;
    }));
    const auto second = reply(b, 3);
    const auto announced = b.push_messages(second);
    ASSERT_TRUE(b.push_object(announced.objects_to_push(0), second.bytes.at(announced.objects_to_push(0))));
    process.kill_hard();
    process = serve(true);
    b.heartbeat();  // finds the old connection gone
    ASSERT_EQ(b.push_messages(second).objects_to_push_size(), announced.objects_to_push_size() - 1);
    ASSERT_TRUE(b.push(second));
    const auto ending = process.wait(std::chrono::seconds(30));
    ASSERT_TRUE(ending) << log();
    EXPECT_EQ(ending->exit_code, 0);
    const auto all = status();
    EXPECT_EQ(all["run"], "finished");
    EXPECT_EQ(all["rounds"].size(), 1U);
    EXPECT_EQ(all["rounds"][0]["weights"]["body"].size(), 2U);
    EXPECT_EQ(read_weights(all["global"]["file"].get<std::string>()).at("w"), (std::vector<float>{2, 2}));
    const auto table = run({program("cardionode-fedcoord"), "status", "--state", (folder / "state").string()});
    EXPECT_THAT(table.output, HasSubstr("round 1: done"));
    EXPECT_THAT(table.output, HasSubstr("answered"));
}

TEST_F(Program, StatusPageIsJson) {
    const auto process = serve();
    ScriptedNode reader(status_port, system_clock());
    const auto page = reader.post("/status", "", {});
    EXPECT_EQ(page.status, 200);
    EXPECT_EQ(nlohmann::json::parse(page.body)["model"], "heart-root");
    EXPECT_EQ(reader.post("/other", "", {}).status, 404);
}

TEST_F(Program, EndsOnSigterm) {
    auto process = serve();
    EXPECT_EQ(process.stop().exit_code, 0);
    EXPECT_THAT(log(), HasSubstr("coordinator_stopped"));
}

TEST(RunSettings, ExampleIsTheDefaults) {
    const auto file = std::filesystem::path(CARDIONODE_SOURCE_DIR) / "fedclient/coordinator/fedcoord.example.yaml";
    const auto example = fed::load_run_settings(file);
    ASSERT_TRUE(example.ok()) << example.error().message;
    const auto plain = fed::parse_run_settings("model: {id: heart-root, weights: initial.safetensors}", "x");
    ASSERT_TRUE(plain.ok()) << plain.error().message;
    EXPECT_EQ(example->server.port, plain->server.port);
    EXPECT_EQ(example->server.shortest_heartbeat_seconds, plain->server.shortest_heartbeat_seconds);
    EXPECT_EQ(example->plan.steps, plain->plan.steps);
    EXPECT_EQ(example->rounds.deadline_seconds, plain->rounds.deadline_seconds);
    EXPECT_EQ(example->rounds.silent_seconds, plain->rounds.silent_seconds);
    EXPECT_EQ(example->rounds.most_issues, plain->rounds.most_issues);
    EXPECT_EQ(example->aggregation.quorum, plain->aggregation.quorum);
    EXPECT_EQ(example->aggregation.max_norm_ratio, plain->aggregation.max_norm_ratio);
    EXPECT_EQ(example->aggregation.min_cosine, plain->aggregation.min_cosine);
    EXPECT_EQ(example->evaluation.tolerance, plain->evaluation.tolerance);
    EXPECT_EQ(example->weights, file.parent_path() / "initial.safetensors");
}

TEST(RunSettings, PlainHttpBeyondThisMachineIsRefused) {
    const auto read = fed::parse_run_settings(
        "server: {bind_address: 0.0.0.0}\nmodel: {id: a, weights: x}\nsites: [{name: a, public_key: p}, {name: a, "
        "public_key: q}]",
        "x");
    ASSERT_FALSE(read.ok());
    EXPECT_THAT(read.error().message, HasSubstr("plain HTTP is for loopback"));
    EXPECT_THAT(read.error().message, HasSubstr("twice is a"));
}

}  // namespace
}  // namespace cardionode::test
