#include "fedclient/simulate/simulation.h"

#include <gtest/gtest.h>

#include <fstream>

#include "conf/base/files.h"
#include "fedclient/simulate/simulation_config.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using cardionode::test::TemporaryFolder;
using nlohmann::json;
namespace fs = std::filesystem;

const fs::path kSource = CARDIONODE_SOURCE_DIR;

constexpr const char* kTinyNetwork = R"(
window: [16, 16, 16]
placement: root
architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}
input: {spacing_mm: 4, hu_low: -250, hu_high: 1000, mean: 100, sd: 250}
heads: [{name: hps, classes: 5}, {name: ms, classes: 2}, {name: calc, classes: 1}]
level_weights: [1]
optimiser: {warm_up: 0}
phantoms: {edition: 2}
)";

constexpr const char* kTinyFederation = R"(
study: [16, 16, 16]
few_label_heads: [ms, calc]
teacher: {recipe: tiny.yaml, rounds: 2, steps: 2, learning_rate: 0.01}
unet: {recipe: tiny.yaml, rounds: 2, steps: 2, learning_rate: 0.01}
hospitals:
  - {name: a, profile: standard, labelled: {hps: 2, ms: 1, calc: 1}, test: 1}
  - {name: b, profile: sharp, labelled: {hps: 1, ms: 1, calc: 1}, test: 1}
  - {name: c, profile: low_dose, unlabelled: 1}
  - {name: x, profile: old_multislice, trains: false, test: 2}
)";

struct TinyFederation {
    TemporaryFolder tmp;
    TinyFederation() {
        std::ofstream(tmp / "tiny.yaml") << kTinyNetwork;
        std::ofstream(tmp / "tiny_federation.yaml") << kTinyFederation;
    }
    SimulationRun run(const std::string& out) const {
        SimulationRun run;
        run.config = tmp / "tiny_federation.yaml";
        run.out = tmp / out;
        run.shapes = kSource / "models/train/shapes";
        run.seeds = 1;
        return run;
    }
};

/// Without what a clock said.
json without_time(json seed) {
    for (auto& [name, arm] : seed["arms"].items()) {
        arm.erase("wall_seconds");
        arm["account"].erase("cpu_seconds");
        arm["account"].erase("slowest_seconds");
    }
    return seed;
}

TEST(Simulation, SameSeedSameNumbersAlsoWhenItWasStoppedInBetween) {
    const TinyFederation tiny;
    const Result<json> whole = simulate(tiny.run("whole"));
    ASSERT_TRUE(whole.ok()) << whole.error().message;
    SimulationRun run = tiny.run("stopped");
    int stops = 0;
    for (;; ++stops) {
        int asked = 0;
        run.stop = [&] { return ++asked == 9; };
        const Result<json> part = simulate(run);
        if (part.ok()) break;
        ASSERT_EQ(part.error().kind, ErrorKind::Retry) << part.error().message;
        ASSERT_LT(stops, 100);
    }
    EXPECT_GT(stops, 2);
    run.stop = {};
    const Result<json> gone_on = simulate(run);
    ASSERT_TRUE(gone_on.ok()) << gone_on.error().message;
    EXPECT_EQ(without_time((*whole)["seeds"][0]), without_time((*gone_on)["seeds"][0]));
}

