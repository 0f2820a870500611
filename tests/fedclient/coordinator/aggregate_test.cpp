// The new global weights have exact answers, and a bad update leaves no trace in them.
#include "fedclient/coordinator/aggregate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <random>

#include "conf/base/files.h"
#include "tests/fedclient/coordinator/weights_files.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using test::read_weights;
using test::Weights;
using test::write_weights;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class Aggregate : public ::testing::Test {
protected:
    std::filesystem::path file(const std::string& name) const { return folder_.path() / (name + ".safetensors"); }

    SiteUpdate update(const std::string& site, const Weights& weights, std::map<std::string, double> labelled,
                      double unlabelled = 0) {
        write_weights(file(site), weights);
        return {site, file(site), std::move(labelled), unlabelled};
    }
    Result<AggregationReport> run(const std::vector<SiteUpdate>& updates, const AggregationRules& rules = {}) {
        return aggregate(file("base"), updates, rules, file("out"));
    }
    Weights result() const { return read_weights(file("out")); }

    test::TemporaryFolder folder_;
};

/// A body that is longer than one slice and two heads; sites change it in a common direction plus their own.
struct Sites {
    static constexpr std::size_t kBody = 70'001, kHead = 500;
    std::mt19937 random{7};

    std::vector<float> noise(std::size_t count, float scale) {
        std::normal_distribution<float> normal(0, scale);
        std::vector<float> values(count);
        for (auto& value : values) value = normal(random);
        return values;
    }
    Weights base() {
        return {{"encoder.weight", noise(kBody, 1)},
                {"outs.hps.weight", noise(kHead, 1)},
                {"outs.calcium.weight", noise(kHead, 1)}};
    }
    static Weights plus(const Weights& weights, const Weights& change, float factor) {
        Weights sum = weights;
        for (auto& [name, values] : sum)
            for (std::size_t i = 0; i < values.size(); ++i) values[i] += factor * change.at(name)[i];
        return sum;
    }
};

TEST_F(Aggregate, MeanOfEqualModelsIsTheModel) {
    Sites sites;
    const auto base = sites.base(), model = sites.base();
    write_weights(file("base"), base);
    const auto done = run({update("a", model, {{"hps", 3}, {"calcium", 1}}), update("b", model, {{"hps", 7}}),
                           update("c", model, {{"hps", 1}, {"calcium", 10}})});
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_EQ(result(), model);
    EXPECT_TRUE(done->dropped.empty());
}

TEST_F(Aggregate, EachHeadIsWeightedByItsOwnLabels) {
    write_weights(file("base"), {{"w", {0}}, {"outs.hps.w", {0}}, {"outs.calcium.w", {1}}});
    const auto done =
        run({update("a", {{"w", {7}}, {"outs.hps.w", {4}}, {"outs.calcium.w", {5}}}, {{"hps", 1}, {"calcium", 3}}),
             update("b", {{"w", {14}}, {"outs.hps.w", {8}}, {"outs.calcium.w", {99}}}, {{"hps", 3}, {"calcium", 0}})});
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_THAT(result().at("w"), ElementsAre(10));              // (4 * 7 + 3 * 14) / 7
    EXPECT_THAT(result().at("outs.hps.w"), ElementsAre(7));      // (1 * 4 + 3 * 8) / 4
    EXPECT_THAT(result().at("outs.calcium.w"), ElementsAre(5));  // b has no label of it
    EXPECT_EQ(done->weights.at("hps").at("b"), 0.75);
    EXPECT_EQ(done->weights.at("body").at("a"), 4.0 / 7);
    EXPECT_FALSE(done->weights.at("calcium").contains("b"));
    EXPECT_EQ(done->norms.at("hps").at("b"), 8);
}

TEST_F(Aggregate, UnlabelledStudiesWeighBetaForTheBodyAlone) {
    write_weights(file("base"), {{"w", {0}}, {"outs.hps.w", {0}}});
    AggregationRules rules;
    rules.beta = 0.5;
    const auto done = run({update("a", {{"w", {2}}, {"outs.hps.w", {2}}}, {{"hps", 1}}),
                           update("b", {{"w", {10}}, {"outs.hps.w", {10}}}, {{"hps", 0}}, 6)},
                          rules);
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_THAT(result().at("w"), ElementsAre(8));  // (1 * 2 + 3 * 10) / 4
    EXPECT_THAT(result().at("outs.hps.w"), ElementsAre(2));
}

