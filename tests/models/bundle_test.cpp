#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "models/bundle.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using ::testing::HasSubstr;

BundleManifest manifest() {
    BundleManifest m;
    m.name = "heart-small";
    m.version = "0.1.0";
    m.intended_use = "Research: \"not for\" patients\nat all";
    m.architecture.type = "plain_conv_unet";
    m.architecture.features = {4, 8};
    m.architecture.strides = {{1, 1, 1}, {2, 2, 1}};
    m.input.spacing_mm = {2, 2, 2.5};
    m.input.hu_low = -42;
    m.input.hu_high = 878;
    m.input.mean = 373.7686768;
    m.input.sd = 166.8054657;
    m.window.size = {32, 32, 31};
    m.window.overlap = 0.25;
    m.window.blending = "constant";
    HeadManifest heart{"heart", "labels", "Heart", {}, 8, 0.5};
    heart.classes.push_back({1,
                             "left_ventricle",
                             "Left ventricle",
                             {"91772007", "SCT", "Anatomical Structure"},
                             {"87878005", "SCT", "Left ventricle"},
                             {},
                             {200, 10, 255}});
    HeadManifest points{"hps", "points", "Hinge points", {}, 2, 0.25};
    points.classes.push_back({1,
                              "hinge_left",
                              "Left hinge point",
                              {},
                              {"1", "99X", "Hinge point"},
                              {"34202007", "SCT", "Aortic valve"},
                              {1, 2, 3}});
    points.classes.push_back({2,
                              "hinge_right",
                              "Right hinge point",
                              {},
                              {"2", "99X", "Hinge point"},
                              {"34202007", "SCT", "Aortic valve"},
                              {1, 2, 3}});
    m.heads = {heart, points};
    m.calcium = {"lumen_plus", 100, 1.5};
    m.weights = {"w.safetensors", sha256_hex("weights")};
    m.training = {{"data", "phantoms: all of \\ them"}, {"steps", "1200"}};
    return m;
}

BundleManifest manifest_of_two_looks() {
    BundleManifest m = manifest();
    SecondLookManifest& second = m.second_look.emplace();
    second.architecture.type = "plain_conv_unet";
    second.architecture.features = {4, 8, 8};
    second.architecture.strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 2}};
    second.input.spacing_mm = {1, 1, 1.25};
    second.input.hu_low = -200;
    second.input.hu_high = 1300;
    second.input.mean = 250;
    second.input.sd = 251.5;
    second.input.channels = 2;
    second.window = {48, 64, 64};
    second.heads = {"hps", "heart"};
    second.weights = {"second.safetensors", sha256_hex("finer")};
    return m;
}

class BundleFolder : public ::testing::Test {
protected:
    void write(const std::string& yaml, const std::string& weights = "weights") {
        ASSERT_TRUE(write_file_durably(folder / "manifest.yaml", yaml).ok());
        ASSERT_TRUE(write_file_durably(folder / "w.safetensors", weights).ok());
    }
    std::string refusal() {
        auto bundle = load_bundle(folder.path());
        EXPECT_FALSE(bundle.ok());
        if (bundle.ok()) return {};
        EXPECT_EQ(bundle.error().kind, ErrorKind::Config);
        return bundle.error().message;
    }
    /// The good manifest with one text replaced.
    void write_changed(const std::string& from, const std::string& to, std::string yaml = to_yaml(manifest())) {
        const auto at = yaml.find(from);
        ASSERT_NE(at, std::string::npos) << from;
        write(yaml.replace(at, from.size(), to));
    }
    test::TemporaryFolder folder;
};

TEST_F(BundleFolder, ManifestComesBackFromItsYaml) {
    write(to_yaml(manifest()));
    auto bundle = load_bundle(folder.path());
    ASSERT_TRUE(bundle.ok()) << bundle.error().message;
    const BundleManifest& m = bundle->manifest;
    EXPECT_EQ(to_yaml(m), to_yaml(manifest()));
    EXPECT_EQ(m.intended_use, manifest().intended_use);
    EXPECT_EQ(m.architecture.strides, manifest().architecture.strides);
    EXPECT_EQ(m.input.spacing_mm, manifest().input.spacing_mm);
    EXPECT_EQ(m.input.sd, manifest().input.sd);
    EXPECT_EQ(m.window.size, manifest().window.size);
    ASSERT_EQ(m.heads.size(), 2u);
    EXPECT_EQ(m.heads[0].classes[0].rgb, (std::array<std::uint8_t, 3>{200, 10, 255}));
    EXPECT_EQ(m.heads[1].classes[1].site.value, "34202007");
    EXPECT_EQ(m.training, manifest().training);
    EXPECT_EQ(bundle->weights_file(), folder / "w.safetensors");
}

