#include "pipeline/runner/looks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/postprocess/postprocess.h"
#include "pipeline/preprocess/preprocess.h"
#include "tests/support/heart_phantom.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::HasSubstr;

namespace {

/// What a perfect second network would say about the root that test::prediction() is about, on any window.
Prediction finer_prediction(const Grid& grid) {
    HeadProbabilities hps = background_only("hps", grid, 5), calc = background_only("calc", grid, 1);
    for (int c = 1; c <= 5; ++c) paint(hps, c, 0.95F, ball(root_points()[c - 1], 4));
    paint(calc, 1, 0.7F, ball({{3, 3, 4}}, 4));
    return {{hps, calc}, "cpu", {}};
}

class Looks : public testing::Test {
protected:
    Looks() {
        SecondLookManifest& second = manifest_.second_look.emplace();
        second.input.spacing_mm = {1, 1, 1};
        second.input.hu_low = -200;
        second.input.hu_high = 1300;
        second.input.mean = 250;
        second.input.sd = 250;
        second.window = {64, 64, 64};
        second.heads = {"hps", "calc"};
        second.weights = {"second.safetensors", std::string(64, 'b')};
        model_.second = [this](const Volume& image, const LabelMap*, const Progress&) -> Result<Prediction> {
            windows_.push_back(image);
            return finer_prediction(image.grid);
        };
    }

    Result<void> look(const LookSettings& settings = {}) {
        return add_second_look(prediction_, ct_, manifest_, model_, settings);
    }
    PatientPoint middle_of(const Volume& window) const {
        return window.grid.to_patient(ContinuousIndex{{31.5, 31.5, 31.5}});
    }

    /// Painted once: copies are quick.
    static const Prediction& first() {
        static const Prediction p = prediction();
        return p;
    }
    static const Volume& heart_ct() {
        static const Volume ct = contrast_ct();
        return ct;
    }

    BundleManifest manifest_ = manifest();
    Volume ct_ = heart_ct();
    Prediction prediction_ = first();
    Model model_ = [](const Volume&, const Progress&) -> Result<Prediction> { return first(); };
    std::vector<Volume> windows_;
};

PatientPoint middle_of_five() {
    Vec3 sum{};
    for (int p = 0; p < 5; ++p) sum = add(sum, root_points()[static_cast<std::size_t>(p)].lps_mm);
    return {scale(sum, 0.2)};
}

}  // namespace

TEST_F(Looks, TheWindowStandsRoundTheRootAndHoldsTheNativeCt) {
    const auto done = look();
    ASSERT_TRUE(done.ok()) << done.error().message;
    ASSERT_EQ(windows_.size(), 1u);
    EXPECT_LT(distance_mm(middle_of(windows_[0]), middle_of_five()), 0.5);
    EXPECT_EQ(windows_[0].grid.spacing(), (Vec3{1, 1, 1}));
    // The calcium of the phantom is 6 mm wide, with edges that a grid of 2 mm would have blurred.
    const auto at = [&](const PatientPoint& p) { return windows_[0].at(*windows_[0].grid.nearest_voxel(p)); };
    EXPECT_NEAR(at({{3, 3, 4}}), (1100 - 250) / 250.0, 0.01);
    EXPECT_NEAR(at({{3, 3, 4 + 4.6}}), (350 - 250) / 250.0, 0.01);
    EXPECT_NEAR(at({{-25, -20, 20}}), (40 - 250) / 250.0, 0.01);
    ASSERT_TRUE(prediction_.second);
    EXPECT_EQ(prediction_.second->windows, 1);
    EXPECT_EQ(prediction_.second->heads.size(), 2u);
    EXPECT_TRUE(prediction_.notes.empty());
}

TEST_F(Looks, ThreePointsAreEnoughAndAStrayOneDoesNotPull) {
    auto& hps = prediction_.heads[1];
    hps = background_only("hps", hps.channels[0].grid, 5);
    for (int c = 1; c <= 3; ++c) paint(hps, c, 0.8F, ball(root_points()[c - 1], 4));
    paint(hps, 4, 0.8F, ball({{60, 60, 70}}, 4));
    ASSERT_TRUE(look().ok());
    EXPECT_LT(norm(middle_of(windows_.at(0)).lps_mm), 1) << "centroid of the three hinge points";
}