TEST_F(Aggregate, WholeModelAveragingUsesTheBodysWeightForHeads) {
    write_weights(file("base"), {{"w", {0}}, {"outs.hps.w", {0}}});
    AggregationRules rules;
    rules.per_head = false;
    ASSERT_TRUE(run({update("a", {{"w", {2}}, {"outs.hps.w", {2}}}, {{"hps", 2}}),
                     update("b", {{"w", {10}}, {"outs.hps.w", {10}}}, {{"hps", 0}, {"calcium", 6}})},
                    rules)
                    .ok());
    EXPECT_THAT(result().at("outs.hps.w"), ElementsAre(8));
}

TEST_F(Aggregate, HeadThatNobodyTrainedStaysAndMayBeAbsent) {
    write_weights(file("base"), {{"w", {0}}, {"outs.hps.w", {3}}, {"outs.calcium.w", {5}}});
    const auto done = run({update("a", {{"w", {2}}, {"outs.hps.w", {4}}}, {{"hps", 1}}),
                           update("b", {{"w", {2}}, {"outs.hps.w", {4}}, {"outs.calcium.w", {6}}}, {{"hps", 1}})});
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_THAT(result().at("outs.calcium.w"), ElementsAre(5));
    EXPECT_THAT(result().at("outs.hps.w"), ElementsAre(4));
    EXPECT_THAT(done->unchanged_heads, ElementsAre("calcium"));
}

TEST_F(Aggregate, HeadOfTooFewSitesStays) {
    write_weights(file("base"), {{"w", {0}}, {"outs.hps.w", {0}}, {"outs.calcium.w", {5}}});
    AggregationRules rules;
    rules.min_sites_per_head = 2;
    const Weights trained{{"w", {1}}, {"outs.hps.w", {1}}, {"outs.calcium.w", {1}}};
    const auto done =
        run({update("a", trained, {{"hps", 1}, {"calcium", 9}}), update("b", trained, {{"hps", 1}})}, rules);
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_THAT(result().at("outs.hps.w"), ElementsAre(1));
    EXPECT_THAT(result().at("outs.calcium.w"), ElementsAre(5));
    EXPECT_THAT(done->unchanged_heads, ElementsAre("calcium"));
    EXPECT_FALSE(done->weights.contains("calcium"));
}

TEST_F(Aggregate, IntegerTensorsAreKept) {
    write_weights(file("base"), {{"w", {0}}}, {{"num_batches_tracked", {41}}, {"relative_position_index", {1, 2, 3}}});
    write_weights(file("a"), {{"w", {1}}}, {{"num_batches_tracked", {99}}});
    write_weights(file("b"), {{"w", {3}}});
    ASSERT_TRUE(run({{"a", file("a"), {{"hps", 1}}}, {"b", file("b"), {{"hps", 1}}}}).ok());
    EXPECT_THAT(result().at("w"), ElementsAre(2));
    const auto out = TensorFile::open(file("out")).value();
    std::int64_t counter = 0;
    ASSERT_TRUE(out.read(*out.find("num_batches_tracked"), 0, std::as_writable_bytes(std::span(&counter, 1))).ok());
    EXPECT_EQ(counter, 41);
    ASSERT_NE(out.find("relative_position_index"), nullptr);
}

TEST_F(Aggregate, TrimmedMeanCutsBothEndsValueByValue) {
    write_weights(file("base"), {{"w", {1, 1}}});
    AggregationRules rules;
    rules.max_norm_ratio = 0;
    rules.min_cosine = -1;
    rules.trim = 0.2;
    ASSERT_TRUE(run({update("a", {{"w", {1, -1000}}}, {{"hps", 1}}), update("b", {{"w", {2, 2}}}, {{"hps", 50}}),
                     update("c", {{"w", {3, 3}}}, {{"hps", 1}}), update("d", {{"w", {4, 4}}}, {{"hps", 1}}),
                     update("e", {{"w", {500, 5}}}, {{"hps", 1}})},
                    rules)
                    .ok());
    EXPECT_THAT(result().at("w"), ElementsAre(3, 3));
}

TEST_F(Aggregate, OrderOfSitesDoesNotMatter) {
    Sites sites;
    const auto base = sites.base(), common = sites.base();
    write_weights(file("base"), base);
    std::vector<SiteUpdate> updates;
    for (const std::string site : {"d", "a", "c", "b"}) {
        const auto own = Sites::plus(Sites::plus(base, common, 0.1F), sites.base(), 0.1F);
        updates.push_back(update(site, own, {{"hps", 1 + updates.size() / 3.0}, {"calcium", 0.1}}));
    }
    ASSERT_TRUE(run(updates).ok());
    const auto first = read_file(file("out")).value();
    std::swap(updates[0], updates[3]);
    std::swap(updates[1], updates[2]);
    ASSERT_TRUE(run(updates).ok());
    EXPECT_EQ(read_file(file("out")).value(), first);
}

