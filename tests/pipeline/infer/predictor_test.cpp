#include "pipeline/infer/predictor.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/files.h"
#include "models/autocast.h"
#include "models/network.h"
#include "models/sliding_window.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using ::testing::HasSubstr;

Grid grid_of(Vec3 spacing, std::array<std::int64_t, 3> size) {
    auto grid = Grid::create({{-10, 20, 30}}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, spacing, size);
    if (!grid) throw std::runtime_error(grid.error().message);
    return *grid;
}

class TinyBundle : public ::testing::Test {
protected:
    void SetUp() override {
        bundle.folder = folder.path();
        BundleManifest& m = bundle.manifest;
        m.name = "tiny";
        m.architecture.type = "plain_conv_unet";
        m.architecture.features = {4, 8};
        m.architecture.strides = {{1, 1, 1}, {2, 2, 2}};
        m.window.size = {16, 16, 16};
        m.heads = {{"points", "points", "", {ClassManifest{}, ClassManifest{}}, 1, 0.3},
                   {"calc", "labels", "", {ClassManifest{}}, 1, 0.3}};
        m.weights.file = "w.safetensors";
        torch::manual_seed(11);
        network = make_network(network_options(m)).value();
        network->eval();
        ASSERT_TRUE(save_weights(*network, bundle.weights_file()).ok());
        torch::Tensor voxels = torch::randn({18, 20, 40});
        image.voxels.assign(voxels.data_ptr<float>(), voxels.data_ptr<float>() + voxels.numel());
    }

    Predictor predictor() {
        auto loaded = Predictor::load(bundle, on_cpu);
        if (!loaded) throw std::runtime_error(loaded.error().message);
        return std::move(*loaded);
    }

    test::TemporaryFolder folder;
    Bundle bundle;
    std::shared_ptr<Network> network;
    Volume image{grid_of({2, 2, 2}, {40, 20, 18}), 0.0f};
    DeviceChoice on_cpu{"cpu", false, 1};  // float32: compared to the last digits
};

TEST_F(TinyBundle, MixedPrecisionOnTheCpuChangesProbabilitiesALittle) {
    auto exact = predictor().run(image);
    on_cpu.mixed_precision = true;
    auto narrow = predictor().run(image);
    ASSERT_TRUE(exact.ok() && narrow.ok());
    float most = 0;
    for (std::size_t c = 0; c < 3; ++c) {
        const auto &a = exact->heads[0].channels[c].voxels, &b = narrow->heads[0].channels[c].voxels;
        for (std::size_t v = 0; v < a.size(); ++v) most = std::max(most, std::abs(a[v] - b[v]));
    }
    EXPECT_LT(most, 0.05F);
    if (narrow_on_cpu() == torch::kBFloat16) EXPECT_GT(most, 0) << "it ran in float32";
    else EXPECT_EQ(most, 0) << "this CPU has no bfloat16 to gain from";
}

TEST_F(TinyBundle, GivesTheBlendedProbabilitiesOfEachHeadOnTheImagesGrid) {
    auto prediction = predictor().run(image);
    ASSERT_TRUE(prediction.ok()) << prediction.error().message;
    EXPECT_EQ(prediction->device, "cpu");
    EXPECT_TRUE(prediction->notes.empty());
    ASSERT_EQ(prediction->heads.size(), 2u);
    EXPECT_EQ(prediction->heads[0].head, "points");
    EXPECT_EQ(prediction->heads[0].channels.size(), 3u);
    EXPECT_EQ(prediction->heads[1].head, "calc");
    EXPECT_EQ(prediction->heads[1].channels.size(), 2u);

    torch::NoGradGuard no_grad;
    const auto voxels = torch::from_blob(image.voxels.data(), {1, 18, 20, 40});
    const auto logits = slide(voxels, bundle.manifest.window, {3, 2}, 1, [&](const torch::Tensor& batch) {
        const auto heads = network->forward(batch);
        return std::vector<torch::Tensor>{heads[0].levels[0], heads[1].levels[0]};
    });
    const torch::Tensor expected = torch::softmax(logits->at(0), 0);
    float smallest = 1, largest = 0;
    for (int c = 0; c < 3; ++c) {
        const ScoreMap& map = prediction->heads[0].channels[static_cast<std::size_t>(c)];
        EXPECT_TRUE(map.grid.same_as(image.grid));
        for (const VoxelIndex at : {VoxelIndex{{0, 0, 0}}, VoxelIndex{{39, 19, 17}}, VoxelIndex{{7, 3, 11}}}) {
            const float p = map.at(at);
            EXPECT_NEAR(p, expected[c][at.ijk[2]][at.ijk[1]][at.ijk[0]].item<float>(), 1e-6);
            smallest = std::min(smallest, p);
            largest = std::max(largest, p);
        }
    }
    EXPECT_LT(smallest, largest) << "a constant answer would pass for any order of axes";
}

