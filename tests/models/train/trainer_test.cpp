#include <gtest/gtest.h>

#include <fstream>

#include <ATen/autocast_mode.h>

#include "conf/base/files.h"
#include "models/train/bundle_export.h"
#include "models/train/train_run.h"
#include "models/train/trainer.h"
#include "models/train/validation.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::train {
namespace {

constexpr const char* kTiny = R"(
seed: 4
steps: 40
batch: 1
window: [16, 16, 16]
architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}
heads: [{name: heart, classes: 1}]
level_weights: [1]
optimiser: {learning_rate: 0.02, warm_up: 5, ema_decay: 0.9, schedule: cosine}
)";

/// A bright ball, elsewhere each time: what a tiny network learns in seconds.
class Balls final : public SampleSource {
public:
    explicit Balls(bool labelled = true) : labelled_(labelled) {}
    Sample sample(std::uint64_t number) const override {
        Random random(number, 3);
        const float cz = random.uniform(5, 10), cy = random.uniform(5, 10), cx = random.uniform(5, 10);
        Sample s;
        s.image = torch::zeros({1, 16, 16, 16});
        torch::Tensor target = torch::zeros({16, 16, 16}, torch::kLong);
        for (int z = 0; z < 16; ++z) {
            for (int y = 0; y < 16; ++y) {
                for (int x = 0; x < 16; ++x) {
                    const bool in = length({x - cx, y - cy, z - cz}) < 4;
                    s.image[0][z][y][x] = (in ? 1.0F : 0.0F) + 0.2F * random.normal();
                    if (in) target[z][y][x] = 1;
                }
            }
        }
        if (labelled_) s.targets["heart"] = target;
        return s;
    }

private:
    bool labelled_;
};

Recipe tiny() {
    const Result<Recipe> recipe = parse_recipe(kTiny, "tiny.yaml");
    if (!recipe) throw std::runtime_error(recipe.error().message);
    return *recipe;
}

bool same(const NamedTensors& a, const NamedTensors& b) {
    if (a.size() != b.size()) return false;
    return std::all_of(a.begin(), a.end(), [&](const auto& entry) {
        return b.count(entry.first) && torch::equal(entry.second, b.at(entry.first));
    });
}

TEST(Trainer, LearnsATinyTask) {
    Result<Trainer> trainer = Trainer::create(tiny());
    ASSERT_TRUE(trainer.ok()) << trainer.error().message;
    double first = 0, last = 0;
    ASSERT_TRUE(trainer
                    ->run(Balls(),
                          [&](const StepReport& r) {
                              (r.step == 1 ? first : last) = r.loss;
                              return true;
                          })
                    .ok());
    EXPECT_EQ(trainer->step(), 40);
    EXPECT_LT(last, -0.5) << "Dice near 1 and little cross entropy, from " << first;
    EXPECT_GT(first, 0);
}

TEST(Trainer, KilledAndResumedEqualsUninterruptedBitForBit) {
    test::TemporaryFolder folder;
    Result<Trainer> whole = Trainer::create(tiny());
    ASSERT_TRUE(whole.ok());
    ASSERT_TRUE(whole->run(Balls(), {}, 14).ok());

    Result<Trainer> first = Trainer::create(tiny());
    ASSERT_TRUE(first.ok());
    ASSERT_TRUE(first->run(Balls(), {}, 6).ok());
    ASSERT_TRUE(first->save_checkpoint(folder / "c.safetensors").ok());
    ASSERT_TRUE(first->run(Balls(), {}, 9).ok());  // lost with the process
    Result<Trainer> second = Trainer::create(tiny());
    ASSERT_TRUE(second.ok());
    torch::manual_seed(99);
    const Result<void> loaded = second->load_checkpoint(folder / "c.safetensors");
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    EXPECT_EQ(second->step(), 6);
    ASSERT_TRUE(second->run(Balls(), {}, 14).ok());

    EXPECT_TRUE(same(state_of(whole->network()), state_of(second->network())));
    EXPECT_TRUE(same(state_of(**whole->averaged()), state_of(**second->averaged())));
    EXPECT_FALSE(same(state_of(**whole->averaged()), state_of(whole->network())));
}

