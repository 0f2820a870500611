#include "models/train/teacher.h"

#include <gtest/gtest.h>

#include <fstream>

#include "conf/base/files.h"
#include "models/train/comparison.h"
#include "models/train/comparison_config.h"
#include "models/train/pseudo_labels_decode.h"
#include "models/train/random.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::train {
namespace {

constexpr const char* kTiny = R"(
seed: 4
steps: 30
batch: 1
window: [16, 16, 16]
architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}
heads: [{name: hps, classes: 1}, {name: calc, classes: 1}]
level_weights: [1]
optimiser: {learning_rate: 0.02, warm_up: 5, ema_decay: 0.9, schedule: cosine}
phantoms: {ball_radius_mm: 8}
checkpoint_every: 10
)";

Recipe tiny() {
    const Result<Recipe> recipe = parse_recipe(kTiny, "tiny.yaml");
    if (!recipe) throw std::runtime_error(recipe.error().message);
    return *recipe;
}

/// A bright ball (hps) and a dark one (calc) in a study of 20^3 voxels of 2 mm.
Sample balls(std::uint64_t number, bool labelled) {
    Random random(number, 3);
    Sample s;
    s.image = torch::zeros({1, 20, 20, 20});
    for (const char* head : {"hps", "calc"}) {
        const bool bright = std::string(head) == "hps";
        DecodedPoint p;
        p.voxels = 1;
        for (double& c : p.at) c = random.uniform(6, 13);
        const torch::Tensor ball = draw_balls({p}, {20, 20, 20}, {2, 2, 2}, 8);
        s.image = s.image + (bright ? 1.0 : -1.0) * ball.to(torch::kFloat);
        if (labelled) s.targets[head] = ball;
    }
    float* voxels = s.image.data_ptr<float>();
    for (std::int64_t i = 0; i < s.image.numel(); ++i) voxels[i] += 0.1F * random.normal();
    return s;
}

class Unlabelled final : public StudiesToLabel {
public:
    std::size_t count() const override { return 4; }
    Result<StudyToLabel> study(std::size_t i) const override {
        StudyToLabel s;
        s.sample = balls(100 + i, false);
        s.hash = study_hash(s.sample.image);
        return s;
    }
};

double dice(const torch::Tensor& a, const torch::Tensor& b) {
    return 2 * a.gt(0).logical_and(b.gt(0)).sum().item<double>() /
           (a.gt(0).sum().item<double>() + b.gt(0).sum().item<double>());
}

WindowManifest study_window() {
    WindowManifest window;
    window.size = {20, 20, 20};
    return window;
}

TEST(TwoSteps, TeachersLabelWhatTheStudentLearnsFrom) {
    Recipe whole = tiny();
    whole.steps = 80;
    for (HeadRecipe& head : whole.heads) head.foreground_weight = 5;
    std::vector<Teacher> teachers;
    std::vector<Sample> labelled;
    for (std::uint64_t i = 0; i < 3; ++i) labelled.push_back(balls(i, true));
    for (const char* head : {"hps", "calc"}) {
        const Result<Recipe> recipe = recipe_for_head(whole, head);
        ASSERT_TRUE(recipe.ok());
        EXPECT_EQ(recipe->heads.size(), 1U);
        const StudyWindows windows(labelled, {}, 1, recipe->window, 1);
        Result<Teacher> teacher = train_teacher(*recipe, windows, study_window());
        ASSERT_TRUE(teacher.ok()) << teacher.error().message;
        teachers.push_back(*teacher);
    }
    StudentSamples samples;
    samples.labelled_share = 0;
    const Result<PseudoLabelReport> report =
        make_pseudo_labels(teachers, Unlabelled(), nullptr, {}, [&](std::size_t, Sample s) -> Result<void> {
            samples.pseudo.push_back(std::move(s));
            return {};
        });
    ASSERT_TRUE(report.ok()) << report.error().message;
    ASSERT_EQ(samples.pseudo.size(), 4U);
    EXPECT_EQ(report->labelled, (std::map<std::string, std::int64_t>{{"calc", 4}, {"hps", 4}})) << report->summary();
    const Result<std::shared_ptr<Network>> student = train_student(whole, samples);
    ASSERT_TRUE(student.ok()) << student.error().message;
    torch::NoGradGuard no_grad;
    (*student)->eval();
    const Sample fresh = balls(200, true);
    for (const HeadLogits& head : (*student)->forward(fresh.image.unsqueeze(0))) {
        EXPECT_GT(dice(head.levels[0][0].argmax(0), fresh.targets.at(head.head)), 0.3)
            << head.head << ": learned from nobody but its teachers";
    }
}