TEST_F(Aggregate, HonestButDifferentSitesAreNotDropped) {
    Sites sites;
    const auto base = sites.base(), common = sites.base();
    write_weights(file("base"), base);
    std::vector<SiteUpdate> updates;
    const std::vector<float> own_part{0.02F, 0.05F, 0.05F, 0.08F, 0.1F, 0.1F};  // up to twice the common part
    for (std::size_t k = 0; k < own_part.size(); ++k) {
        const auto own = Sites::plus(Sites::plus(base, common, 0.05F), sites.base(), own_part[k]);
        updates.push_back(update("site" + std::to_string(k), own, {{"hps", 1}, {"calcium", k % 2}}));
    }
    const auto done = run(updates);
    ASSERT_TRUE(done.ok()) << done.error().message;
    for (const auto& dropped : done->dropped) ADD_FAILURE() << dropped.site << ": " << dropped.reason;
}

TEST_F(Aggregate, SmallHeadsThatDifferByChanceCostNoSiteItsUpdate) {
    Sites sites;
    const Weights base{{"w", std::vector<float>(2000, 0)}, {"outs.hps.bias", std::vector<float>(4, 0)}};
    write_weights(file("base"), base);
    const auto common = sites.noise(2000, 1);
    for (int draw = 0; draw < 8; ++draw) {
        std::vector<SiteUpdate> updates;
        for (const std::string site : {"a", "b", "c", "d"}) {
            auto direction = sites.noise(4, 1);  // of one length, so that the norms say nothing
            const float length = std::sqrt(direction[0] * direction[0] + direction[1] * direction[1] +
                                           direction[2] * direction[2] + direction[3] * direction[3]);
            for (auto& value : direction) value /= length;
            updates.push_back(update(site, {{"w", common}, {"outs.hps.bias", direction}}, {{"hps", 1}}));
        }
        const auto done = run(updates);
        ASSERT_TRUE(done.ok()) << done.error().message;
        EXPECT_TRUE(done->dropped.empty()) << done->dropped.front().reason;
    }
}

TEST_F(Aggregate, QuorumCountsWhatIsLeft) {
    write_weights(file("base"), {{"w", {0}}});
    write_weights(file("out"), {{"w", {42}}});
    const auto done = run({update("a", {{"w", {1}}}, {{"hps", 1}}), update("b", {{"w", {kNan}}}, {{"hps", 1}})});
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().kind, ErrorKind::Reject);
    EXPECT_THAT(done.error().message, HasSubstr("1 of 2 updates can be used, the quorum is 2"));
    EXPECT_THAT(done.error().message, HasSubstr("b: tensor w is not finite"));
    EXPECT_THAT(result().at("w"), ElementsAre(42)) << "the output was touched";
    AggregationRules rules;
    rules.quorum = 1;
    ASSERT_TRUE(run({update("a", {{"w", {1}}}, {{"hps", 1}})}, rules).ok());
    EXPECT_THAT(result().at("w"), ElementsAre(1));
}

TEST_F(Aggregate, UpdatesWithoutAnyWeightMakeNoQuorum) {
    write_weights(file("base"), {{"w", {0}}});
    AggregationRules rules;
    rules.quorum = 0;
    const auto done = run({update("a", {{"w", {1}}}, {}, 5)}, rules);
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().kind, ErrorKind::Reject);
}

TEST_F(Aggregate, SecondUpdateOfOneSiteIsNotCounted) {
    write_weights(file("base"), {{"w", {0}}});
    auto twice = update("a2", {{"w", {100}}}, {{"hps", 1}});
    twice.site = "a";
    const auto done = run({update("a", {{"w", {1}}}, {{"hps", 1}}), twice, update("b", {{"w", {3}}}, {{"hps", 1}})});
    ASSERT_TRUE(done.ok()) << done.error().message;
    ASSERT_EQ(done->dropped.size(), 1U);
    EXPECT_EQ(done->dropped[0].site, "a");
    EXPECT_THAT(result().at("w"), ElementsAre(2));
}

TEST_F(Aggregate, BaseThatIsNotFiniteIsAnErrorOfTheInstallation) {
    write_weights(file("base"), {{"w", {kNan}}});
    const auto done = run({update("a", {{"w", {1}}}, {{"hps", 1}}), update("b", {{"w", {1}}}, {{"hps", 1}})});
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().kind, ErrorKind::Config);
}

/// How the fourth of four sites spoils its update, and what must be said about it.
struct Bad {
    const char* name;
    void (*spoil)(const Weights& base, Weights& update);
    const char* reason;
};

class BadUpdate : public Aggregate, public ::testing::WithParamInterface<Bad> {};