TEST(Simulation, EveryArmTakesTheStepsOfItsHospitalsAndItsBytes) {
    const TinyFederation tiny;
    const Result<json> results = simulate(tiny.run("out"));
    ASSERT_TRUE(results.ok()) << results.error().message;
    const json& arms = (*results)["seeds"][0]["arms"];
    for (const auto& [name, arm] : arms.items()) {
        for (const char* measure : {"other_points_hit", "other_few", "train_points_hit"}) {
            EXPECT_GE(arm.at(measure), 0) << name;
            EXPECT_LE(arm.at(measure), 1) << name;
        }
        EXPECT_DOUBLE_EQ(arm.at("other_few"),
                         (arm.at("other_ms_hit").get<double>() + arm.at("other_calc_dice").get<double>()) / 2);
    }
    const auto steps = [&](const char* arm) { return arms[arm]["account"]["steps"].get<int>(); };
    EXPECT_EQ(steps("unet-local"), 2 * 4) << "two hospitals with labels, two rounds of two steps";
    EXPECT_EQ(steps("unet-fed"), 2 * 4);
    EXPECT_EQ(steps("unet-fedavg"), 2 * 4);
    EXPECT_EQ(steps("unet-teachers"), 3 * 2 * 4) << "three label types, two hospitals each";
    EXPECT_EQ(arms["unet-local"]["account"]["bytes_up"], 0);
    EXPECT_GT(arms["unet-fed"]["account"]["bytes_up"], 0);
    EXPECT_EQ(arms["unet-fed"]["account"]["bytes_down"], arms["unet-fedavg"]["account"]["bytes_down"]);
    const fs::path out = tiny.tmp / "out";
    EXPECT_TRUE(fs::exists(out / "results.md"));
    std::ifstream table(out / "results.md");
    const std::string text((std::istreambuf_iterator<char>(table)), {});
    for (const char* word : {"hps", "ms", "calc", "each hospital alone", "Cost of a seed", "Paired tests"})
        EXPECT_NE(text.find(word), std::string::npos) << word;
}

TEST(Simulation, AFolderOfAnotherConfigurationIsRefused) {
    const TinyFederation tiny;
    SimulationRun run = tiny.run("out");
    run.stop = [] { return true; };
    EXPECT_EQ(simulate(run).error().kind, ErrorKind::Retry);
    std::ofstream(tiny.tmp / "tiny_federation.yaml", std::ios::app) << "missed_mm: 30\n";
    EXPECT_EQ(simulate(run).error().kind, ErrorKind::Config);
}

/// What the eight hospitals and the test are; equal in both of the shipped configurations.
void is_the_papers_federation(const SimulationConfig& config) {
    int training = 0, without_septum = 0, without_any = 0, held_out = 0;
    std::map<std::string, int> labels;
    for (const HospitalOptions& h : config.hospitals.hospitals) {
        if (!h.trains) {
            EXPECT_TRUE(h.labelled.empty());
            held_out += h.test;
            continue;
        }
        ++training;
        without_septum += h.labelled.count("ms") == 0;
        without_any += h.labelled.empty();
        for (const auto& [head, n] : h.labelled) labels[head] += n;
    }
    EXPECT_EQ(training, 8);
    EXPECT_EQ(without_septum, 5);
    EXPECT_EQ(without_any, 1);
    EXPECT_EQ(held_out, 48);
    EXPECT_EQ(labels["hps"], 26);
    EXPECT_EQ(labels["ms"], 11);
    EXPECT_EQ(labels["calc"], 12);
}

TEST(SimulationConfig, TheShippedOnesAreThePapersFederationScaledDown) {
    std::vector<SimulationConfig> both;
    for (const std::string name : {"unet", "swin"}) {
        const Result<SimulationConfig> config =
            load_simulation(kSource / "fedclient/simulate" / ("paper-" + name + ".yaml"));
        ASSERT_TRUE(config.ok()) << config.error().message;
        is_the_papers_federation(*config);
        ASSERT_EQ(config->networks.size(), 1U);
        EXPECT_EQ(config->networks[0].name, name);
        const RoundSchedule& schedule = config->networks[0].schedule;
        EXPECT_NEAR(schedule.rate_of(1), schedule.learning_rate, 1e-12);
        EXPECT_LT(schedule.rate_of(schedule.rounds), 0.5 * schedule.learning_rate);
        both.push_back(*config);
    }
    EXPECT_EQ(both[0].arms.size(), 4U);
    EXPECT_EQ(both[1].arms, (std::vector<std::string>{"local", "fed", "kd"}));
    EXPECT_EQ(both[0].teacher.schedule.steps, both[1].teacher.schedule.steps) << "the teachers are the same";
    EXPECT_EQ(both[0].hit_mm, both[1].hit_mm);
}

