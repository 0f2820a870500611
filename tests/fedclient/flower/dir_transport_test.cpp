#include "fedclient/flower/dir_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "models/weights/tensor_file.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

void write_weights(const fs::path& file, const std::vector<float>& values,
                   const std::map<std::string, std::string>& metadata = {}) {
    auto writer = TensorFileWriter::create(file, {{"enc.weight", "F32", {static_cast<long>(values.size())}}}, metadata);
    ASSERT_TRUE(writer.ok()) << writer.error().message;
    ASSERT_TRUE(writer->append(std::span<const float>(values)).ok());
    ASSERT_TRUE(writer->commit().ok());
}

std::string text_of(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void put(const fs::path& file, const std::string& text) { std::ofstream(file, std::ios::binary) << text; }

/// Plays the adapter on the other side of the folder.
class DirFolder : public ::testing::Test {
protected:
    void SetUp() override {
        fs::create_directories(root / "in");
        fs::create_directories(root / "out");
        transport = start();
        const auto joined = transport->join();
        ASSERT_TRUE(joined.ok()) << joined.error().message;
    }
    std::unique_ptr<Transport> start() {
        return make_dir_transport({.root = root, .work = work, .largest_message = largest, .clock = &clock}).value();
    }
    static json message(const std::string& id) {
        return {
            {"fed-dir", 1},
            {"message_id", id},
            {"type", "train"},
            {"created_at", 1764300000.0},
            {"ttl", 3600},
            {"run_id", 18446744073709551615ULL},
            {"group_id", "r3"},
            {"arrays", {{"arrays", "global.safetensors"}}},
            {"configs", {{"config", {{"round", 3}, {"model-id", "heart"}, {"lr", 0.5}, {"heads", {"hps", "mb"}}}}}}};
    }
    fs::path folder_in(const std::string& id) const { return root / "in" / id; }
    fs::path folder_out(const std::string& id) const { return root / "out" / id; }
    void sum_up(const std::string& id) const {
        std::string sums;
        for (const auto& file : fs::directory_iterator(folder_in(id))) {
            if (!file.is_regular_file() || file.is_symlink() || file.path().filename() == "SHA256SUMS") continue;
            sums += sha256_of_file(file).value() + "  " + file.path().filename().string() + "\n";
        }
        put(folder_in(id) / "SHA256SUMS", sums);
    }
    void send(const std::string& id, const std::function<void(json&)>& change = {}) {
        fs::create_directories(folder_in(id));
        json text = message(id);
        if (change) change(text);
        put(folder_in(id) / "message.json", text.dump());
        write_weights(folder_in(id) / "global.safetensors", {1, 2, 3});
        sum_up(id);
    }
    Incoming polled() {
        auto got = transport->poll();
        if (!got || !*got) {
            ADD_FAILURE() << (got ? "nothing" : got.error().message);
            return {};
        }
        return **got;
    }
    void expect_refused(const std::string& text) {
        const auto refused = transport->poll();
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().kind, ErrorKind::Reject) << refused.error().message;
        EXPECT_THAT(refused.error().message, HasSubstr(text));
        // Once is enough, also for a later process, and it does not keep the next message from being read.
        EXPECT_FALSE(start()->poll().value().has_value());
    }
    Reply reply() {
        write_weights(folder / "update.safetensors", {4, 5, 6}, {{"origin", "secret"}});
        Reply made;
        made.weights = folder / "update.safetensors";
        made.metrics = {{"n/hps", std::int64_t{40}}, {"loss", 0.25}};
        made.configs["facts"] = {{"round", std::int64_t{3}}, {"noised", false}};
        return made;
    }
    /// Polled, fetched, prepared, pushed.
    Incoming answer(const std::string& id) {
        send(id);
        const Incoming incoming = polled();
        EXPECT_TRUE(transport->fetch(incoming).ok());
        EXPECT_TRUE(transport->prepare(incoming, reply()).ok());
        EXPECT_EQ(transport->push(incoming).value(), PushOutcome::Stored);
        return incoming;
    }

    cardionode::test::TemporaryFolder folder;
    fs::path root = folder / "exchange", work = folder / "work";
    std::uint64_t largest = 1 << 20;
    cardionode::test::FakeClock clock{Moment(std::chrono::seconds(1764300100))};
    std::unique_ptr<Transport> transport;
};