TEST(TwoSteps, FineTuningTouchesItsHeadAlone) {
    test::TemporaryFolder folder;
    Recipe recipe = tiny();
    recipe.steps = 4;
    const StudyWindows windows({balls(1, true)}, {}, 1, recipe.window, 1);
    const Result<std::shared_ptr<Network>> student = train_network(recipe, windows);
    ASSERT_TRUE(student.ok());
    ASSERT_TRUE(save_weights(**student, folder / "w.safetensors").ok());
    const NamedTensors before = state_of(**student);
    for (const bool frozen : {true, false}) {
        const Result<std::shared_ptr<Network>> tuned =
            fine_tune(recipe, folder / "w.safetensors", "calc", frozen, windows);
        ASSERT_TRUE(tuned.ok()) << tuned.error().message;
        bool calc_moved = false, body_moved = false;
        for (const auto& [name, tensor] : state_of(**tuned)) {
            const bool same = torch::equal(tensor, before.at(name));
            if (name.find(".hps.") != std::string::npos) EXPECT_TRUE(same) << name;
            else if (name.find(".calc.") != std::string::npos) calc_moved |= !same;
            else body_moved |= !same;
        }
        EXPECT_TRUE(calc_moved);
        EXPECT_EQ(body_moved, !frozen);
    }
    EXPECT_EQ(fine_tune(recipe, folder / "w.safetensors", "ms", true, windows).error().kind, ErrorKind::Config);
}

TEST(TwoSteps, AStoppedTrainingGoesOnFromItsCheckpoint) {
    test::TemporaryFolder folder;
    const StudyWindows windows({balls(1, true), balls(2, true)}, {}, 1, {16, 16, 16}, 1, {0.1, 0.1, 0.1});
    Recipe recipe = tiny();
    recipe.steps = 8;
    recipe.checkpoint_every = 3;
    const Result<std::shared_ptr<Network>> whole = train_network(recipe, windows);
    TrainingCall call;
    call.checkpoint = folder / "c.safetensors";
    call.on_step = [](const StepReport& r) { return r.step != 5; };
    const Result<std::shared_ptr<Network>> stopped = train_network(recipe, windows, call);
    ASSERT_FALSE(stopped.ok());
    EXPECT_EQ(stopped.error().kind, ErrorKind::Retry);
    const Result<std::shared_ptr<Network>> resumed = train_network(recipe, windows, call);
    ASSERT_TRUE(resumed.ok()) << resumed.error().message;
    const NamedTensors a = state_of(**whole), b = state_of(**resumed);
    for (const auto& [name, tensor] : a) EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name;
}

