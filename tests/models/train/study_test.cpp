#include <gtest/gtest.h>

#include <fstream>

#include "conf/base/files.h"
#include "models/train/random.h"
#include "models/train/study_augment.h"
#include "models/train/study_source.h"
#include "models/train/trainer.h"
#include "models/train/validation.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::train {
namespace {

constexpr const char* kRecipe = R"(
seed: 4
steps: 12
batch: 2
window: [16, 16, 16]
architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}
heads: [{name: heart, classes: 1}, {name: calc, classes: 1}]
level_weights: [1]
optimiser: {learning_rate: 0.02, warm_up: 2, ema_decay: 0.9}
data: {studies: studies, share: 1, holdout: 0.4}
)";
constexpr const char* kNoChange =
    "augment: {rotate: {probability: 0}, scale: {probability: 0}, blur: {probability: 0}, low_resolution: "
    "{probability: 0}, gamma: {probability: 0}, noise: {probability: 0}, contrast: {probability: 0}}\n";

/// D, H, W differ, so that a mix-up of axes shows.
constexpr Sides kSize = {24, 30, 20};

class Studies : public ::testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(make_folder(folder / "studies").ok()); }

    Recipe recipe(const std::string& more = kNoChange) {
        const Result<Recipe> r = parse_recipe(kRecipe + more, "r.yaml", folder.path());
        if (!r) throw std::runtime_error(r.error().message);
        return *r;
    }
    /// The value of a voxel says where it is; "heart" is the half with small x, "calc" one voxel.
    Study study(int number, bool calc = true) {
        Study s;
        s.facts.patient_hash = "patient" + std::to_string(number);
        s.facts.source = "test";
        s.facts.size = kSize;
        s.facts.spacing_mm = {2, 2, 2};
        s.facts.input = input_words(recipe().input);
        for (std::int64_t z = 0; z < kSize[0]; ++z) {
            for (std::int64_t y = 0; y < kSize[1]; ++y) {
                for (std::int64_t x = 0; x < kSize[2]; ++x) {
                    s.image.push_back(value(z, y, x) + 0.0001F * static_cast<float>(number));
                    s.labels["heart"].push_back(x < 10);
                    if (calc) s.labels["calc"].push_back(z == 20 && y == 25 && x == 15);
                }
            }
        }
        return s;
    }
    static float value(std::int64_t z, std::int64_t y, std::int64_t x) {
        return -1 + 0.05F * static_cast<float>(z) + 0.001F * static_cast<float>(y) + 0.00002F * static_cast<float>(x);
    }
    std::filesystem::path write(int number, bool calc = true, bool half = false) {
        const auto file = folder / ("studies/" + std::to_string(number) + ".safetensors");
        const Result<void> written = write_study(file, study(number, calc), half);
        if (!written) throw std::runtime_error(written.error().message);
        return file;
    }
    test::TemporaryFolder folder;
};

TEST_F(Studies, AWindowIsReadWhereItLies) {
    const Result<StudyFile> file = StudyFile::open(write(0));
    ASSERT_TRUE(file.ok()) << file.error().message;
    EXPECT_EQ(file->facts().size, kSize);
    EXPECT_EQ(file->facts().heads, (std::vector<std::string>{"calc", "heart"}));
    EXPECT_EQ(file->facts().study_hash, hash_of_voxels(study(0).image));
    const Sides begin = {-2, 27, 13}, size = {5, 6, 9};  // beyond the study at three sides
    const auto image = file->image(begin, size, 9), whole = file->image({}, kSize, 0);
    const auto labels = file->labels("heart", {0, 0, 5}, {1, 1, 10});
    ASSERT_TRUE(image.ok() && whole.ok() && labels.ok());
    EXPECT_EQ(*whole, study(0).image);
    std::size_t at = 0;
    for (std::int64_t z = -2; z < 3; ++z) {
        for (std::int64_t y = 27; y < 33; ++y) {
            for (std::int64_t x = 13; x < 22; ++x, ++at) {
                const bool in = z >= 0 && y < kSize[1] && x < kSize[2];
                ASSERT_EQ((*image)[at], in ? value(z, y, x) : 9) << z << " " << y << " " << x;
            }
        }
    }
    EXPECT_EQ(*labels, (std::vector<std::uint8_t>{1, 1, 1, 1, 1, 0, 0, 0, 0, 0}));
}

