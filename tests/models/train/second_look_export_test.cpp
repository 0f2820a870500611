#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "models/bundle.h"
#include "models/network.h"
#include "models/train/bundle_export.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::train {
namespace {

using ::testing::HasSubstr;

/// A bundle of one look with two heads, and a finished run of a second network.
class SecondLookExport : public ::testing::Test {
protected:
    void SetUp() override {
        BundleManifest m;
        m.name = "two-looks";
        m.version = "1";
        m.intended_use = "tests";
        m.architecture = architecture({4, 8});
        m.input.hu_low = -250;
        m.input.hu_high = 1000;
        HeadManifest points{"hps", "points", "Points", {}, 1, 0.3};
        points.classes.push_back(
            {1, "hinge_left", "Left", {}, {"1", "99X", "Hinge point"}, {"34202007", "SCT", "Aortic valve"}, {1, 2, 3}});
        HeadManifest calc{"calc", "labels", "Calcium", {}, 1, 0};
        calc.classes.push_back({1,
                                "valve_calcium",
                                "Calcium",
                                {"49755003", "SCT", "Morphologically Abnormal Structure"},
                                {"18115005", "SCT", "Pathologic calcification"},
                                {},
                                {255, 0, 0}});
        m.heads = {points, calc};
        m.weights.file = "weights.safetensors";
        m.training = {{"steps", "3208"}};
        ASSERT_TRUE(make_folder(bundle()).ok() && make_folder(run()).ok());
        auto network = make_network(network_options(m)).value();
        ASSERT_TRUE(save_weights(*network, bundle() / m.weights.file).ok());
        m.weights.sha256 = sha256_of_file(bundle() / m.weights.file).value();
        ASSERT_TRUE(write_file_durably(bundle() / "manifest.yaml", to_yaml(m)).ok());

        NetworkOptions finer;
        finer.architecture = architecture({6, 8});
        finer.heads = {{"calc", 2}, {"hps", 2}};
        ASSERT_TRUE(save_weights(*make_network(finer).value(), run() / "weights.safetensors").ok());
        std::ofstream(run() / "metrics.jsonl")
            << "{\"step\": 9, \"loss\": 1}\n{\"step\": 9, \"validation\": {\"dice\": {\"calc/valve_calcium\": 0.7}, "
               "\"landmarks\": {\"hinge_left\": {\"median_mm\": 1.5}}}}\n";
        write_recipe("{name: calc, classes: 1}, {name: hps, classes: 1}");
    }
    static ArchitectureManifest architecture(std::vector<std::int64_t> features) {
        ArchitectureManifest a;
        a.type = "plain_conv_unet";
        a.features = std::move(features);
        a.strides = {{1, 1, 1}, {2, 2, 2}};
        return a;
    }
    void write_recipe(const std::string& heads) {
        std::ofstream(recipe()) << "seed: 77\nwindow: [16, 16, 32]\nplacement: root\narchitecture: {type: "
                                   "plain_conv_unet, features: [6, 8], strides: [1, 2]}\n"
                                   "input: {spacing_mm: 1, hu_low: -200, hu_high: 1300, mean: 250, sd: 250}\nheads: ["
                                << heads << "]\n";
    }
    Result<void> run_export() { return export_second_look(run(), recipe(), bundle(), {{"cost", "an hour"}}); }

