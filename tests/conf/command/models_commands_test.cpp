#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "conf/command/command.h"
#include "models/network.h"
#include "models/weights/checkpoint.h"
#include "models/weights/checkpoint_write.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using ::testing::HasSubstr;

struct Outcome {
    int code = 0;
    std::string out, err;
};

Outcome run(const std::vector<std::string>& arguments) {
    std::vector<const char*> argv = {"cardionode"};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    Outcome outcome;
    outcome.code = run_cardionode(static_cast<int>(argv.size()), argv.data());
    std::fflush(nullptr);
    outcome.out = ::testing::internal::GetCapturedStdout();
    outcome.err = ::testing::internal::GetCapturedStderr();
    return outcome;
}

class ForwardCommand : public ::testing::Test {
protected:
    void SetUp() override {
        torch::manual_seed(5);
        NetworkOptions options;
        options.architecture.type = "plain_conv_unet";
        options.architecture.features = {4, 6, 8};
        options.architecture.strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 1}};
        options.heads = {{"heart", 3}, {"calc", 2}};
        network = make_network(options).value();
        network->eval();
        NamedTensors stored;
        for (const auto& [name, tensor] : state_of(*network)) stored["state." + name] = tensor;
        input = torch::randn({2, 1, 16, 16, 16});
        stored["input"] = input;
        ASSERT_TRUE(write_safetensors(folder / "in.safetensors", stored).ok());
    }
    std::vector<std::string> arguments(const std::vector<std::string>& more = {}) {
        std::vector<std::string> all = {"models",    "forward",
                                        "--arch",    "plain_conv_unet",
                                        "--weights", folder / "in.safetensors",
                                        "--input",   folder / "in.safetensors",
                                        "--output",  folder / "out.safetensors",
                                        "--threads", "1"};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    test::TemporaryFolder folder;
    std::shared_ptr<Network> network;
    torch::Tensor input;
};

TEST_F(ForwardCommand, WritesEachHeadOfEachImageAtFullResolution) {
    const Outcome outcome = run(arguments());
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    auto out = read_safetensors(folder / "out.safetensors");
    ASSERT_TRUE(out.ok()) << out.error().message;
    ASSERT_EQ(out->tensors.size(), 2u);
    torch::NoGradGuard no_grad;
    for (const HeadLogits& head : network->forward(input)) {
        EXPECT_LE((out->tensors.at("output." + head.head) - head.levels[0]).abs().max().item<double>(), 1e-5);
    }
}

TEST_F(ForwardCommand, NumbersTheLevelsOfANetworkWithOneUnnamedHead) {
    NamedTensors stored = {{"input", input}};
    for (const auto& [name, tensor] : state_of(*network)) {
        if (name.rfind("seg_layers.heart", 0) == 0) stored["state.decoder.seg_layers" + name.substr(16)] = tensor;
        if (name.rfind("model.", 0) == 0) stored["state." + name.substr(6)] = tensor;
    }
    ASSERT_TRUE(write_safetensors(folder / "in.safetensors", stored).ok());
    const Outcome outcome = run(arguments());
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    auto out = read_safetensors(folder / "out.safetensors");
    ASSERT_TRUE(out.ok());
    torch::NoGradGuard no_grad;
    const auto expected = network->forward(input, 2)[0].levels;
    ASSERT_EQ(out->tensors.size(), 2u);
    for (std::size_t level = 0; level < 2; ++level) {
        const torch::Tensor& got = out->tensors.at("output." + std::to_string(level));
        EXPECT_LE((got - expected[level]).abs().max().item<double>(), 1e-5);
    }
}

TEST_F(ForwardCommand, SlidesAWindowOverAnInputOfAnySize) {
    ASSERT_TRUE(write_safetensors(folder / "any.safetensors", {{"input", torch::randn({1, 1, 17, 9, 21})}}).ok());
    auto all = arguments({"--window", "16", "--overlap", "0.5"});
    all[7] = folder / "any.safetensors";
    const Outcome outcome = run(all);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    auto out = read_safetensors(folder / "out.safetensors");
    EXPECT_EQ(out->tensors.at("output.heart").sizes(), (std::vector<std::int64_t>{1, 3, 17, 9, 21}));
}

TEST_F(ForwardCommand, WrongUseEndsWithTwoAndSaysWhatWasExpected) {
    const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
        {{"--strides", "1", "2"}, "expected 3 or 9 numbers"},
        {{"--strides", "1,1,1", "2,2,2", "2,2,2"}, "stage 2"},
        {{"--strides", "one"}, "whole numbers"},
        {{"--overlap", "1"}, "--overlap"},
        {{"--merging", "v3"}, "--merging"},
        {{"--window", "18"}, "multiple of 4"},
        {{"--device", "cuda:63"}, "cuda:63"},
        {{"--speed"}, "--speed"}};
    for (const auto& [more, expected] : cases) {
        const Outcome outcome = run(arguments(more));
        EXPECT_EQ(outcome.code, 2) << expected;
        EXPECT_THAT(outcome.err, HasSubstr(expected));
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "out.safetensors"));
}