TEST(Trainer, LearnsInMixedPrecisionAndKeepsItsParametersInFloat32) {
    Recipe mixed = tiny();
    mixed.precision = "bfloat16";
    Result<Trainer> trainer = Trainer::create(mixed), whole = Trainer::create(tiny());
    ASSERT_TRUE(trainer.ok() && whole.ok());
    ASSERT_TRUE(trainer->run(Balls(), {}, 2).ok());
    ASSERT_TRUE(whole->run(Balls(), {}, 2).ok());
    EXPECT_FALSE(same(state_of(trainer->network()), state_of(whole->network())))
        << "bfloat16 rounds: equal weights were not mixed";
    double last = 0;
    ASSERT_TRUE(trainer->run(Balls(), [&](const StepReport& r) { return last = r.loss, true; }).ok());
    EXPECT_LT(last, -0.5);
    for (const auto& [name, tensor] : state_of(trainer->network())) EXPECT_EQ(tensor.scalar_type(), torch::kFloat);
    EXPECT_FALSE(at::autocast::is_cpu_enabled()) << "left on behind the step";
}

TEST(Trainer, RefusesTheCheckpointOfAnotherRecipe) {
    test::TemporaryFolder folder;
    Result<Trainer> trainer = Trainer::create(tiny());
    ASSERT_TRUE(trainer->save_checkpoint(folder / "c.safetensors").ok());
    Recipe other = tiny();
    other.seed = 5;
    Result<Trainer> stranger = Trainer::create(other);
    const Result<void> loaded = stranger->load_checkpoint(folder / "c.safetensors");
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
    std::ofstream(folder / "junk.safetensors") << "junk";
    EXPECT_FALSE(trainer->load_checkpoint(folder / "junk.safetensors").ok());
    EXPECT_EQ(trainer->step(), 0);
}

TEST(Trainer, StepsAsTorchsAdamW) {
    Recipe recipe = tiny();
    recipe.clip_norm = 0;
    recipe.warm_up = 0;
    recipe.schedule = "constant";
    recipe.learning_rate = 0.01;
    Result<Trainer> ours = Trainer::create(recipe), theirs = Trainer::create(recipe);
    torch::optim::AdamW optimiser(theirs->network().parameters(),
                                  torch::optim::AdamWOptions(0.01).weight_decay(recipe.weight_decay));
    for (std::uint64_t n = 0; n < 3; ++n) {
        const Sample s = Balls().sample(n);
        optimiser.zero_grad();
        const auto outputs = theirs->network().forward(s.image.unsqueeze(0), 1);
        multi_head_loss(outputs, {{"heart", s.targets.at("heart").unsqueeze(0)}}, {}, {1}).backward();
        optimiser.step();
    }
    ASSERT_TRUE(ours->run(Balls(), {}, 3).ok());
    const NamedTensors a = state_of(ours->network()), b = state_of(theirs->network());
    for (const auto& [name, tensor] : a) {
        // A bias before an instance norm has no gradient but rounding, whose sign decides AdamW's step.
        if (name.find(".convs.") != std::string::npos && name.find(".conv.bias") != std::string::npos) continue;
        EXPECT_LE((tensor - b.at(name)).abs().max().item<double>(), 2e-5) << name;
    }
}

/// Balls for two heads, of which "other" has a label in every second window only.
class TwoHeads final : public SampleSource {
public:
    Sample sample(std::uint64_t number) const override {
        Sample s = Balls().sample(number);
        if (number % 2 == 1) s.targets["other"] = s.targets.at("heart");
        return s;
    }
};

Recipe two_heads(const std::string& more = {}) {
    std::string text = kTiny;
    const std::string one = "heads: [{name: heart, classes: 1}]";
    text.replace(text.find(one), one.size(), "heads: [{name: heart, classes: 1}, {name: other, classes: 1}]");
    const Result<Recipe> recipe = parse_recipe(text + more, "two.yaml");
    if (!recipe) throw std::runtime_error(recipe.error().message);
    return *recipe;
}

bool same_head(const NamedTensors& a, const NamedTensors& b, const std::string& head) {
    return std::all_of(a.begin(), a.end(), [&](const auto& entry) {
        return head_of_parameter(entry.first) != head || torch::equal(entry.second, b.at(entry.first));
    });
}

TEST(Trainer, AHeadWithoutLabelsStaysAsItIs) {
    Result<Trainer> trainer = Trainer::create(two_heads());
    ASSERT_TRUE(trainer.ok()) << trainer.error().message;
    const NamedTensors before = state_of(trainer->network());
    ASSERT_TRUE(trainer->run(TwoHeads(), {}, 1).ok());  // number 0: "heart" alone
    EXPECT_TRUE(same_head(before, state_of(trainer->network()), "other"));
    EXPECT_FALSE(same_head(before, state_of(trainer->network()), "heart"));
    ASSERT_TRUE(trainer->run(TwoHeads(), {}, 2).ok());
    EXPECT_FALSE(same_head(before, state_of(trainer->network()), "other"));
}