TEST_F(TinyBundle, ImageSmallerThanTheWindowKeepsItsSize) {
    const Volume small(grid_of({2, 2, 2}, {9, 20, 5}), 0.5f);
    auto prediction = predictor().run(small);
    ASSERT_TRUE(prediction.ok()) << prediction.error().message;
    EXPECT_TRUE(prediction->heads[0].channels[0].grid.same_as(small.grid));
}

TEST_F(TinyBundle, SameImageGivesTheSameAnswer) {
    Predictor p = predictor();
    auto first = p.run(image), second = p.run(image);
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(first->heads[0].channels[1].voxels, second->heads[0].channels[1].voxels);
}

TEST_F(TinyBundle, ReportsProgressAndCanBeCancelled) {
    std::vector<int> seen;
    auto prediction = predictor().run(image, [&](int done, int total) {
        EXPECT_EQ(total, 2 * 2 * 4);
        seen.push_back(done);
        return done < 3;
    });
    ASSERT_FALSE(prediction.ok());
    EXPECT_EQ(prediction.error().kind, ErrorKind::Retry);
    EXPECT_THAT(seen, ::testing::ElementsAre(1, 2, 3));
}

TEST_F(TinyBundle, RefusesAnImageOnAnotherGrid) {
    auto prediction = predictor().run(Volume(grid_of({1, 2, 2}, {40, 20, 18}), 0.0f));
    ASSERT_FALSE(prediction.ok());
    EXPECT_EQ(prediction.error().kind, ErrorKind::Bug);
    EXPECT_THAT(prediction.error().message, HasSubstr("spacing"));
}

TEST_F(TinyBundle, RefusesValuesThatAreNotFinite) {
    image.voxels[77] = std::numeric_limits<float>::quiet_NaN();
    auto prediction = predictor().run(image);
    ASSERT_FALSE(prediction.ok());
    EXPECT_EQ(prediction.error().kind, ErrorKind::Bug);
}

TEST_F(TinyBundle, MissingWeightsAreAConfigError) {
    std::filesystem::remove(bundle.weights_file());
    auto loaded = Predictor::load(bundle, on_cpu);
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
    EXPECT_THAT(loaded.error().message, HasSubstr("w.safetensors"));
}

TEST_F(TinyBundle, DamagedWeightsAreAConfigError) {
    std::filesystem::resize_file(bundle.weights_file(), std::filesystem::file_size(bundle.weights_file()) - 5);
    auto loaded = Predictor::load(bundle, on_cpu);
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
}

TEST_F(TinyBundle, WeightsOfAnotherShapeAreNamedByTensor) {
    bundle.manifest.heads[1].classes.push_back(ClassManifest{});
    auto loaded = Predictor::load(bundle, on_cpu);
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
    EXPECT_THAT(loaded.error().message, HasSubstr("'seg_layers.calc.0.weight' has the shape [2, 4, 1, 1, 1]"));
}

TEST_F(TinyBundle, UnknownDeviceIsAConfigError) {
    for (const char* word : {"gpu", "cuda:", "cuda:-1", "cuda:x", "", "cpu:0"}) {
        auto loaded = Predictor::load(bundle, {word, true, 1});
        ASSERT_FALSE(loaded.ok()) << word;
        EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
    }
}

TEST_F(TinyBundle, AutoWorksWithAndWithoutAGpu) {
    auto loaded = Predictor::load(bundle, {"auto", true, 1});
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    auto prediction = loaded->run(image);
    ASSERT_TRUE(prediction.ok()) << prediction.error().message;
    EXPECT_EQ(prediction->device == "cpu", !torch::cuda::is_available());
}

TEST_F(TinyBundle, AnAbsentGpuAskedForByNameIsAConfigError) {
    auto loaded = Predictor::load(bundle, {"cuda:63", true, 1});
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
    EXPECT_THAT(loaded.error().message, HasSubstr("cuda:63"));
}