TEST_F(Studies, HalfPrecisionRoundsAndKeepsTheHash) {
    const Result<StudyFile> file = StudyFile::open(write(0, true, true));
    ASSERT_TRUE(file.ok());
    EXPECT_EQ(file->facts().study_hash, hash_of_voxels(study(0).image));
    const auto image = file->image({-1, 0, 0}, {2, 2, 2}, 9);
    EXPECT_EQ((*image)[0], 9);
    EXPECT_NEAR((*image)[4], value(0, 0, 0), 1e-3);
}

TEST_F(Studies, RefusesWhatIsNoStudyOrWasMadeForAnotherInput) {
    std::ofstream(folder / "studies/junk.safetensors") << "junk, and more of it";
    const Result<StudySource> junk = StudySource::open(recipe(), StudySource::Part::Training);
    ASSERT_FALSE(junk.ok());
    EXPECT_NE(junk.error().message.find("junk.safetensors"), std::string::npos) << junk.error().message;
    std::filesystem::remove(folder / "studies/junk.safetensors");
    for (int n = 0; n < 6; ++n) write(n);
    const Result<StudySource> other =
        StudySource::open(recipe(std::string(kNoChange) + "input: {hu_high: 900}\n"), StudySource::Part::Training);
    ASSERT_FALSE(other.ok());
    EXPECT_NE(other.error().message.find("another input"), std::string::npos) << other.error().message;
    EXPECT_FALSE(parse_recipe(std::string(kRecipe) + "augment: {rotate: {probability: 2}}\n", "r.yaml").ok());
}

TEST_F(Studies, ThePatientDecidesOnceAndForEverWhoIsHeldOut) {
    int held = 0;
    for (int n = 0; n < 1000; ++n) held += is_held_out("p" + std::to_string(n), 0.2, 0);
    EXPECT_NEAR(held, 200, 45);
    for (int n = 0; n < 12; ++n) write(n);
    const auto training = StudySource::open(recipe(), StudySource::Part::Training),
               rest = StudySource::open(recipe(), StudySource::Part::HeldOut);
    ASSERT_TRUE(training.ok() && rest.ok());
    EXPECT_EQ(training->size() + rest->size(), 12u);
    EXPECT_GT(rest->size(), 0u);
    for (std::size_t i = 0; i < rest->size(); ++i) {
        for (std::size_t k = 0; k < training->size(); ++k)
            EXPECT_NE(rest->study(i).facts().patient_hash, training->study(k).facts().patient_hash);
    }
    // A larger share only adds patients, and other seeds draw other ones.
    int moved = 0, others = 0;
    for (int n = 0; n < 100; ++n) {
        const std::string p = "p" + std::to_string(n);
        moved += is_held_out(p, 0.2, 0) && !is_held_out(p, 0.4, 0);
        others += is_held_out(p, 0.2, 0) != is_held_out(p, 0.2, 1);
    }
    EXPECT_EQ(moved, 0);
    EXPECT_GT(others, 5);
}

TEST_F(Studies, WindowsAreTheStudysVoxelsAndOftenHoldTheRareOnes) {
    for (int n = 0; n < 3; ++n) write(n);
    Recipe r = recipe();
    r.data.holdout = 0;
    const auto source = StudySource::open(r, StudySource::Part::Training);
    ASSERT_TRUE(source.ok()) << source.error().message;
    int rare = 0;
    std::set<float> starts;
    for (std::uint64_t n = 0; n < 120; ++n) {
        const Sample s = source->sample(n);
        EXPECT_TRUE(torch::equal(s.image, source->sample(n).image)) << "a number is a window";
        const float first = s.image[0][0][0][0].item<float>();
        starts.insert(first);
        const float step = s.image[0][15][0][0].item<float>() - first;
        EXPECT_NEAR(step, 15 * 0.05F, 1e-4);
        rare += s.targets.at("calc").sum().item<std::int64_t>() > 0;
        EXPECT_EQ(s.targets.at("heart").sizes(), (std::vector<std::int64_t>{16, 16, 16}));
    }
    EXPECT_GT(starts.size(), 60u);
    EXPECT_GT(rare, 70);
    r.data.rare_share = 0;
    const auto anywhere = StudySource::open(r, StudySource::Part::Training);
    int by_chance = 0;
    for (std::uint64_t n = 0; n < 120; ++n)
        by_chance += anywhere->sample(n).targets.at("calc").sum().item<std::int64_t>() > 0;
    EXPECT_LT(by_chance, rare - 15);
}