TEST_F(BundleFolder, SwinManifestComesBackFromItsYaml) {
    BundleManifest m = manifest();
    m.architecture = {};
    m.architecture.type = "swin_unetr";
    m.architecture.feature_size = 24;
    m.architecture.patch_merging = "monai_0_9";
    m.window.size = {64, 96, 64};
    write(to_yaml(m));
    auto bundle = load_bundle(folder.path());
    ASSERT_TRUE(bundle.ok()) << bundle.error().message;
    EXPECT_EQ(bundle->manifest.architecture.feature_size, 24);
    EXPECT_EQ(bundle->manifest.architecture.patch_merging, "monai_0_9");
}

TEST_F(BundleFolder, WrongHashIsNamedWithBothValues) {
    write(to_yaml(manifest()), "other weights");
    const std::string message = refusal();
    EXPECT_THAT(message, HasSubstr("weights.sha256: expected " + sha256_hex("weights")));
    EXPECT_THAT(message, HasSubstr("w.safetensors has " + sha256_hex("other weights")));
}

TEST_F(BundleFolder, MissingWeightsAreNamed) {
    write(to_yaml(manifest()));
    std::filesystem::remove(folder / "w.safetensors");
    EXPECT_THAT(refusal(), ::testing::AllOf(HasSubstr("weights.file"), HasSubstr("w.safetensors")));
}

TEST_F(BundleFolder, MissingManifestIsNamed) { EXPECT_THAT(refusal(), HasSubstr("manifest.yaml")); }

TEST_F(BundleFolder, BrokenYamlIsNamedWithItsLine) {
    write("name: x\narchitecture: [\n");
    EXPECT_THAT(refusal(), ::testing::MatchesRegex("[^\n]*manifest.yaml:[0-9]+: file: not valid YAML[^\n]*"));
}

TEST_F(BundleFolder, EveryProblemIsReportedAtOnce) {
    write("name: x\nspeed: 3\n");
    const std::string message = refusal();
    for (const char* part : {"speed: unknown key", "version: missing", "architecture", "input", "heads", "weights"}) {
        EXPECT_THAT(message, HasSubstr(part));
    }
}

TEST_F(BundleFolder, ASecondLookComesBackFromItsYaml) {
    write(to_yaml(manifest_of_two_looks()));
    ASSERT_TRUE(write_file_durably(folder / "second.safetensors", "finer").ok());
    auto bundle = load_bundle(folder.path());
    ASSERT_TRUE(bundle.ok()) << bundle.error().message;
    ASSERT_TRUE(bundle->manifest.second_look);
    const SecondLookManifest& second = *bundle->manifest.second_look;
    EXPECT_EQ(to_yaml(bundle->manifest), to_yaml(manifest_of_two_looks()));
    EXPECT_EQ(second.architecture.features, (std::vector<std::int64_t>{4, 8, 8}));
    EXPECT_EQ(second.input.spacing_mm, (std::array<double, 3>{1, 1, 1.25}));
    EXPECT_EQ(second.input.sd, 251.5);
    EXPECT_EQ(second.input.channels, 2);
    EXPECT_EQ(second.window, (std::array<std::int64_t, 3>{48, 64, 64}));
    EXPECT_EQ(second.heads, (std::vector<std::string>{"hps", "heart"}));
    EXPECT_EQ(bundle->second_weights_file(), folder / "second.safetensors");
    EXPECT_FALSE(load_bundle(folder.path())->manifest.input.channels == 2) << "the first network's input is its own";
}

TEST_F(BundleFolder, ABundleOfOneLookHasNoSecond) {
    write(to_yaml(manifest()));
    auto bundle = load_bundle(folder.path());
    ASSERT_TRUE(bundle.ok());
    EXPECT_FALSE(bundle->manifest.second_look);
}

TEST_F(BundleFolder, TheSecondWeightsAreCheckedAsTheFirstAre) {
    write(to_yaml(manifest_of_two_looks()));
    EXPECT_THAT(refusal(), HasSubstr("second_look.weights.file: the weights cannot be read"));
    ASSERT_TRUE(write_file_durably(folder / "second.safetensors", "others").ok());
    EXPECT_THAT(refusal(), HasSubstr("second_look.weights.sha256: expected " + sha256_hex("finer")));
}