TEST_F(DirFolder, RoundGoesInAndOut) {
    EXPECT_FALSE(transport->poll().value().has_value());
    send("m1");
    const Incoming incoming = polled();
    EXPECT_EQ(incoming.message_id, "m1");
    EXPECT_EQ(incoming.type, "train");
    EXPECT_EQ(incoming.group_id, "r3");
    EXPECT_EQ(incoming.run_id, 18446744073709551615ULL);
    EXPECT_EQ(incoming.created_at, 1764300000);
    EXPECT_EQ(incoming.ttl, 3600);
    EXPECT_EQ(incoming.folder, work / "m1");

    const auto pulled = transport->fetch(incoming);
    ASSERT_TRUE(pulled.ok()) << pulled.error().message;
    const PulledArrays& arrays = pulled->arrays.at("arrays");
    EXPECT_EQ(text_of(arrays.weights), text_of(folder_in("m1") / "global.safetensors"));
    EXPECT_EQ(arrays.record_id, sha256_of_file(folder_in("m1") / "global.safetensors").value());
    const Record& config = pulled->configs.at("config");
    EXPECT_EQ(value_of<std::int64_t>(config, "round"), 3);
    EXPECT_EQ(value_of<double>(config, "lr"), 0.5);
    EXPECT_EQ(value_of<std::string>(config, "model-id"), "heart");
    EXPECT_EQ(value_of<std::vector<std::string>>(config, "heads"), (std::vector<std::string>{"hps", "mb"}));

    ASSERT_TRUE(transport->prepare(incoming, reply()).ok());
    EXPECT_FALSE(fs::exists(folder_out("m1")));
    EXPECT_EQ(transport->push(incoming).value(), PushOutcome::Stored);
    EXPECT_EQ(transport->receipt(incoming).value(), Receipt::Waiting);
    const json sent = json::parse(text_of(folder_out("m1") / "reply.json"));
    EXPECT_EQ(sent, (json{{"fed-dir", 1},
                          {"message_id", "m1"},
                          {"group_id", "r3"},
                          {"run_id", 18446744073709551615ULL},
                          {"type", "train"},
                          {"arrays", {{"arrays", "arrays.safetensors"}}},
                          {"metrics", {{"metrics", {{"n/hps", 40}, {"loss", 0.25}}}}},
                          {"configs", {{"facts", {{"round", 3}, {"noised", false}}}}}}));
    const auto weights = TensorFile::open(folder_out("m1") / "arrays.safetensors");
    ASSERT_TRUE(weights.ok());
    EXPECT_EQ(weights->floats(weights->entries().at(0)).value(), (std::vector<float>{4, 5, 6}));
    EXPECT_TRUE(weights->metadata().empty()) << "texts of the file do not leave";

    put(folder_out("m1") / "taken", "");
    EXPECT_EQ(transport->receipt(incoming).value(), Receipt::Taken);
    fs::remove_all(folder_out("m1"));
    EXPECT_EQ(start()->receipt(incoming).value(), Receipt::Taken);
    EXPECT_FALSE(start()->poll().value().has_value());
    EXPECT_TRUE(transport->leave().ok());
    EXPECT_GT(transport->totals().bytes_received, 12u);
    EXPECT_GT(transport->totals().bytes_sent, 12u);
}

TEST_F(DirFolder, SumsOfTheReplyAreAsSha256sumChecksThem) {
    answer("m1");
    const std::string sums = text_of(folder_out("m1") / "SHA256SUMS");
    EXPECT_EQ(sums, sha256_of_file(folder_out("m1") / "arrays.safetensors").value() + "  arrays.safetensors\n" +
                        sha256_of_file(folder_out("m1") / "reply.json").value() + "  reply.json\n");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_out("m1")), {}), 3);
    EXPECT_EQ(std::distance(fs::directory_iterator(root / "out"), {}), 1) << "no temporary folder is left";
    struct stat status {};
    ASSERT_EQ(::stat(folder_out("m1").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0770u);
}

