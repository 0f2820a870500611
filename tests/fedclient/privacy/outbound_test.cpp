#include "fedclient/privacy/outbound.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/fedclient/privacy/weights.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using test::read_weights;
using test::Weights;
using test::write_weights;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// A body and two heads. The changes: body 3-4 (norm 5), hps 0.6-0.8 (norm 1), coronary 30-40 (norm 50).
class Outbound : public ::testing::Test {
protected:
    void SetUp() override {
        write_weights(base(), pulled);
        write_weights(trained(), learned);
    }
    std::filesystem::path base() const { return folder / "base.safetensors"; }
    std::filesystem::path trained() const { return folder / "trained.safetensors"; }
    std::filesystem::path out() const { return folder / "out.safetensors"; }
    Result<OutboundReport> filter(std::uint64_t seed = 1) {
        return filter_update(base(), trained(), heads, patients, rules, seed, out());
    }
    /// The change that leaves.
    std::vector<float> sent(const std::string& name) {
        std::vector<float> change = read_weights(out()).at(name);
        for (std::size_t i = 0; i < change.size(); ++i) change[i] -= pulled.at(name)[i];
        return change;
    }

    Weights pulled = {{"enc.weight", {1, 2}}, {"outs.hps.conv.bias", {0, 0}}, {"outs.coronary.conv.bias", {8, 8}}};
    Weights learned = {
        {"enc.weight", {4, 6}}, {"outs.hps.conv.bias", {0.6F, 0.8F}}, {"outs.coronary.conv.bias", {38, 48}}};
    std::vector<std::string> heads = {"hps", "coronary"};
    std::int64_t patients = 12;
    OutboundRules rules;
    cardionode::test::TemporaryFolder folder;
};

TEST_F(Outbound, EachGroupIsClippedToTheNormOnItsOwn) {
    const auto report = filter();
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_THAT(sent("enc.weight"), ElementsAre(3, 4));
    EXPECT_NEAR(sent("outs.hps.conv.bias")[1], 0.8, 1e-6);
    EXPECT_THAT(sent("outs.coronary.conv.bias"), ElementsAre(6, 8));
    EXPECT_NEAR(report->norm_before.at("body"), 5, 1e-6);
    EXPECT_NEAR(report->norm_before.at("coronary"), 50, 1e-6);
    EXPECT_NEAR(report->norm_after.at("coronary"), 10, 1e-6);
    EXPECT_NEAR(report->norm_after.at("hps"), 1, 1e-6);
    EXPECT_FALSE(report->noised);
    EXPECT_EQ(report->booked_multiplier, 0);
}

TEST_F(Outbound, NormIsTakenOverAllTensorsOfAGroup) {
    pulled["dec.weight"] = {0};
    learned["dec.weight"] = {12};
    SetUp();
    rules.clip_norm = 6.5;
    const auto report = filter();
    EXPECT_NEAR(report->norm_before.at("body"), 13, 1e-6);
    EXPECT_NEAR(report->norm_after.at("body"), 6.5, 1e-6);
    EXPECT_NEAR(sent("dec.weight")[0], 6, 1e-6);
    EXPECT_NEAR(sent("enc.weight")[0], 1.5, 1e-6);
}

TEST_F(Outbound, ClipCannotBeSwitchedOff) {
    for (const double norm : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
        rules.clip_norm = norm;
        const auto report = filter();
        ASSERT_FALSE(report.ok()) << norm;
        EXPECT_EQ(report.error().kind, ErrorKind::Config);
    }
    EXPECT_FALSE(std::filesystem::exists(out()));
}

TEST_F(Outbound, HeadsWithoutOwnLabelsLeaveBitForBitAsTheyCame) {
    heads = {"hps"};
    pulled["outs.coronary.conv.bias"] = {0.1F, -0.0F};
    learned["outs.coronary.conv.bias"] = {kNan, 5};
    SetUp();
    rules.noise_multiplier = 1;
    const auto report = filter();
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(read_weights(out()).at("outs.coronary.conv.bias"), pulled["outs.coronary.conv.bias"]);
    EXPECT_TRUE(std::signbit(read_weights(out()).at("outs.coronary.conv.bias")[1]));
    EXPECT_EQ(report->norm_before.count("coronary"), 0u);
    EXPECT_NE(sent("outs.hps.conv.bias")[0], 0.6F);
}