TEST_F(Looks, WithoutPointsTheBorderOfVentricleAndAortaIsLookedAt) {
    auto& hps = prediction_.heads[1];
    hps = background_only("hps", hps.channels[0].grid, 5);
    ASSERT_TRUE(look().ok());
    ASSERT_GE(windows_.size(), 1u);
    EXPECT_LT(norm(middle_of(windows_[0]).lps_mm), 2);
    EXPECT_TRUE(prediction_.second);
}

TEST_F(Looks, WithNothingToLookAtThereIsANoteAndNoSecondLook) {
    for (auto& head : prediction_.heads) {
        head = background_only(head.head, head.channels[0].grid, static_cast<int>(head.channels.size()) - 1);
    }
    ASSERT_TRUE(look().ok());
    EXPECT_TRUE(windows_.empty());
    EXPECT_FALSE(prediction_.second);
    ASSERT_EQ(prediction_.notes.size(), 1u);
    EXPECT_THAT(prediction_.notes[0], HasSubstr("no second look"));
}

TEST_F(Looks, ARootFarFromTheMiddleIsLookedAtAgain) {
    auto& hps = prediction_.heads[1];
    hps = background_only("hps", hps.channels[0].grid, 5);
    for (int c = 1; c <= 5; ++c) {
        paint(hps, c, 0.8F, ball({add(root_points()[c - 1].lps_mm, {14, 0, 0})}, 4));
    }
    ASSERT_TRUE(look().ok());
    ASSERT_EQ(windows_.size(), 2u);
    EXPECT_NEAR(distance_mm(middle_of(windows_[0]), middle_of_five()), 14, 0.5);
    EXPECT_LT(distance_mm(middle_of(windows_[1]), middle_of_five()), 0.5);
    EXPECT_EQ(prediction_.second->windows, 2);
    EXPECT_EQ(prediction_.notes.size(), 1u);
}

TEST_F(Looks, ARootThatRunsAwayIsNotChasedForEver) {
    model_.second = [this](const Volume& image, const LabelMap*, const Progress&) -> Result<Prediction> {
        windows_.push_back(image);
        Prediction p = finer_prediction(image.grid);
        p.heads[0] = background_only("hps", image.grid, 5);
        const PatientPoint middle = middle_of(image);
        for (int c = 1; c <= 5; ++c) {
            paint(p.heads[0], c, 0.9F, ball({add(middle.lps_mm, {18, 4.0 * c - 12, 0})}, 1.5));
        }
        return p;
    };
    ASSERT_TRUE(look().ok());
    EXPECT_EQ(windows_.size(), 3u);
    EXPECT_EQ(prediction_.second->windows, 3);
}

TEST_F(Looks, ABundleOfOneLookIsLeftAlone) {
    manifest_.second_look.reset();
    ASSERT_TRUE(look().ok());
    EXPECT_TRUE(windows_.empty());
    EXPECT_FALSE(prediction_.second);
    EXPECT_TRUE(prediction_.notes.empty());
}

TEST_F(Looks, ASecondChannelIsTheFirstLooksChambersOnTheWindow) {
    manifest_.second_look->input.channels = 2;
    model_.second = [this](const Volume& image, const LabelMap* chambers, const Progress&) -> Result<Prediction> {
        if (!chambers) return bug_error("no chambers");
        EXPECT_TRUE(chambers->grid.same_as(image.grid));
        EXPECT_EQ(chambers->at(*chambers->grid.nearest_voxel({{0, 0, 10}})), 6) << "aorta";
        EXPECT_EQ(chambers->at(*chambers->grid.nearest_voxel({{0, 0, -10}})), 3) << "left ventricle";
        windows_.push_back(image);
        return finer_prediction(image.grid);
    };
    const auto done = look();
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_EQ(windows_.size(), 1u);
}

TEST_F(Looks, AnErrorOfTheSecondNetworkIsNotSwallowed) {
    model_.second = [](const Volume&, const LabelMap*, const Progress&) -> Result<Prediction> {
        return retry_error("memory full");
    };
    const auto done = look();
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().kind, ErrorKind::Retry);
}