TEST_F(DirFolder, FailureIsSentWithoutWeights) {
    send("m1");
    const Incoming incoming = polled();
    Reply failed = reply();
    failed.failure = Reply::Failure{2, "fedclient:validation_drop"};
    ASSERT_TRUE(transport->prepare(incoming, failed).ok());
    EXPECT_EQ(transport->push(incoming).value(), PushOutcome::Stored);
    const json sent = json::parse(text_of(folder_out("m1") / "reply.json"));
    EXPECT_EQ(sent["failure"], (json{{"code", 2}, {"reason", "fedclient:validation_drop"}}));
    EXPECT_FALSE(sent.contains("arrays"));
    EXPECT_FALSE(sent.contains("metrics"));
    EXPECT_FALSE(fs::exists(folder_out("m1") / "arrays.safetensors"));
}

TEST_F(DirFolder, EachMessageIsGivenOnceAProcessAndAgainToALaterOneUntilItIsAnswered) {
    send("m2");
    send("m1");
    EXPECT_EQ(polled().message_id, "m1");
    EXPECT_EQ(polled().message_id, "m2");
    EXPECT_FALSE(transport->poll().value().has_value());
    transport = start();
    const Incoming again = polled();
    EXPECT_EQ(again.message_id, "m1");
    ASSERT_TRUE(transport->prepare(again, reply()).ok());
    ASSERT_TRUE(transport->push(again).ok());
    transport = start();
    EXPECT_EQ(polled().message_id, "m2");
}

TEST_F(DirFolder, MessageStillBeingCopiedIsNotLookedAt) {
    send("whole");
    fs::rename(folder_in("whole"), folder_in(".m1"));
    fs::copy(folder_in(".m1"), folder_in("m1.part"));
    fs::create_directories(folder_in("m1"));
    put(folder_in("m1") / "message.json", "{\"fed-dir");
    EXPECT_FALSE(transport->poll().value().has_value());
    send("m1");
    EXPECT_EQ(polled().message_id, "m1");
}

TEST_F(DirFolder, WhatWasFetchedNeedsTheMessageNoMore) {
    send("m1");
    const Incoming incoming = polled();
    ASSERT_TRUE(transport->fetch(incoming).ok());
    fs::remove_all(folder_in("m1"));
    transport = start();
    const auto again = transport->fetch(incoming);
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(transport->totals().bytes_received, 0u);
    // A copy that was damaged meanwhile is not used.
    put(again->arrays.at("arrays").weights, "damaged");
    EXPECT_EQ(transport->fetch(incoming).error().kind, ErrorKind::Reject);
}

TEST_F(DirFolder, MessageThatIsTakenAwayBeforeItIsReadIsRejected) {
    send("m1");
    const Incoming incoming = polled();
    fs::remove_all(folder_in("m1"));
    const auto gone = transport->fetch(incoming);
    ASSERT_FALSE(gone.ok());
    EXPECT_EQ(gone.error().kind, ErrorKind::Reject);
    EXPECT_THAT(gone.error().message, HasSubstr("taken away"));
}

TEST_F(DirFolder, TimeThatIsOverEndsAMessageInSilence) {
    send("m1");
    send("m2");
    const Incoming first = polled();
    clock.advance(std::chrono::hours(1));
    EXPECT_FALSE(transport->poll().value().has_value());
    ASSERT_TRUE(transport->prepare(first, reply()).ok());
    EXPECT_EQ(transport->push(first).value(), PushOutcome::Refused);
    EXPECT_FALSE(fs::exists(folder_out("m1")));
}

TEST_F(DirFolder, ReplyMayBePreparedAndPushedAgainAndStaysTheSame) {
    const Incoming incoming = answer("m1");
    const std::string before = text_of(folder_out("m1") / "SHA256SUMS");
    transport = start();
    const std::string id = transport->prepare(incoming, reply()).value();
    EXPECT_EQ(transport->prepare(incoming, reply()).value(), id);
    clock.advance(std::chrono::hours(2));
    EXPECT_EQ(transport->push(incoming).value(), PushOutcome::Stored) << "it was in time, only the answer was lost";
    EXPECT_EQ(text_of(folder_out("m1") / "SHA256SUMS"), before);
    Reply other = reply();
    other.metrics["loss"] = 0.5;
    EXPECT_NE(transport->prepare(incoming, other).value(), id);
    EXPECT_EQ(transport->push(incoming).value(), PushOutcome::Refused) << "one answer a message";
    EXPECT_EQ(text_of(folder_out("m1") / "SHA256SUMS"), before);
}