    std::filesystem::path bundle() const { return folder.path() / "bundle"; }
    std::filesystem::path run() const { return folder.path() / "run"; }
    std::filesystem::path recipe() const { return folder.path() / "recipe.yaml"; }
    test::TemporaryFolder folder;
};

TEST_F(SecondLookExport, MakesABundleOfTwoLooksThatLoads) {
    const std::string first = load_bundle(bundle())->manifest.weights.sha256;
    const Result<void> exported = run_export();
    ASSERT_TRUE(exported.ok()) << exported.error().message;
    Result<Bundle> made = load_bundle(bundle());
    ASSERT_TRUE(made.ok()) << made.error().message;
    const BundleManifest& m = made->manifest;
    EXPECT_EQ(m.weights.sha256, first);
    ASSERT_TRUE(m.second_look);
    EXPECT_EQ(m.second_look->input.spacing_mm, (std::array<double, 3>{1, 1, 1}));
    EXPECT_EQ(m.second_look->input.hu_high, 1300);
    EXPECT_EQ(m.input.hu_high, 1000) << "the first look's input stays";
    EXPECT_EQ(m.second_look->window, (std::array<std::int64_t, 3>{16, 16, 32}));
    EXPECT_EQ(m.second_look->heads, (std::vector<std::string>{"calc", "hps"})) << "in the network's order";
    auto network = make_network(second_look_options(m)).value();
    EXPECT_TRUE(load_weights(*network, made->second_weights_file()).ok());
    EXPECT_EQ(m.training.at("steps"), "3208");
    EXPECT_EQ(m.training.at("second_look_steps"), "9");
    EXPECT_EQ(m.training.at("second_look_seed"), "77");
    EXPECT_EQ(m.training.at("cost"), "an hour");
    EXPECT_THAT(m.training.at("second_look_phantom_landmarks"), HasSubstr("\"median_mm\":1.5"));
    for (const char* file : {"second_look_recipe.yaml", "second_look_metrics.jsonl"}) {
        EXPECT_TRUE(std::filesystem::exists(bundle() / file)) << file;
    }
    // Once more over itself, and nothing is left lying about.
    ASSERT_TRUE(run_export().ok());
    for (const auto& entry : std::filesystem::directory_iterator(bundle())) {
        EXPECT_NE(entry.path().filename().string().front(), '.') << entry.path();
    }
}

TEST_F(SecondLookExport, ANewFirstNetworkLeavesTheSecondAsItIs) {
    ASSERT_TRUE(run_export().ok());
    const BundleManifest before = load_bundle(bundle())->manifest;
    ASSERT_TRUE(save_weights(*make_network(network_options(before)).value(), run() / "weights.safetensors").ok());
    std::ofstream(recipe()) << "seed: 5\narchitecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}\n"
                               "input: {spacing_mm: 2, hu_low: -250, hu_high: 1000, mean: 0, sd: 1}\n"
                               "heads: [{name: hps, classes: 1}, {name: calc, classes: 1}]\n";
    const Result<void> exported = export_bundle(run(), recipe(), bundle(), {});
    ASSERT_TRUE(exported.ok()) << exported.error().message;
    const Result<Bundle> after = load_bundle(bundle());
    ASSERT_TRUE(after.ok()) << after.error().message;
    EXPECT_NE(after->manifest.weights.sha256, before.weights.sha256);
    ASSERT_TRUE(after->manifest.second_look);
    EXPECT_EQ(after->manifest.second_look->weights.sha256, before.second_look->weights.sha256);
    EXPECT_EQ(after->manifest.training.at("second_look_seed"), "77");
    EXPECT_EQ(after->manifest.training.at("seed"), "5");
}

TEST_F(SecondLookExport, AHeadThatTheBundleDoesNotHaveIsRefusedAndChangesNothing) {
    const std::string before = read_file(bundle() / "manifest.yaml").value();
    for (const char* heads : {"{name: ms, classes: 1}", "{name: hps, classes: 2}"}) {
        write_recipe(heads);
        const Result<void> exported = run_export();
        ASSERT_FALSE(exported.ok());
        EXPECT_EQ(exported.error().kind, ErrorKind::Config);
        EXPECT_THAT(exported.error().message, HasSubstr("head"));
    }
    EXPECT_EQ(read_file(bundle() / "manifest.yaml").value(), before);
    EXPECT_FALSE(std::filesystem::exists(bundle() / "second_look.safetensors"));
}

TEST_F(SecondLookExport, WeightsThatDoNotFitTheRecipeAreRefused) {
    NetworkOptions other;
    other.architecture = architecture({4, 8});
    other.heads = {{"calc", 2}, {"hps", 2}};
    ASSERT_TRUE(save_weights(*make_network(other).value(), run() / "weights.safetensors").ok());
    EXPECT_FALSE(run_export().ok());
    EXPECT_FALSE(load_bundle(bundle())->manifest.second_look);
}

}  // namespace
}  // namespace cardionode::train