/// Two networks; the second one sees 16 mm cubes at 1 mm.
class TwoLookBundle : public TinyBundle {
protected:
    void SetUp() override {
        TinyBundle::SetUp();
        second_of(1);
    }
    void second_of(int channels) {
        SecondLookManifest& second = bundle.manifest.second_look.emplace();
        second.architecture = bundle.manifest.architecture;
        second.architecture.features = {6, 8};
        second.input.spacing_mm = {1, 1, 1};
        second.input.channels = channels;
        second.window = {16, 16, 16};
        second.heads = {"calc"};
        second.weights.file = "second.safetensors";
        torch::manual_seed(12);
        finer = make_network(second_look_options(bundle.manifest)).value();
        finer->eval();
        ASSERT_TRUE(save_weights(*finer, bundle.second_weights_file()).ok());
    }
    Volume window() const {
        Volume w(grid_of({1, 1, 1}, {16, 16, 16}), 0.0f);
        std::copy_n(image.voxels.begin(), w.voxels.size(), w.voxels.begin());
        return w;
    }
    void expect_calc_of(const torch::Tensor& input, const Prediction& prediction) {
        torch::NoGradGuard no_grad;
        const auto expected = torch::softmax(finer->forward(input.unsqueeze(0))[0].levels[0][0], 0).contiguous();
        ASSERT_EQ(prediction.heads.size(), 1u);
        EXPECT_EQ(prediction.heads[0].head, "calc");
        ASSERT_EQ(prediction.heads[0].channels.size(), 2u);
        for (std::size_t v = 0; v < 4096; v += 97) {
            EXPECT_NEAR(prediction.heads[0].channels[1].voxels[v], expected.data_ptr<float>()[4096 + v], 1e-5);
        }
    }
    std::shared_ptr<Network> finer;
};

TEST_F(TwoLookBundle, EachNetworkAnswersWithItsOwnHeads) {
    Predictor p = predictor();
    auto first = p.run(image);
    ASSERT_TRUE(first.ok()) << first.error().message;
    EXPECT_EQ(first->heads.size(), 2u);
    Volume w = window();
    auto second = p.run_second(w, nullptr);
    ASSERT_TRUE(second.ok()) << second.error().message;
    expect_calc_of(torch::from_blob(w.voxels.data(), {1, 16, 16, 16}), *second);
}

TEST_F(TwoLookBundle, TheChambersAreTheSecondChannelAsRawValues) {
    second_of(2);
    Predictor p = predictor();
    Volume w = window();
    LabelMap chambers(w.grid, std::uint8_t{0});
    for (std::size_t v = 0; v < chambers.voxels.size(); ++v) chambers.voxels[v] = static_cast<std::uint8_t>(v % 8);
    auto second = p.run_second(w, &chambers);
    ASSERT_TRUE(second.ok()) << second.error().message;
    torch::Tensor labels = torch::empty({1, 16, 16, 16});
    for (std::int64_t v = 0; v < 4096; ++v) labels.data_ptr<float>()[v] = static_cast<float>(v % 8);
    expect_calc_of(torch::cat({torch::from_blob(w.voxels.data(), {1, 16, 16, 16}), labels}), *second);
    auto without = p.run_second(w, nullptr);
    ASSERT_FALSE(without.ok());
    EXPECT_EQ(without.error().kind, ErrorKind::Bug);
}

TEST_F(TwoLookBundle, RefusesAWindowOfAnotherSizeOrSpacing) {
    Predictor p = predictor();
    for (const Volume& wrong :
         {Volume(grid_of({1, 1, 1}, {32, 16, 16}), 0.0f), Volume(grid_of({2, 2, 2}, {16, 16, 16}), 0.0f)}) {
        auto refused = p.run_second(wrong, nullptr);
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().kind, ErrorKind::Bug);
    }
}

TEST_F(TwoLookBundle, DamagedSecondWeightsAreNamedWithTheirNetwork) {
    std::filesystem::resize_file(bundle.second_weights_file(), 100);
    auto loaded = Predictor::load(bundle, on_cpu);
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
    EXPECT_THAT(loaded.error().message, HasSubstr("second look"));
}

TEST_F(TinyBundle, HasNoSecondLook) {
    auto refused = predictor().run_second(image, nullptr);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Bug);
}

TEST_F(TinyBundle, AFirstLookThatWantsTheChamberMapIsRefusedWithAWayOut) {
    bundle.manifest.input.channels = 2;
    auto loaded = Predictor::load(bundle, on_cpu);
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().kind, ErrorKind::Config);
    EXPECT_THAT(loaded.error().message, HasSubstr("can be the second_look of a bundle"));
}

}  // namespace
}  // namespace cardionode