TEST(SimulationConfig, ProblemsAreNamed) {
    const TinyFederation tiny;
    std::ofstream(tiny.tmp / "tiny_federation.yaml", std::ios::app) << "roots: 3\n";
    const Result<SimulationConfig> config = load_simulation(tiny.tmp / "tiny_federation.yaml");
    ASSERT_FALSE(config.ok());
    EXPECT_NE(config.error().message.find("roots"), std::string::npos);
}

/// Values of a network's arms: hits of fed, local, fedavg, kd, millimetres a tenth of what is missing.
json seed_with(const std::string& net, double fed, double local, double fedavg, double kd) {
    json arms;
    const std::pair<const char*, double> all[] = {{"fed", fed}, {"local", local}, {"fedavg", fedavg}, {"kd", kd}};
    for (const auto& [arm, value] : all) {
        json& a = arms[net + "-" + arm];
        for (const char* measure : {"other_points_hit", "other_hps_hit", "other_ms_hit", "other_few"})
            a[measure] = value;
        for (const char* measure : {"other_points_mm", "other_hps_mm", "other_ms_mm"}) a[measure] = 10 * (1 - value);
        a["other_calc_dice"] = value;
    }
    return {{"arms", arms}};
}

json primary_of(const json& tests) {
    json primary = json::object();
    for (const json& test : tests) {
        if (test["primary"].get<bool>()) primary[test["against"].get<std::string>()] = test;
    }
    return primary;
}

TEST(SimulationTests, ThreePrimaryOnesForTheUNetWithHolmOverThem) {
    json seeds = json::array();
    for (int i = 0; i < 6; ++i) seeds.push_back(seed_with("unet", 0.5 + 0.01 * i, 0.2, 0.5 + 0.01 * i, 0.6));
    const json tests = simulation_tests(seeds, {"ms", "calc"});
    int primary = 0;
    for (const json& test : tests) {
        if (test["measure"] == "other_points_mm") {
            EXPECT_GT(test["mean_gain"], 0) << "millimetres: less is a gain";
        }
        if (!test["primary"].get<bool>()) continue;
        ++primary;
        const std::string arm = test["arm"], against = test["against"], measure = test["measure"];
        if (against == "unet-local") {
            EXPECT_EQ(measure, "other_points_hit");
            EXPECT_NEAR(test["mean_gain"], 0.325, 1e-9);
            EXPECT_DOUBLE_EQ(test["p_one_sided"], 1.0 / 64);
            EXPECT_DOUBLE_EQ(test["p_holm"], 3.0 / 64);
        } else if (against == "unet-fedavg") {
            EXPECT_EQ(measure, "other_few");
            EXPECT_DOUBLE_EQ(test["mean_gain"], 0);
            EXPECT_DOUBLE_EQ(test["p_one_sided"], 1);
        } else {
            EXPECT_EQ(arm, "unet-kd");
            EXPECT_EQ(against, "unet-fed");
            EXPECT_EQ(measure, "other_few");
            EXPECT_DOUBLE_EQ(test["p_holm"], 3.0 / 64) << "never below that of a smaller p";
        }
    }
    EXPECT_EQ(primary, 3);
    EXPECT_TRUE(simulation_tests(json::array(), {"ms"}).empty());
}

TEST(SimulationTests, OneForTheSwinUnetrAndALossIsNoGain) {
    json seeds = json::array();
    for (int i = 0; i < 5; ++i) seeds.push_back(seed_with("swin", 0.5, 0.2, 0.5, 0.4 - 0.01 * i));
    const json primary = primary_of(simulation_tests(seeds, {"ms", "calc"}));
    ASSERT_EQ(primary.size(), 1U);
    const json& test = primary["swin-fed"];
    EXPECT_EQ(test["arm"], "swin-kd");
    EXPECT_LT(test["mean_gain"], 0);
    EXPECT_DOUBLE_EQ(test["p_one_sided"], 1);
    EXPECT_DOUBLE_EQ(test["p_holm"], 1);
}

}  // namespace
}  // namespace cardionode::fed