TEST(TwoSteps, ASwinStudentTrainsInMixedPrecision) {
    Recipe recipe = tiny();
    recipe.architecture = {};
    recipe.architecture.type = "swin_unetr";
    recipe.window = {32, 32, 32};
    recipe.steps = 1;
    Sample big = balls(1, true);
    const auto padded = [](const torch::Tensor& x) { return torch::constant_pad_nd(x, {6, 6, 6, 6, 6, 6}); };
    big.image = padded(big.image);
    for (auto& [head, target] : big.targets) target = padded(target);
    const StudyWindows windows({big}, {}, 1, recipe.window, 1);
    double whole = 0, mixed = 0;
    TrainingCall call;
    call.on_step = [&](const StepReport& r) {
        (recipe.precision == "bfloat16" ? mixed : whole) = r.loss;
        return true;
    };
    ASSERT_TRUE(train_network(recipe, windows, call).ok());
    recipe.precision = "bfloat16";
    const Result<std::shared_ptr<Network>> student = train_network(recipe, windows, call);
    ASSERT_TRUE(student.ok()) << student.error().message;
    for (const torch::Tensor& p : (*student)->parameters()) EXPECT_EQ(p.scalar_type(), torch::kFloat);
    EXPECT_NEAR(mixed, whole, 0.05);
    EXPECT_NE(mixed, whole);
}

TEST(StudyWindows, FollowFromTheirNumberAndKeepLabelsInPlace) {
    const std::vector<Sample> studies = {balls(1, true), balls(2, true)};
    const StudyWindows windows(studies, {}, 1, {16, 16, 16}, 7, {0.1, 0.1, 0.2}),
        same(studies, {}, 1, {16, 16, 16}, 7, {0.1, 0.1, 0.2});
    bool moved = false;
    for (std::uint64_t n = 0; n < 10; ++n) {
        const Sample a = windows.sample(n), b = same.sample(n);
        EXPECT_TRUE(torch::equal(a.image, b.image));
        moved |= !torch::equal(a.image, windows.sample(n + 1).image);
        const torch::Tensor bright = a.image[0].gt(0.5);
        EXPECT_GT(dice(bright, a.targets.at("hps").logical_and(a.targets.at("calc").eq(0))), 0.8);
    }
    EXPECT_TRUE(moved);
    EXPECT_THROW(StudyWindows(studies, {}, 1, {24, 16, 16}, 7), std::invalid_argument);
    EXPECT_THROW(StudyWindows({}, {}, 1, {16, 16, 16}, 7), std::invalid_argument);
    EXPECT_EQ(train_student(tiny(), {}).error().kind, ErrorKind::Config);
}

TEST(StudyWindows, TakesTheShareOfLabelledOnes) {
    Sample mine = balls(1, true), theirs = balls(2, true);
    mine.image.fill_(1);
    theirs.image.fill_(0);
    const StudyWindows windows({mine}, {theirs}, 0.25, {16, 16, 16}, 3);
    double labelled = 0;
    for (std::uint64_t n = 0; n < 400; ++n) labelled += windows.sample(n).image.mean().item<double>();
    EXPECT_NEAR(labelled / 400, 0.25, 0.08);
}

/// A comparison of two seeds in a few seconds.
void write_tiny_comparison(const std::filesystem::path& folder) {
    const std::string recipe = R"(
steps: 3
window: [16, 16, 16]
placement: root
architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}
input: {spacing_mm: 4, hu_low: -250, hu_high: 1000, mean: 100, sd: 250}
heads: [{name: hps, classes: 5}, {name: ms, classes: 2}, {name: calc, classes: 1}]
level_weights: [1]
phantoms: {non_contrast_share: 0}
)";
    for (const char* name : {"teacher.yaml", "student.yaml", "baseline.yaml"})
        ASSERT_TRUE(write_file_durably(folder / name, std::string("seed: ") + std::to_string(name[0]) + recipe).ok());
    ASSERT_TRUE(write_file_durably(folder / "comparison.yaml", std::string_view(R"(
study: [18, 18, 18]
labelled: 3
labels_each: 1
unlabelled: 2
test: 2
recipes: {teacher: teacher.yaml, student: student.yaml, baseline: baseline.yaml}
frozen_head: {labelled: 2, test: 2, student: head.yaml, baseline: head.yaml}
)"))
                    .ok());
    const std::size_t at = recipe.find("heads:"), end = recipe.find("level_weights");
    ASSERT_TRUE(write_file_durably(folder / "head.yaml",
                                   recipe.substr(0, at) + "heads: [{name: heart, classes: 7}]\n" + recipe.substr(end))
                    .ok());
}