TEST_P(BadUpdate, IsDroppedNamedAndLeavesNoTrace) {
    Sites sites;
    const auto base = sites.base(), common = sites.base();
    write_weights(file("base"), base);
    std::vector<SiteUpdate> updates;
    Weights fourth;
    for (const std::string site : {"aachen", "bonn", "essen", "mainz"}) {
        fourth = Sites::plus(Sites::plus(base, common, 0.05F), sites.base(), 0.05F);
        updates.push_back(update(site, fourth, {{"hps", 2}, {"calcium", 1}}));
    }
    ASSERT_TRUE(run({updates[0], updates[1], updates[2]}).ok());
    const auto of_three = read_file(file("out")).value();
    const auto honest = run(updates);
    ASSERT_TRUE(honest.ok() && honest->dropped.empty());
    ASSERT_NE(read_file(file("out")).value(), of_three);

    GetParam().spoil(base, fourth);
    update("mainz", fourth, {});
    const auto done = run(updates);
    ASSERT_TRUE(done.ok()) << done.error().message;
    ASSERT_EQ(done->dropped.size(), 1U);
    EXPECT_EQ(done->dropped[0].site, "mainz");
    EXPECT_THAT(done->dropped[0].reason, HasSubstr(GetParam().reason));
    EXPECT_EQ(read_file(file("out")).value(), of_three);
    const auto screened = screen_updates(file("base"), updates, {});
    ASSERT_TRUE(screened.ok());
    EXPECT_EQ(screened->dropped.size(), 1U);
}

void scale(const Weights& base, Weights& update, float factor, const std::string& only = {}) {
    for (auto& [name, values] : update)
        if (only.empty() || name == only)
            for (std::size_t i = 0; i < values.size(); ++i)
                values[i] = base.at(name)[i] + factor * (values[i] - base.at(name)[i]);
}

INSTANTIATE_TEST_SUITE_P(
    OneOfFour, BadUpdate,
    ::testing::Values(
        Bad{"Nan", [](const Weights&, Weights& w) { w["encoder.weight"].back() = kNan; },
            "encoder.weight is not finite"},
        Bad{"NanInAHead", [](const Weights&, Weights& w) { w["outs.calcium.weight"][0] = kNan; }, "not finite"},
        Bad{"Infinity", [](const Weights&, Weights& w) { w["outs.hps.weight"][3] = HUGE_VALF; }, "not finite"},
        Bad{"HundredTimes", [](const Weights& b, Weights& w) { scale(b, w, 100); }, "times the median"},
        Bad{"HundredTimesOneHead", [](const Weights& b, Weights& w) { scale(b, w, 100, "outs.hps.weight"); },
            "hps: the change is"},
        Bad{"SignFlipped", [](const Weights& b, Weights& w) { scale(b, w, -1); }, "points away from the others'"},
        Bad{"SignFlippedOneHead", [](const Weights& b, Weights& w) { scale(b, w, -1, "outs.calcium.weight"); },
            "calcium: the change points away"},
        Bad{"WrongShape", [](const Weights&, Weights& w) { w["outs.hps.weight"].pop_back(); },
            "outs.hps.weight is F32 [499], expected F32 [500]"},
        Bad{"MissingTensor", [](const Weights&, Weights& w) { w.erase("encoder.weight"); },
            "encoder.weight is missing"},
        Bad{"MissingHead", [](const Weights&, Weights& w) { w.erase("outs.hps.weight"); },
            "outs.hps.weight is missing"},
        Bad{"UnknownTensor", [](const Weights&, Weights& w) { w["extra"] = {1}; }, "extra is not in the model"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(Aggregate, DamagedFileAndImpossibleCountsCostOnlyThatUpdate) {
    write_weights(file("base"), {{"w", {0}}});
    std::vector<SiteUpdate> updates{update("a", {{"w", {1}}}, {{"hps", 1}}), update("b", {{"w", {3}}}, {{"hps", 1}})};
    std::ofstream(file("c")) << "no weights";
    updates.push_back({"c", file("c"), {{"hps", 1}}});
    updates.push_back(update("d", {{"w", {9}}}, {{"hps", -1}}));
    updates.push_back(update("e", {{"w", {9}}}, {{"hps", 1}}, kNan));
    updates.push_back({"f", file("absent"), {{"hps", 1}}});
    const auto done = run(updates);
    ASSERT_TRUE(done.ok()) << done.error().message;
    std::vector<std::string> sites;
    for (const auto& dropped : done->dropped) sites.push_back(dropped.site);
    EXPECT_THAT(sites, ElementsAre("c", "d", "e", "f"));
    EXPECT_THAT(result().at("w"), ElementsAre(2));
}

}  // namespace
}  // namespace cardionode::fed