TEST_F(Studies, ATurnMovesImageAndLabelsAlike) {
    // A field that is linear in the place stays linear: the turned value is that of the turned place.
    AugmentRecipe augment;
    augment.rotate = 1, augment.rotate_degrees = 10, augment.scale = 1, augment.scale_most = 1.2;
    const std::array<int, 3> window = {8, 10, 12};
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        const Turn turn = draw_turn(augment, seed);
        ASSERT_FALSE(is_identity(turn));
        const auto sides = sides_before_turn(turn, window);
        torch::Tensor source = torch::zeros({sides[0], sides[1], sides[2]});
        const auto middle = [](std::int64_t side) { return 0.5F * static_cast<float>(side - 1); };
        for (std::int64_t z = 0; z < sides[0]; ++z) {
            for (std::int64_t y = 0; y < sides[1]; ++y) {
                for (std::int64_t x = 0; x < sides[2]; ++x) {
                    source[z][y][x] = 1.0F * (static_cast<float>(z) - middle(sides[0])) +
                                      10.0F * (static_cast<float>(y) - middle(sides[1])) +
                                      100.0F * (static_cast<float>(x) - middle(sides[2]));
                }
            }
        }
        const torch::Tensor out = turned(source, turn, window, false);
        for (const std::array<int, 3>& at : {std::array<int, 3>{0, 0, 0}, {7, 9, 11}, {3, 8, 2}}) {
            double expected = 0;
            const double weights[3] = {1, 10, 100};
            for (std::size_t i = 0; i < 3; ++i) {
                double place = 0;
                for (std::size_t j = 0; j < 3; ++j) place += turn[i][j] * (at[j] - 0.5 * (window[j] - 1));
                expected += weights[i] * place;
            }
            EXPECT_NEAR(out[at[0]][at[1]][at[2]].item<double>(), expected, 0.05) << seed;
        }
        const torch::Tensor labels = turned(source.gt(0).to(torch::kFloat), turn, window, true);
        EXPECT_TRUE(labels.eq(0).logical_or(labels.eq(1)).all().item<bool>());
        const double differ = labels.ne(out.gt(0).to(torch::kFloat)).to(torch::kFloat).mean().item<double>();
        EXPECT_LT(differ, 0.06) << "only at the border";
    }
}

TEST_F(Studies, ChangesStayInRangeAndAreDecidedByTheSeed) {
    const torch::Tensor image = torch::linspace(-1, 2, 16 * 16 * 16).view({16, 16, 16});
    AugmentRecipe all;
    all.blur = all.low_resolution = all.gamma = all.noise = all.contrast = 1;
    all.noise_most = 0.2;
    const torch::Tensor a = changed(image, all, 7, -1, 2), b = changed(image, all, 7, -1, 2),
                        c = changed(image, all, 8, -1, 2);
    EXPECT_TRUE(torch::equal(a, b));
    EXPECT_FALSE(torch::equal(a, c));
    EXPECT_GE(a.min().item<float>(), -1);
    EXPECT_LE(a.max().item<float>(), 2);
    AugmentRecipe none;
    none.blur = none.low_resolution = none.gamma = none.noise = none.contrast = 0;
    EXPECT_TRUE(torch::equal(changed(image, none, 7, -1, 2), image));
    AugmentRecipe blur = none;
    blur.blur = 1;
    torch::Tensor spike = torch::zeros({9, 9, 9});
    spike[4][4][4] = 1;
    const torch::Tensor soft = changed(spike, blur, 3, 0, 1);
    EXPECT_NEAR(soft.sum().item<float>(), 1, 1e-4);
    EXPECT_LT(soft.max().item<float>(), 0.9);
}