TEST_F(DirFolder, LeftoverOfAKilledPushIsReplaced) {
    send("m1");
    const Incoming incoming = polled();
    ASSERT_TRUE(transport->prepare(incoming, reply()).ok());
    fs::create_directories(folder / "elsewhere");
    fs::create_directory_symlink(folder / "elsewhere", root / "out" / ".m1.part");
    EXPECT_EQ(transport->push(incoming).value(), PushOutcome::Stored);
    EXPECT_TRUE(fs::is_empty(folder / "elsewhere")) << "a link in its place was followed";
    EXPECT_FALSE(fs::is_symlink(folder_out("m1")));
}

TEST_F(DirFolder, AnotherAnswerInItsPlaceIsARefusal) {
    send("m1");
    const Incoming incoming = polled();
    ASSERT_TRUE(transport->prepare(incoming, reply()).ok());
    fs::create_directories(folder_out("m1"));
    EXPECT_EQ(transport->push(incoming).value(), PushOutcome::Refused);
    fs::remove_all(folder_out("m1"));
    fs::create_directory_symlink(folder / "work", folder_out("m1"));
    EXPECT_EQ(transport->push(incoming).value(), PushOutcome::Refused);
}

TEST_F(DirFolder, ReplyThatIsRefusedOrTakenAwayWithoutAReceiptIsOver) {
    const Incoming first = answer("m1"), second = answer("m2");
    put(folder_out("m1") / "refused", "");
    EXPECT_EQ(transport->receipt(first).value(), Receipt::RunOver);
    fs::remove_all(folder_out("m2"));
    EXPECT_EQ(transport->push(second).value(), PushOutcome::Stored);
    EXPECT_FALSE(fs::exists(folder_out("m2"))) << "a reply that was taken away is not put there once more";
    EXPECT_EQ(transport->receipt(second).value(), Receipt::RunOver);
}

TEST_F(DirFolder, MisuseIsABug) {
    Incoming unknown;
    unknown.message_id = "../m1";
    EXPECT_EQ(transport->fetch(unknown).error().kind, ErrorKind::Bug);
    EXPECT_EQ(transport->prepare(unknown, {}).error().kind, ErrorKind::Bug);
    send("m1");
    const Incoming incoming = polled();
    EXPECT_EQ(transport->push(incoming).error().kind, ErrorKind::Bug);
    EXPECT_EQ(transport->receipt(incoming).error().kind, ErrorKind::Bug);
    Reply odd = reply();
    odd.metrics["loss"] = std::nan("");
    EXPECT_THAT(transport->prepare(incoming, odd).error().message, HasSubstr("'loss' is not finite"));
}

TEST_F(DirFolder, MissingFoldersAreAConfigErrorAndAreNotMade) {
    fs::remove(root / "out");
    const auto joined = start()->join();
    ASSERT_FALSE(joined.ok());
    EXPECT_EQ(joined.error().kind, ErrorKind::Config);
    EXPECT_FALSE(fs::exists(root / "out"));
    EXPECT_EQ(make_dir_transport({}).error().kind, ErrorKind::Config);
}

TEST_F(DirFolder, WrongHashesAreRefused) {
    send("m1");
    put(folder_in("m1") / "message.json", text_of(folder_in("m1") / "message.json") + " ");
    expect_refused("message.json: its SHA-256 is not the one in SHA256SUMS");
    send("m2");
    put(folder_in("m2") / "SHA256SUMS", "abc  message.json\n");
    expect_refused("SHA256SUMS: a line is not");
    send("m3");
    put(folder_in("m3") / "SHA256SUMS", sha256_hex("x") + "  global.safetensors\n");
    expect_refused("message.json: is not in SHA256SUMS");
}