TEST(Trainer, InABatchEachHeadLearnsFromTheWindowsThatHaveItsLabel) {
    Recipe pair = two_heads();
    pair.batch = 2;
    Result<Trainer> trainer = Trainer::create(pair);
    ASSERT_TRUE(trainer.ok());
    const std::shared_ptr<Network> start = *trainer->averaged();  // as it was
    StepReport report;
    ASSERT_TRUE(trainer
                    ->run(
                        TwoHeads(), [&](const StepReport& r) { return report = r, true; }, 1)
                    .ok());
    const Sample labelled = TwoHeads().sample(1);
    const auto outputs = start->forward(labelled.image.unsqueeze(0), 1);
    const double alone = dice_ce(outputs[1].levels[0], labelled.targets.at("other").unsqueeze(0)).item<double>();
    EXPECT_NEAR(report.head_loss.at("other"), alone, 1e-5);
    EXPECT_GT(std::abs(report.head_loss.at("heart") - alone), 1e-4) << "over both windows";
}

class FrozenBody : public ::testing::TestWithParam<const char*> {
protected:
    Recipe recipe(const std::string& heads, const std::string& more) {
        const bool swin = std::string(GetParam()) == "swin_unetr";
        const std::string side = swin ? "32" : "16";
        const Result<Recipe> parsed = parse_recipe(
            "seed: 4\nsteps: 40\nbatch: 1\nwindow: [" + side + ", " + side + ", " + side + "]\n" +
                (swin ? "architecture: {type: swin_unetr, feature_size: 12}\n"
                      : "architecture: {type: plain_conv_unet, features: [4, 8, 8], strides: [1, 2, 2]}\n") +
                "heads: [" + heads + "]\noptimiser: {learning_rate: 0.02, warm_up: 5, ema_decay: 0.9}\n" + more,
            "frozen.yaml", folder.path());
        if (!parsed) throw std::runtime_error(parsed.error().message);
        return *parsed;
    }
    /// Balls in windows of the recipe's size.
    class Padded final : public SampleSource {
    public:
        explicit Padded(int side) : side_(side) {}
        Sample sample(std::uint64_t number) const override {
            Sample s = Balls().sample(number);
            const std::int64_t more = side_ - 16;
            s.image = torch::constant_pad_nd(s.image, {0, more, 0, more, 0, more});
            s.targets["calc"] = torch::constant_pad_nd(s.targets.at("heart"), {0, more, 0, more, 0, more});
            s.targets["heart"] = s.targets.at("calc");
            return s;
        }
        int side_;
    };
    test::TemporaryFolder folder;
};