TEST_F(Studies, TrainingOnThemResumesBitForBitAndNoticesOtherStudies) {
    for (int n = 0; n < 6; ++n) write(n, n % 2 == 0);  // "calc" is labelled in every second study alone
    const Recipe r = recipe("");                       // with the default changes
    const auto source = StudySource::open(r, StudySource::Part::Training);
    ASSERT_TRUE(source.ok()) << source.error().message;
    Result<Trainer> whole = Trainer::create(r), first = Trainer::create(r), second = Trainer::create(r);
    const Result<void> ran = whole->run(*source, {}, 8);
    ASSERT_TRUE(ran.ok()) << ran.error().message;
    ASSERT_TRUE(first->run(*source, {}, 3).ok());
    ASSERT_TRUE(first->save_checkpoint(folder / "c.safetensors").ok());
    ASSERT_TRUE(second->load_checkpoint(folder / "c.safetensors").ok());
    const auto again = StudySource::open(r, StudySource::Part::Training);
    ASSERT_TRUE(second->run(*again, {}, 8).ok());
    const NamedTensors a = state_of(whole->network()), b = state_of(second->network());
    for (const auto& [name, tensor] : a) EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name;

    for (int n = 6; n < 12; ++n) write(n);
    const auto more = StudySource::open(r, StudySource::Part::Training);
    ASSERT_GT(more->size(), source->size());
    Result<Trainer> third = Trainer::create(r);
    ASSERT_TRUE(third->load_checkpoint(folder / "c.safetensors").ok());
    const Result<void> refused = third->run(*more, {}, 8);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Config);
}

TEST_F(Studies, ABadStudyEndsTheTrainingWithFileAndStep) {
    const auto file = write(3);
    Recipe r = recipe();
    r.data.holdout = 0;
    const auto source = StudySource::open(r, StudySource::Part::Training);
    ASSERT_TRUE(source.ok());
    std::filesystem::resize_file(file, std::filesystem::file_size(file) / 3);
    Result<Trainer> trainer = Trainer::create(r);
    const Result<void> ran = trainer->run(*source, {});
    ASSERT_FALSE(ran.ok());
    EXPECT_EQ(ran.error().kind, ErrorKind::Reject);
    EXPECT_NE(ran.error().message.find("3.safetensors"), std::string::npos) << ran.error().message;
    EXPECT_NE(ran.error().message.find("step 1"), std::string::npos) << ran.error().message;
}

TEST_F(Studies, AShareOfWindowsIsMixedIn) {
    class Constant final : public SampleSource {
    public:
        Sample sample(std::uint64_t) const override {
            Sample s;
            s.image = torch::full({1, 2, 2, 2}, 5.0F);
            return s;
        }
    };
    for (int n = 0; n < 2; ++n) write(n);
    Recipe r = recipe();
    r.data.holdout = 0;
    const auto source = StudySource::open(r, StudySource::Part::Training);
    const Constant phantoms;
    const MixedSource mixed(phantoms, *source, 0.3, 1);
    int studies = 0;
    for (std::uint64_t n = 0; n < 200; ++n) studies += mixed.sample(n).image.size(1) == 16;
    EXPECT_NEAR(studies, 60, 20);
}

TEST_F(Studies, ValidationOnHeldOutStudiesCountsTheirLabelsAlone) {
    for (int n = 0; n < 2; ++n) write(n, false);
    Recipe r = recipe();
    r.data.holdout = 0;
    const auto source = StudySource::open(r, StudySource::Part::Training);
    Result<Trainer> trainer = Trainer::create(r);
    const ValidationResult result = validate(trainer->network(), *source, r, torch::kCPU);
    EXPECT_TRUE(result.has("heart"));
    EXPECT_FALSE(result.has("calc")) << "not labelled, not counted";
    EXPECT_GE(result.mean_dice("heart"), 0);
    EXPECT_LE(result.mean_dice("heart"), 1);
}

}  // namespace
}  // namespace cardionode::train