TEST_F(DirFolder, WeightsWithAWrongHashOrNoSafetensorsAreRejectedAndNotKept) {
    send("m1");
    const Incoming incoming = polled();
    std::string bytes = text_of(folder_in("m1") / "global.safetensors");
    bytes.back() = static_cast<char>(bytes.back() + 1);
    put(folder_in("m1") / "global.safetensors", bytes);
    const auto wrong = transport->fetch(incoming);
    ASSERT_FALSE(wrong.ok());
    EXPECT_EQ(wrong.error().kind, ErrorKind::Reject);
    EXPECT_THAT(wrong.error().message, HasSubstr("global.safetensors: its SHA-256 is not"));
    EXPECT_TRUE(fs::is_empty(work / "m1" / "weights"));

    send("m2");
    put(folder_in("m2") / "global.safetensors", "no tensors");
    sum_up("m2");
    const auto damaged = transport->fetch(polled());
    ASSERT_FALSE(damaged.ok());
    EXPECT_EQ(damaged.error().kind, ErrorKind::Reject);
    EXPECT_THAT(damaged.error().message, HasSubstr("safetensors file"));
}

TEST_F(DirFolder, NamesThatLeadElsewhereAreRefused) {
    write_weights(root / "secret.safetensors", {1});
    send("m1", [](json& m) { m["arrays"]["arrays"] = "../secret.safetensors"; });
    expect_refused("arrays: 'arrays': not the plain name");
    send("m2", [](json& m) { m["arrays"]["arrays"] = "/etc/passwd"; });
    expect_refused("not the plain name");
    send("m3");
    put(folder_in("m3") / "SHA256SUMS", text_of(folder_in("m3") / "SHA256SUMS") + sha256_hex("") + "  ../x\n");
    expect_refused("the file name '../x' is not a plain name");
    send("m4", [](json& m) { m["message_id"] = "../m4"; });
    expect_refused("message_id: other characters");
    send("m5", [](json& m) { m["message_id"] = "m1"; });
    expect_refused("message_id is not the name of its folder");
    send("m6", [](json& m) { m["arrays"]["arrays"] = "other.safetensors"; });
    expect_refused("'other.safetensors': is not in SHA256SUMS");
    fs::rename(folder_in("m6"), folder_in("a b\n"));
    expect_refused("message 'a b?' in");
}

TEST_F(DirFolder, LinksAndPipesAreNotFollowed) {
    write_weights(folder / "secret.safetensors", {1, 2, 3});
    send("m1");
    fs::remove(folder_in("m1") / "global.safetensors");
    fs::create_symlink(folder / "secret.safetensors", folder_in("m1") / "global.safetensors");
    expect_refused("global.safetensors: is a link");
    send("m2");
    fs::rename(folder_in("m2"), folder / "m3");
    fs::create_directory_symlink(folder / "m3", folder_in("m3"));
    expect_refused("not a folder, or a link");
    put(folder_in("m4"), "a file");
    expect_refused("not a folder");
    send("m5");
    fs::remove(folder_in("m5") / "message.json");
    ASSERT_EQ(::mkfifo((folder_in("m5") / "message.json").c_str(), 0600), 0);
    expect_refused("message.json: not a regular file");
    // Replaced after it was looked at.
    send("m6");
    const Incoming incoming = polled();
    fs::remove(folder_in("m6") / "global.safetensors");
    fs::create_symlink(folder / "secret.safetensors", folder_in("m6") / "global.safetensors");
    EXPECT_EQ(transport->fetch(incoming).error().kind, ErrorKind::Reject);
}

TEST_F(DirFolder, SizesAreBounded) {
    send("m1");
    fs::resize_file(folder_in("m1") / "global.safetensors", largest + 1);
    expect_refused("its files are larger than 1048576 bytes");
    send("m2");
    fs::resize_file(folder_in("m2") / "message.json", (1 << 20) + 1);
    expect_refused("message.json: 1048577 bytes");
    send("m3");
    fs::resize_file(folder_in("m3") / "SHA256SUMS", (1 << 20) + 1);
    expect_refused("SHA256SUMS: 1048577 bytes");
    send("m4");
    const Incoming incoming = polled();
    fs::resize_file(folder_in("m4") / "global.safetensors", largest + 1);
    EXPECT_THAT(transport->fetch(incoming).error().message, HasSubstr("1048577 bytes, at most 1048576"));
}