TEST(WeightsIdentity, ChangesWithEitherNetwork) {
    const BundleManifest one = manifest(), two = manifest_of_two_looks();
    EXPECT_EQ(weights_identity(one), one.weights.sha256);
    EXPECT_NE(weights_identity(two), two.weights.sha256);
    BundleManifest other = two;
    other.second_look->weights.sha256 = sha256_hex("finer still");
    EXPECT_NE(weights_identity(two), weights_identity(other));
    EXPECT_EQ(weights_identity(two).size(), 64u);
}

struct Change {
    const char *from, *to, *expected;
};
class BundleChange : public BundleFolder, public ::testing::WithParamInterface<Change> {};

TEST_P(BundleChange, IsRefusedByKey) {
    write_changed(GetParam().from, GetParam().to);
    EXPECT_THAT(refusal(), HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    Manifest, BundleChange,
    ::testing::Values(Change{"type: plain_conv_unet", "type: transformer", "architecture.type: expected one of"},
                      Change{"[1x1x1, 2x2x1]", "[1x1x1]", "strides: expected as many strides as features"},
                      Change{"[1x1x1, 2x2x1]", "[1x1x1, 2x2]", "architecture.strides: expected one stride a stage"},
                      Change{"size: [32, 32, 31]", "size: [32, 33, 31]", "window.size: each side must be a multiple"},
                      Change{"overlap: 0.25", "overlap: 1.5", "window.overlap: expected a number from 0 to 0.9"},
                      Change{"orientation: LPS", "orientation: RAS", "input.orientation: expected one of LPS"},
                      Change{"hu_high: 878", "hu_high: -500", "input.hu_high: expected more than hu_low"},
                      Change{"  sd: 166.8054657\n", "", "input.sd: missing"},
                      Change{"sd: 166.8054657", "sd: 0", "input.sd: expected a number"},
                      Change{"value: 2\n", "value: 3\n", "heads[1].classes[1].value: expected 2"},
                      Change{"name: hinge_right", "name: hinge_left", "another class of this head has this name"},
                      Change{"name: hps", "name: heart", "heads[1].name: another head has this name"},
                      Change{"name: hps", "name: outs.hps", "heads[1].name: expected letters"},
                      Change{"rgb: [200, 10, 255]", "rgb: [200, 10, 256]", "heads[0].classes[0].rgb: expected three"},
                      Change{"kind: points", "kind: boxes", "heads[1].kind: expected one of labels, points"},
                      Change{"rule: lumen_plus", "rule: agatston", "calcium.rule: expected one of"},
                      Change{"\"w.safetensors\"", "\"../w.safetensors\"",
                             "weights.file: expected a name in this folder"},
                      Change{"dilate_mm: 1.5", "dilate_mm: 1.5\n  colour: red", "calcium.colour: unknown key"}));

class SecondLookChange : public BundleFolder, public ::testing::WithParamInterface<Change> {};

TEST_P(SecondLookChange, IsRefusedByKey) {
    write_changed(GetParam().from, GetParam().to, to_yaml(manifest_of_two_looks()));
    ASSERT_TRUE(write_file_durably(folder / "second.safetensors", "finer").ok());
    EXPECT_THAT(refusal(), HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    Manifest, SecondLookChange,
    ::testing::Values(Change{"heads: [hps, heart]", "heads: [hps, lungs]", "second_look.heads: 'lungs' is none of"},
                      Change{"heads: [hps, heart]", "heads: [hps, hps]", "second_look.heads: 'hps' stands there twice"},
                      Change{"heads: [hps, heart]", "heads: []", "second_look.heads: expected one or more"},
                      Change{"size: [48, 64, 64]", "size: [48, 62, 64]",
                             "second_look.window.size: each side must be a multiple of the network's 4"},
                      Change{"size: [48, 64, 64]", "size: [48, 64, 64]\n    overlap: 0.5",
                             "second_look.window.overlap: unknown key"},
                      Change{"    sd: 251.5\n", "", "second_look.input.sd: missing"},
                      Change{"file: \"second.safetensors\"", "file: \"w.safetensors\"",
                             "second_look.weights.file: the first network has this file already"}));

}  // namespace
}  // namespace cardionode