TEST_P(FrozenBody, TrainsTheNewHeadAloneAndKeepsEverythingElseBitForBit) {
    const std::string old = "{name: heart, classes: 1}";
    Result<Trainer> teacher = Trainer::create(recipe(old, ""));
    ASSERT_TRUE(teacher.ok()) << teacher.error().message;
    ASSERT_TRUE(save_weights(teacher->network(), folder / "body.safetensors").ok());
    const NamedTensors body = state_of(teacher->network());

    const Recipe frozen =
        recipe(old, "init: {weights: body.safetensors}\nfreeze_backbone: true\ntrain_heads: [calc]\n");
    ASSERT_EQ(frozen.heads.size(), 2u) << "the new head is added";
    Result<Trainer> trainer = Trainer::create(frozen);
    ASSERT_TRUE(trainer.ok()) << trainer.error().message;
    for (const char* part : {"heads heart", "fresh: calc", "body frozen", "learning: calc"}) {
        EXPECT_NE(trainer->start_note().find(part), std::string::npos) << trainer->start_note();
    }
    const NamedTensors before = state_of(trainer->network());
    const Padded balls(frozen.window[0]);
    double first = 0, last = 0;
    ASSERT_TRUE(trainer
                    ->run(
                        balls,
                        [&](const StepReport& r) {
                            EXPECT_EQ(r.head_loss.count("heart"), 0u) << "it does not learn";
                            (r.step == 1 ? first : last) = r.loss;
                            return true;
                        },
                        6)
                    .ok());
    EXPECT_LT(last, first);
    ASSERT_TRUE(trainer->save_checkpoint(folder / "c.safetensors").ok());
    for (const NamedTensors& after : {state_of(trainer->network()), state_of(**trainer->averaged())}) {
        int changed = 0;
        for (const auto& [name, tensor] : after) {
            if (!torch::equal(tensor, before.at(name))) {
                ++changed;
                EXPECT_EQ(head_of_parameter(name), "calc") << name;
            }
            if (body.count(name)) {
                EXPECT_TRUE(torch::equal(tensor, body.at(name))) << name;
            }
        }
        EXPECT_EQ(changed, 2) << "weight and bias of one convolution";
    }
    for (const auto& item : trainer->network().named_parameters()) {
        EXPECT_EQ(item.value().requires_grad(), head_of_parameter(item.key()) == "calc") << item.key();
    }

    // Killed and resumed it ends at the same weights.
    Result<Trainer> second = Trainer::create(frozen);
    ASSERT_TRUE(second.ok());
    const Result<void> loaded = second->load_checkpoint(folder / "c.safetensors");
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    ASSERT_TRUE(second->run(balls, {}, 9).ok());
    ASSERT_TRUE(trainer->run(balls, {}, 9).ok());
    EXPECT_TRUE(same(state_of(trainer->network()), state_of(second->network())));
    EXPECT_TRUE(same(state_of(**trainer->averaged()), state_of(**second->averaged())));
    Result<Trainer> free = Trainer::create(recipe(old + ", {name: calc, classes: 1}", ""));
    EXPECT_FALSE(free->load_checkpoint(folder / "c.safetensors").ok()) << "the body of that one learns";
}

INSTANTIATE_TEST_SUITE_P(Of, FrozenBody, ::testing::Values("plain_conv_unet", "swin_unetr"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Trainer, StartsOnlyFromABodyThatFits) {
    test::TemporaryFolder folder;
    Result<Trainer> other = Trainer::create(tiny());
    ASSERT_TRUE(save_weights(other->network(), folder / "w.safetensors").ok());
    Recipe wide = tiny();
    wide.init_weights = folder / "w.safetensors";
    EXPECT_TRUE(Trainer::create(wide).ok());
    wide.architecture.features = {4, 16};
    const Result<Trainer> refused = Trainer::create(wide);
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("has the shape"), std::string::npos) << refused.error().message;
    wide.init_weights = folder / "missing.safetensors";
    EXPECT_FALSE(Trainer::create(wide).ok());
    EXPECT_FALSE(parse_recipe(std::string(kTiny) + "freeze_backbone: true\n", "r.yaml").ok());
}

TEST(Trainer, AnUnlabelledBatchChangesNothing) {
    Result<Trainer> trainer = Trainer::create(tiny());
    const NamedTensors before = state_of(trainer->network());
    ASSERT_TRUE(trainer->run(Balls(false), {}, 2).ok());
    EXPECT_TRUE(same(before, state_of(trainer->network())));
}

TEST(Trainer, StopsAtALossThatIsNotFinite) {
    class Broken final : public SampleSource {
        Sample sample(std::uint64_t number) const override {
            Sample s = Balls().sample(number);
            if (number == 2) s.image.fill_(std::numeric_limits<float>::quiet_NaN());
            return s;
        }
    };
    Result<Trainer> trainer = Trainer::create(tiny());
    const Result<void> ran = trainer->run(Broken(), {});
    ASSERT_FALSE(ran.ok());
    EXPECT_EQ(trainer->step(), 2);
}

TEST(Recipe, NamesEveryMistakeByLine) {
    const Result<Recipe> recipe = parse_recipe(
        "steps: 0\nwindow: [64, 64]\narchitecture: {type: resnet}\nheads: [{name: Brain!}]\ncolour: red\n", "r.yaml");
    ASSERT_FALSE(recipe.ok());
    for (const char* part : {"r.yaml:1: steps", "r.yaml:2: window", "architecture.type", "heads[0].name", "colour"}) {
        EXPECT_NE(recipe.error().message.find(part), std::string::npos) << part << " in " << recipe.error().message;
    }
}

TEST(Recipe, RateRisesHoldsAndFalls) {
    Recipe r = tiny();
    r.steps = 1000, r.warm_up = 100, r.decay_from = 500, r.learning_rate = 1;
    EXPECT_NEAR(learning_rate_at(r, 0), 0.01, 1e-9);
    EXPECT_NEAR(learning_rate_at(r, 300), 1, 1e-9);
    EXPECT_NEAR(learning_rate_at(r, 750), 0.5, 1e-9);
    EXPECT_NEAR(learning_rate_at(r, 999), 0.01, 1e-3);
}