TEST(Comparison, IsTheSameWhetherOrNotItWasInterrupted) {
    test::TemporaryFolder folder;
    write_tiny_comparison(folder.path());
    ComparisonRun run;
    run.config = folder / "comparison.yaml";
    run.shapes = CARDIONODE_SOURCE_DIR "/models/train/shapes";
    run.seeds = 2;
    run.out = folder / "whole";
    Result<nlohmann::json> whole = compare_distillation(run);
    ASSERT_TRUE(whole.ok()) << whole.error().message;
    ASSERT_EQ(whole->at("seeds").size(), 2U);
    EXPECT_EQ(whole->at("seeds")[0]["arms"].size(), 5U);
    for (const auto& test : whole->at("tests")) EXPECT_EQ(test["gains"].size(), 2U);
    EXPECT_NE(whole->at("seeds")[0]["arms"][kStudentPseudo]["points"].dump(),
              whole->at("seeds")[1]["arms"][kStudentPseudo]["points"].dump());

    run.out = folder / "interrupted";
    int steps = 0;
    run.stop = [&] { return ++steps == 14; };  // amid the second student
    Result<nlohmann::json> part = compare_distillation(run);
    ASSERT_FALSE(part.ok());
    EXPECT_EQ(part.error().kind, ErrorKind::Retry);
    run.stop = {};
    part = compare_distillation(run);
    ASSERT_TRUE(part.ok()) << part.error().message;
    const auto without_cost = [](nlohmann::json j) {
        for (auto& seed : j["seeds"]) {
            for (auto& arm : seed["arms"]) arm.erase("cpu_seconds");
        }
        return j.dump();
    };
    EXPECT_EQ(without_cost(*part), without_cost(*whole));
    const std::string table = comparison_markdown(*whole);
    EXPECT_NE(table.find("| student-pseudo against student-labelled | landmark error, mm | primary |"),
              std::string::npos)
        << table;

    // The bodies that were made carry a new head.
    ComparisonRun frozen = run;
    frozen.bodies = folder / "whole";
    frozen.out = folder / "frozen";
    Result<nlohmann::json> heads = compare_frozen_head(frozen);
    ASSERT_TRUE(heads.ok()) << heads.error().message;
    EXPECT_TRUE(heads->at("seeds")[1]["arms"][kFrozenBaseline].contains("heart_dice"));
    frozen.out = folder / "whole";
    EXPECT_EQ(compare_frozen_head(frozen).error().kind, ErrorKind::Config) << "another comparison's folder";
    frozen.out = folder / "frozen2";
    frozen.bodies = folder / "nowhere";
    EXPECT_EQ(compare_frozen_head(frozen).error().kind, ErrorKind::Config);
}

TEST(Comparison, TheShippedConfigurationIsReadable) {
    const Result<ComparisonConfig> config =
        load_comparison(CARDIONODE_SOURCE_DIR "/models/train/comparisons/root.yaml");
    ASSERT_TRUE(config.ok()) << config.error().message;
    EXPECT_EQ(config->student.architecture.type, "swin_unetr");
    EXPECT_EQ(config->student.steps, config->baseline.steps);
    test::TemporaryFolder folder;
    std::ofstream(folder / "bad.yaml") << "labelled: 0\ncolour: red\nrecipes: {teacher: nowhere.yaml}\n";
    const Result<ComparisonConfig> bad = load_comparison(folder / "bad.yaml");
    ASSERT_FALSE(bad.ok());
    for (const char* part : {"bad.yaml:1: labelled", "colour", "recipes.teacher", "recipes.student"})
        EXPECT_NE(bad.error().message.find(part), std::string::npos) << part << " in " << bad.error().message;
}

}  // namespace
}  // namespace cardionode::train