TEST_F(Looks, AugmentationAveragesProbabilitiesAndTellsTheSpread) {
    int pass = 0;
    model_.second = [&](const Volume& image, const LabelMap*, const Progress&) -> Result<Prediction> {
        // The network believes its own grid; each pass is 1 mm off in another direction, the first is right.
        Prediction p = finer_prediction(image.grid);
        p.heads[0] = background_only("hps", image.grid, 5);
        const Vec3 off = pass == 0   ? Vec3{}
                         : pass == 1 ? Vec3{1, 0, 0}
                         : pass == 2 ? Vec3{-1, 0, 0}
                         : pass == 3 ? Vec3{0, 1, 0}
                                     : Vec3{0, -1, 0};
        for (int c = 1; c <= 5; ++c) paint(p.heads[0], c, 0.9F, ball({add(root_points()[c - 1].lps_mm, off)}, 4));
        ++pass;
        return p;
    };
    LookSettings settings;
    settings.augmentation = Augmentation::Shift;
    ASSERT_TRUE(look(settings).ok());
    EXPECT_EQ(pass, 5);
    const PassPoints& passes = prediction_.second->passes;
    EXPECT_EQ(passes.passes, 5);
    EXPECT_EQ(passes.points.at("hinge_left").size(), 5u);
    const auto done = postprocess(ct_, prediction_, manifest_, {});
    ASSERT_TRUE(done.ok()) << done.error().message;
    const Landmark* hinge = done->findings.landmark("hinge_left");
    ASSERT_TRUE(hinge->spread_mm);
    EXPECT_NEAR(*hinge->spread_mm, std::sqrt(4.0 / 5), 0.15);
    EXPECT_EQ(hinge->passes_found, 5);
    EXPECT_LT(distance_mm(*hinge->position, root_points()[1]), 0.3);
    for (const HeadProbabilities& head : prediction_.second->heads) {
        for (std::size_t v = 0; v < head.channels[0].voxels.size(); v += 997) {
            float sum = 0;
            for (const ScoreMap& c : head.channels) sum += c.voxels[v];
            EXPECT_NEAR(sum, 1, 1e-5);
        }
    }
}

TEST_F(Looks, ScaledPassesComeBackToTheirPlaces) {
    // A bright blob 35 mm from the window's middle: without its scale, a pass would put it 1.4 mm off.
    const PatientPoint blob{{21, -22, -10}};
    each_voxel(ct_.grid, [&](const PatientPoint& p, std::size_t o) {
        ct_.voxels[o] = 1000 * std::exp(-std::pow(static_cast<float>(distance_mm(p, blob)) / 5.0F, 2.0F));
    });
    model_.second = [&](const Volume& image, const LabelMap*, const Progress&) -> Result<Prediction> {
        EXPECT_EQ(image.grid.spacing(), (Vec3{1, 1, 1})) << "the network is told its own spacing";
        HeadProbabilities hps = background_only("hps", image.grid, 5), calc = background_only("calc", image.grid, 1);
        for (std::size_t v = 0; v < image.voxels.size(); ++v) {
            const float bright = std::clamp((image.voxels[v] * 250 + 250) / 1000, 0.0F, 1.0F);
            hps.channels[0].voxels[v] = 1 - bright;
            hps.channels[2].voxels[v] = bright;
        }
        return Prediction{{hps, calc}, "cpu", {}};
    };
    LookSettings settings;
    settings.augmentation = Augmentation::ShiftAndScale;
    ASSERT_TRUE(look(settings).ok());
    const auto& seen = prediction_.second->passes.points.at("hinge_left");
    ASSERT_EQ(seen.size(), 5u);
    for (const PatientPoint& p : seen) EXPECT_LT(distance_mm(p, blob), 0.3);
}

TEST_F(Looks, OfABundleOfOneLookTheFirstIsAugmented) {
    manifest_.second_look.reset();
    manifest_.input.spacing_mm = {4, 4, 4};
    int passes = 0;
    model_.first = [&](const Volume& image, const Progress&) -> Result<Prediction> {
        ++passes;
        return Prediction{{background_only("hps", image.grid, 5)}, "cpu", {}};
    };
    LookSettings settings;
    settings.augmentation = Augmentation::Shift;
    const auto image = to_network_grid(ct_, manifest_.input);
    ASSERT_TRUE(image.ok());
    const auto seen = first_look(ct_, *image, manifest_, model_, settings);
    ASSERT_TRUE(seen.ok()) << seen.error().message;
    EXPECT_EQ(passes, 5);
    EXPECT_EQ(seen->passes.passes, 5);
    EXPECT_TRUE(seen->heads[0].channels[0].grid.same_as(image->grid));
}

TEST(AugmentationWord, IsKnownOrRefused) {
    EXPECT_EQ(augmentation_from("none"), Augmentation::None);
    EXPECT_EQ(augmentation_from("shift"), Augmentation::Shift);
    EXPECT_EQ(augmentation_from("shift_scale"), Augmentation::ShiftAndScale);
    EXPECT_FALSE(augmentation_from("mirror"));
}