TEST_F(Outbound, WhatIsNotAllowedIsWithheldAndNamed) {
    rules.allowed = {"enc.*", "outs.hps.*"};
    const auto report = filter();
    ASSERT_TRUE(report.ok());
    EXPECT_THAT(report->withheld, ElementsAre("outs.coronary.conv.bias"));
    EXPECT_THAT(sent("outs.coronary.conv.bias"), ElementsAre(0, 0));
    EXPECT_THAT(sent("enc.weight"), ElementsAre(3, 4));
    rules.allowed = {};
    EXPECT_EQ(filter().error().kind, ErrorKind::Reject);
    rules.allowed = {"nothing"};
    EXPECT_THAT(filter().error().message, HasSubstr("leaves nothing to send"));
}

TEST_F(Outbound, ValueThatIsNotFiniteStopsTheUpdateAndItsTensorIsNamed) {
    for (const float bad : {kNan, std::numeric_limits<float>::infinity()}) {
        learned["outs.hps.conv.bias"] = {0, bad};
        SetUp();
        const auto report = filter();
        ASSERT_FALSE(report.ok());
        EXPECT_EQ(report.error().kind, ErrorKind::Reject);
        EXPECT_THAT(report.error().message, HasSubstr("'outs.hps.conv.bias' holds a value that is not finite"));
        EXPECT_FALSE(std::filesystem::exists(out()));
    }
}

TEST_F(Outbound, FewPatientsAreRefusedWithoutTellingHowFew) {
    patients = 4;
    const auto refused = filter();
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Reject);
    EXPECT_THAT(refused.error().message, HasSubstr("minimum of 5"));
    EXPECT_THAT(refused.error().message, Not(HasSubstr("4")));
    patients = 5;
    EXPECT_TRUE(filter().ok());
    patients = 0;
    rules.minimum_patients = 0;
    EXPECT_FALSE(filter().ok());
}

TEST_F(Outbound, NoiseHasTheAnnouncedDeviationOnEveryGroup) {
    constexpr std::size_t kCount = 200'000;
    pulled = {{"enc.weight", std::vector<float>(kCount, 0.5F)}, {"outs.hps.w", std::vector<float>(kCount, 0)}};
    learned = pulled;
    heads = {"hps"};
    SetUp();
    rules.clip_norm = 2;
    rules.noise_multiplier = 1.5;
    const auto report = filter(7);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_TRUE(report->noised);
    EXPECT_NEAR(report->booked_multiplier, 1.5 / (2 * std::sqrt(2.0)), 1e-12);
    for (const std::string name : {"enc.weight", "outs.hps.w"}) {
        double sum = 0, squares = 0, fourth = 0, beyond = 0;
        for (const double value : sent(name)) {
            sum += value, squares += value * value, fourth += std::pow(value, 4);
            beyond += std::abs(value) > 2 * 3.0 ? 1 : 0;
        }
        // Five standard errors each.
        EXPECT_NEAR(sum / kCount, 0, 5 * 3.0 / std::sqrt(kCount)) << name;
        EXPECT_NEAR(std::sqrt(squares / kCount), 3.0, 5 * 3.0 / std::sqrt(2.0 * kCount)) << name;
        EXPECT_NEAR(fourth / kCount / std::pow(squares / kCount, 2), 3, 5 * std::sqrt(24.0 / kCount)) << name;
        EXPECT_NEAR(beyond / kCount, 0.0455, 5 * std::sqrt(0.0455 / kCount)) << name;
    }
    EXPECT_NE(sent("enc.weight")[0], sent("outs.hps.w")[0]);
}