TEST(Recipe, PhantomsMayChangeDuringTheRun) {
    const std::string start =
        "architecture: {type: swin_unetr}\nheads: [{name: ms, classes: 2}]\n"
        "phantoms: {later: [{from_step: 7, edition: 2}, ";
    const Result<Recipe> r = parse_recipe(start + "{from_step: 9, profiles: all}]}\n", "r.yaml");
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(r->phantoms_at(0).edition, 1);
    EXPECT_EQ(r->phantoms_at(6).edition, 1);
    EXPECT_EQ(r->phantoms_at(7).edition, 2);
    EXPECT_EQ(r->phantoms_at(7).profiles, "training");
    EXPECT_EQ(r->phantoms_at(20).edition, 2) << "what a part does not name stays";
    EXPECT_EQ(r->phantoms_at(20).profiles, "all");
    EXPECT_FALSE(parse_recipe(start + "{from_step: 7, edition: 2}]}\n", "r.yaml").ok());
    EXPECT_FALSE(parse_recipe(start + "{from_step: 8, edition: 5}]}\n", "r.yaml").ok());
    EXPECT_EQ(parse_recipe("architecture: {type: swin_unetr}\nheads: [{name: ms, classes: 2}]\n", "r.yaml")
                  ->phantoms_at(1'000'000)
                  .edition,
              1);
}

TEST(Recipe, ForegroundWeightMayChangeDuringTheRun) {
    const Result<Recipe> r = parse_recipe(
        "architecture: {type: swin_unetr}\n"
        "heads:\n"
        "  - {name: ms, classes: 2, foreground_weight: 20, later: [{from_step: 7, foreground_weight: 150},\n"
        "      {from_step: 9, foreground_weight: 10}]}\n",
        "r.yaml");
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(r->heads[0].foreground_weight_at(6), 20);
    EXPECT_EQ(r->heads[0].foreground_weight_at(7), 150);
    EXPECT_EQ(r->heads[0].foreground_weight_at(9), 10);
}

TEST(Recipe, FineTuningStartsTheRateAgain) {
    Recipe r = tiny();
    r.steps = 1200, r.warm_up = 100, r.decay_from = 500, r.learning_rate = 1;
    r.fine_tune = {{1000, 0.4, 1200}, {1150, 0.1, 1200}};
    EXPECT_NEAR(learning_rate_at(r, 750), 0.5, 1e-9);
    EXPECT_NEAR(learning_rate_at(r, 999), 0.01, 1e-3);
    EXPECT_NEAR(learning_rate_at(r, 1000), 0.4, 1e-9);
    EXPECT_NEAR(learning_rate_at(r, 1100), 0.2, 1e-9);
    EXPECT_NEAR(learning_rate_at(r, 1149), 0.4 * 0.5 * (1 + std::cos(3.14159265 * 149 / 200)), 1e-6);
    EXPECT_NEAR(learning_rate_at(r, 1150), 0.1, 1e-9);
    EXPECT_NEAR(learning_rate_at(r, 1175), 0.05, 1e-9);
}

TEST(TrainRun, WritesMetricsCheckpointAndWeightsAndResumes) {
    test::TemporaryFolder folder;
    std::ofstream(folder / "recipe.yaml") << R"(
seed: 2
steps: 6
window: [16, 16, 16]
architecture: {type: plain_conv_unet, features: [4, 8, 8], strides: [1, 2, 2]}
input: {spacing_mm: 6, hu_low: -250, hu_high: 1000, mean: 100, sd: 250}
heads: [{name: heart, classes: 7}, {name: hps, classes: 5}, {name: ms, classes: 2}, {name: calc, classes: 1}]
checkpoint_every: 2
validate_every: 3
validation_phantoms: 2
)";
    TrainRunOptions options;
    options.config = folder / "recipe.yaml";
    options.out = folder / "run";
    options.shapes = CARDIONODE_SOURCE_DIR "/models/train/shapes";
    int asked = 0;
    options.stop = [&] { return ++asked == 3; };
    Result<void> ran = train_run(options);
    ASSERT_TRUE(ran.ok()) << ran.error().message;
    ran = train_run(options);
    ASSERT_FALSE(ran.ok()) << "a run is not overwritten without being asked";
    options.resume = true;
    options.stop = {};
    ran = train_run(options);
    ASSERT_TRUE(ran.ok()) << ran.error().message;

    std::ifstream in(folder.path() / "run" / "metrics.jsonl");
    std::string line;
    int steps = 0, validations = 0;
    while (std::getline(in, line)) {
        const nlohmann::json json = nlohmann::json::parse(line);
        steps += json.contains("loss");
        if (json.contains("validation")) {
            ++validations;
            EXPECT_EQ(json["validation"]["dice"].size(), 15U);
            EXPECT_EQ(json["validation"]["landmarks"].size(), 7U);
        }
    }
    EXPECT_EQ(steps, 6);
    EXPECT_GE(validations, 2);
    EXPECT_TRUE(read_safetensors(folder.path() / "run" / "weights.safetensors").ok());
}