TEST_F(ForwardCommand, MissingFilesAndForeignWeightsEndWithTwo) {
    auto missing = arguments();
    missing[5] = folder / "none.safetensors";
    EXPECT_EQ(run(missing).code, 2);
    auto foreign = arguments();
    foreign[3] = "swin_unetr";
    const Outcome outcome = run(foreign);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("not a swin_unetr"));
    ASSERT_TRUE(write_safetensors(folder / "no_input.safetensors", {{"x", torch::ones({1})}}).ok());
    auto without = arguments();
    without[7] = folder / "no_input.safetensors";
    EXPECT_THAT(run(without).err, HasSubstr("no tensor 'input'"));
}

TEST_F(ForwardCommand, HelpShowsAnExample) {
    for (const char* command : {"forward", "show"}) {
        const Outcome outcome = run({"models", command, "--help"});
        EXPECT_EQ(outcome.code, 0);
        EXPECT_THAT(outcome.out, HasSubstr("Example:"));
    }
}

TEST(ShowCommand, PrintsTheManifestAndRefusesOtherWeights) {
    test::TemporaryFolder folder;
    BundleManifest m;
    m.name = "heart-tiny";
    m.version = "1";
    m.intended_use = "tests";
    m.architecture.type = "swin_unetr";
    ClassManifest calc{1,
                       "calcification",
                       "Calcification",
                       {"49755003", "SCT", "Morphologically Abnormal Structure"},
                       {"18115005", "SCT", "Pathologic calcification"},
                       {},
                       {1, 2, 3}};
    m.heads = {{"calc", "labels", "Calcium", {calc}, 1, 0.3}};
    m.weights = {"w.safetensors", sha256_hex("w")};
    ASSERT_TRUE(write_file_durably(folder / "manifest.yaml", to_yaml(m)).ok());
    ASSERT_TRUE(write_file_durably(folder / "w.safetensors", std::string_view("w")).ok());
    const Outcome good = run({"models", "show", folder.path()});
    EXPECT_EQ(good.code, 0) << good.err;
    EXPECT_THAT(good.out, HasSubstr("heart-tiny 1"));
    EXPECT_THAT(good.out, HasSubstr(m.weights.sha256 + " (checked)"));
    EXPECT_THAT(good.out, HasSubstr("calcification"));
    ASSERT_TRUE(write_file_durably(folder / "w.safetensors", std::string_view("x")).ok());
    const Outcome bad = run({"models", "show", folder.path()});
    EXPECT_EQ(bad.code, 2);
    EXPECT_THAT(bad.err, HasSubstr("sha256: expected " + m.weights.sha256));
    EXPECT_EQ(run({"models", "show", folder / "none"}).code, 2);
}

TEST_F(ForwardCommand, ImportsAndExportsCheckpoints) {
    OrderedTensors teacher;  // as torch.save has it, with the prefix of a parallel wrapper
    for (const auto& item : network->named_parameters()) teacher.emplace_back("module." + item.key(), item.value());
    ASSERT_TRUE(write_checkpoint(folder / "teacher.pt", teacher).ok());
    const Outcome imported = run({"models", "import", folder / "teacher.pt", "--architecture", "plain_conv_unet", "-o",
                                  folder / "w.safetensors"});
    ASSERT_EQ(imported.code, 0) << imported.err;
    EXPECT_THAT(imported.out, HasSubstr("features 4 6 8"));
    const auto weights = read_safetensors(folder / "w.safetensors");
    ASSERT_TRUE(weights.ok());
    for (const auto& [name, tensor] : state_of(*network)) EXPECT_TRUE(torch::equal(tensor, weights->tensors.at(name)));
    const Outcome wrong = run(
        {"models", "import", folder / "teacher.pt", "--architecture", "swin_unetr", "-o", folder / "x.safetensors"});
    EXPECT_EQ(wrong.code, 2);
    EXPECT_THAT(wrong.err, HasSubstr("not a swin_unetr"));
    EXPECT_FALSE(std::filesystem::exists(folder / "x.safetensors"));

    const auto bundle = std::filesystem::path(CARDIONODE_SOURCE_DIR) / "tests/data/quick_bundle";
    for (const char* format : {"pt", "safetensors"}) {
        const Outcome exported = run({"models", "export", "--bundle", bundle, "--format", format, "-o",
                                      folder / ("bundle." + std::string(format))});
        ASSERT_EQ(exported.code, 0) << exported.err;
        const auto loaded = load_bundle(bundle);
        auto original = make_network(network_options(loaded->manifest)).value();
        ASSERT_TRUE(load_weights(*original, loaded->weights_file()).ok());
        const auto back = read_weights(folder / ("bundle." + std::string(format)));
        ASSERT_TRUE(back.ok()) << back.error().message;
        for (const auto& [name, tensor] : state_of(*original))
            EXPECT_TRUE(torch::equal(tensor, back->at(name))) << name;
    }
}

}  // namespace
}  // namespace cardionode