TEST_F(Outbound, NoiseIsAddedAfterTheClip) {
    rules.noise_multiplier = 1e-6;
    const auto report = filter();
    EXPECT_NEAR(sent("outs.coronary.conv.bias")[0], 6, 1e-3);
    EXPECT_NE(sent("enc.weight")[0], 3.0F);
}

TEST_F(Outbound, SeedRepeatsTheNoiseAndSeedZeroNeverDoes) {
    rules.noise_multiplier = 1;
    ASSERT_TRUE(filter(5).ok());
    const auto first = read_weights(out());
    ASSERT_TRUE(filter(5).ok());
    EXPECT_EQ(read_weights(out()), first);
    ASSERT_TRUE(filter(6).ok());
    EXPECT_NE(read_weights(out()), first);
    ASSERT_TRUE(filter(0).ok());
    const auto secret = read_weights(out());
    ASSERT_TRUE(filter(0).ok());
    EXPECT_NE(read_weights(out()), secret);
}

TEST_F(Outbound, OnlyFloatingTensorsLeaveAndNoTextOfTheFiles) {
    write_weights(base(), pulled, {{"origin", "secret"}});
    auto writer = TensorFileWriter::create(trained(), {{"enc.weight", "F32", {2}},
                                                       {"outs.hps.conv.bias", "F32", {2}},
                                                       {"outs.coronary.conv.bias", "F32", {2}},
                                                       {"enc.steps", "I64", {1}}});
    for (const auto& name : {"enc.weight", "outs.hps.conv.bias", "outs.coronary.conv.bias"}) {
        ASSERT_TRUE(writer->append(std::span<const float>(learned.at(name))).ok());
    }
    const std::int64_t steps = 77;
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(&steps, 1))).ok());
    ASSERT_TRUE(writer->commit().ok());
    ASSERT_TRUE(filter().ok());
    const auto left = TensorFile::open(out());
    EXPECT_TRUE(left->metadata().empty());
    EXPECT_EQ(left->entries().size(), 3u);
    EXPECT_EQ(left->find("enc.steps"), nullptr);
}

TEST_F(Outbound, TensorsThatDoNotFitTogetherAreABug) {
    learned.erase("outs.hps.conv.bias");
    SetUp();
    EXPECT_EQ(filter().error().kind, ErrorKind::Bug);
    learned["outs.hps.conv.bias"] = {1};
    SetUp();
    EXPECT_THAT(filter().error().message, HasSubstr("shape of 'outs.hps.conv.bias'"));
    learned["outs.hps.conv.bias"] = {1, 1};
    learned["more"] = {1};
    SetUp();
    EXPECT_THAT(filter().error().message, HasSubstr("'more', which was not pulled"));
    learned.erase("more");
    SetUp();
    heads = {"hps", "mistyped"};
    EXPECT_THAT(filter().error().message, HasSubstr("'mistyped'"));
    EXPECT_FALSE(std::filesystem::exists(out()));
}

TEST_F(Outbound, MissingFileIsAConfigError) {
    std::filesystem::remove(trained());
    EXPECT_EQ(filter().error().kind, ErrorKind::Config);
}

TEST(SentCount, SmallCountsAreRounded) {
    EXPECT_EQ(sent_count(0, 5), 0);
    EXPECT_EQ(sent_count(2, 5), 0);
    EXPECT_EQ(sent_count(3, 5), 5);
    EXPECT_EQ(sent_count(12, 5), 10);
    EXPECT_EQ(sent_count(13, 5), 15);
    EXPECT_EQ(sent_count(48, 5), 50);
    EXPECT_EQ(sent_count(49, 5), 50);
    EXPECT_EQ(sent_count(50, 5), 50);
    EXPECT_EQ(sent_count(51, 5), 51);
    EXPECT_EQ(sent_count(7, 1), 7);
    EXPECT_EQ(sent_count(7, 0), 7);
    EXPECT_EQ(sent_count(-3, 5), 0);
}

}  // namespace
}  // namespace cardionode::fed