TEST(BundleExport, WritesWhatLoadsAndKeepsTheOldOneOtherwise) {
    test::TemporaryFolder folder;
    const std::filesystem::path shipped = CARDIONODE_SOURCE_DIR "/models/bundles/heart-root-unet16";
    Result<Bundle> bundle = load_bundle(shipped);
    ASSERT_TRUE(bundle.ok()) << bundle.error().message;
    for (const PhantomHead& head : phantom_heads()) {          // what other parts of the node ask for by name
        if (head.name == std::string("coronaries")) continue;  // of downstream models, not of every bundle
        const HeadManifest* found = bundle->manifest.head(head.name);
        ASSERT_NE(found, nullptr) << head.name;
        ASSERT_EQ(found->classes.size(), head.classes.size());
        for (std::size_t i = 0; i < head.classes.size(); ++i) EXPECT_EQ(found->classes[i].name, head.classes[i]);
    }
    const Result<Recipe> recipe = load_recipe(shipped / "recipe.yaml");
    ASSERT_TRUE(recipe.ok()) << recipe.error().message;
    Result<Trainer> trainer = Trainer::create(*recipe);
    ASSERT_TRUE(trainer.ok());
    ASSERT_TRUE(make_folder(folder / "run").ok());
    ASSERT_TRUE(save_weights(trainer->network(), folder.path() / "run" / "weights.safetensors").ok());
    std::ofstream(folder.path() / "run" / "metrics.jsonl") << "{\"step\": 7, \"loss\": 1}\n";
    ASSERT_TRUE(make_folder(folder / "bundle").ok());
    std::filesystem::copy_file(shipped / "manifest.yaml", folder.path() / "bundle" / "manifest.yaml");
    if (bundle->manifest.second_look) {
        std::filesystem::copy_file(bundle->second_weights_file(),
                                   folder.path() / "bundle" / bundle->manifest.second_look->weights.file);
    }

    Result<void> exported =
        export_bundle(folder / "run", shipped / "recipe.yaml", folder / "bundle", {{"cost", "none"}});
    ASSERT_TRUE(exported.ok()) << exported.error().message;
    Result<Bundle> made = load_bundle(folder / "bundle");
    ASSERT_TRUE(made.ok()) << made.error().message;
    EXPECT_EQ(made->manifest.training.at("steps"), "7");
    EXPECT_EQ(made->manifest.training.at("cost"), "none");
    EXPECT_NE(made->manifest.weights.sha256, bundle->manifest.weights.sha256);
    Result<std::shared_ptr<Network>> network = make_network(network_options(made->manifest));
    ASSERT_TRUE(network.ok());
    EXPECT_TRUE(load_weights(**network, made->weights_file()).ok());

    std::ofstream(folder / "other.yaml") << "architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, "
                                            "2]}\nheads: [{name: calc, classes: 1}]\n";
    exported = export_bundle(folder / "run", folder / "other.yaml", folder / "bundle", {});
    ASSERT_FALSE(exported.ok());
    EXPECT_EQ(load_bundle(folder / "bundle")->manifest.weights.sha256, made->manifest.weights.sha256);
}

TEST(LandmarkScore, AMissIsNotDropped) {
    LandmarkScore score;
    score.present = 5;
    score.found = 2;
    score.errors_mm = {1, 2};
    EXPECT_TRUE(std::isinf(score.median_mm()));
    score.found = 3;
    score.errors_mm = {1, 2, 3};
    EXPECT_EQ(score.median_mm(), 3);
}

}  // namespace
}  // namespace cardionode::train