struct BadMessage {
    const char *name, *text, *expected;
};
class OddMessage : public DirFolder, public ::testing::WithParamInterface<BadMessage> {};

TEST_P(OddMessage, IsRefusedWithItsReason) {
    send("m1");
    json text = message("m1");
    const json change = json::parse(GetParam().text, nullptr, false);
    if (change.is_object()) text.update(change);
    put(folder_in("m1") / "message.json", change.is_object() ? text.dump() : GetParam().text);
    sum_up("m1");
    expect_refused(GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    DirTransport, OddMessage,
    ::testing::Values(BadMessage{"Cut", "{\"fed-dir\":1,", "not a JSON object"},
                      BadMessage{"List", "[1]", "not a JSON object"},
                      BadMessage{"Deep", R"({"configs":{"config":{"a":[[[[1]]]]}}})", "nested too deeply"},
                      BadMessage{"Version", R"({"fed-dir":2})", "fed-dir: not 1"},
                      BadMessage{"UnknownKey", R"({"more":1})", "unknown key 'more'"},
                      BadMessage{"UnknownType", R"({"type":"run"})", "'run' is not train"},
                      BadMessage{"TypeOfType", R"({"type":1})", "type: no text"},
                      BadMessage{"NegativeRun", R"({"run_id":-1})", "run_id: not a whole number"},
                      BadMessage{"NoTime", R"({"created_at":"now"})", "created_at: no number"},
                      BadMessage{"NoTtl", R"({"ttl":0})", "ttl: not above 0"},
                      BadMessage{"ArraysList", R"({"arrays":["a"]})", "arrays: not a mapping"},
                      BadMessage{"ArraysNumber", R"({"arrays":{"arrays":3}})", "not the plain name"},
                      BadMessage{"OtherFile", R"({"arrays":{"arrays":"message.json"}})", "not the plain name"},
                      BadMessage{"RecordNumber", R"({"configs":{"config":3}})", "'config' is not a mapping"},
                      BadMessage{"NullValue", R"({"configs":{"config":{"a":null}}})", "'config': 'a': a value is"},
                      BadMessage{"MixedList", R"({"configs":{"config":{"a":[1,"b"]}}})", "a value is"},
                      BadMessage{"TextMetric", R"({"metrics":{"m":{"a":"b"}}})", "metrics are numbers"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(DirFolder, EveryKindOfValueIsRead) {
    send("m1", [](json& m) {
        m["configs"]["c"] = {{"flag", true},
                             {"below", -2},
                             {"large", 18446744073709551615ULL},
                             {"none", json::array()},
                             {"flags", {true, false}},
                             {"whole", {1, -2}},
                             {"mixed", {1, 2.5}}};
        m["metrics"]["m"] = {{"loss", 0.5}, {"n", 3}, {"all", {1.5, 2.5}}};
    });
    const auto pulled = transport->fetch(polled());
    ASSERT_TRUE(pulled.ok()) << pulled.error().message;
    const Record& c = pulled->configs.at("c");
    EXPECT_EQ(value_of<bool>(c, "flag"), true);
    EXPECT_EQ(value_of<std::int64_t>(c, "below"), -2);
    EXPECT_EQ(value_of<std::uint64_t>(c, "large"), 18446744073709551615ULL);
    EXPECT_EQ(value_of<std::vector<std::string>>(c, "none"), std::vector<std::string>{});
    EXPECT_EQ(value_of<std::vector<bool>>(c, "flags"), (std::vector<bool>{true, false}));
    EXPECT_EQ(value_of<std::vector<std::int64_t>>(c, "whole"), (std::vector<std::int64_t>{1, -2}));
    EXPECT_EQ(value_of<std::vector<double>>(c, "mixed"), (std::vector<double>{1, 2.5}));
    EXPECT_EQ(number_of(pulled->metrics.at("m"), "n"), 3);
}

}  // namespace
}  // namespace cardionode::fed
