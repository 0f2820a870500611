#include "models/sliding_window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/network.h"
#include "tests/support/shared_data.h"

namespace cardionode {
namespace {

using Starts = std::vector<std::array<std::int64_t, 3>>;

TEST(WindowStarts, LastWindowIsMovedBackToTheEnd) {
    // 192 voxels, windows of 96, overlap 0.25: 0, 72 and 96 on each axis, as published.
    const auto starts = window_starts({192, 192, 192}, {96, 96, 96}, 0.25);
    ASSERT_EQ(starts.size(), 27u);
    EXPECT_EQ(starts[0], (std::array<std::int64_t, 3>{0, 0, 0}));
    EXPECT_EQ(starts[1], (std::array<std::int64_t, 3>{0, 0, 72}));
    EXPECT_EQ(starts[5], (std::array<std::int64_t, 3>{0, 72, 96}));
    EXPECT_EQ(starts.back(), (std::array<std::int64_t, 3>{96, 96, 96}));
}

TEST(WindowStarts, ImageOfOneWindowHasOne) {
    EXPECT_EQ(window_starts({8, 16, 4}, {8, 16, 4}, 0.9), (Starts{{0, 0, 0}}));
}

TEST(WindowStarts, OneVoxelMoreNeedsASecondWindow) {
    EXPECT_EQ(window_starts({8, 8, 9}, {8, 8, 8}, 0.0), (Starts{{0, 0, 0}, {0, 0, 1}}));
}

TEST(WindowWeights, PeakAtTheCentreAndNeverZero) {
    WindowManifest window;
    window.size = {9, 9, 17};
    const torch::Tensor weights = window_weights(window);
    EXPECT_FLOAT_EQ(weights[4][4][8].item<float>(), 1.0f);
    EXPECT_FLOAT_EQ(weights[0][0][0].item<float>(), 1e-3f);
    EXPECT_TRUE(torch::equal(weights, weights.flip({0, 1, 2})));
}

TEST(SlidingWindow, IdentityComesBackWhateverBlendingBatchAndSize) {
    torch::manual_seed(1);
    for (const char* blending : {"gaussian", "constant"}) {
        for (const std::int64_t batch : {1, 3, 100}) {
            WindowManifest window;
            window.size = {8, 8, 8};
            window.blending = blending;
            const torch::Tensor image = torch::randn({2, 5, 17, 8});  // smaller than, larger than and as the window
            const auto result = slide(image, window, {2, 1}, batch, [](const torch::Tensor& b) {
                return std::vector<torch::Tensor>{b, b.narrow(1, 1, 1) * 2};
            });
            ASSERT_TRUE(result.has_value());
            EXPECT_LE((result->at(0) - image).abs().max().item<double>(), 1e-5) << blending << batch;
            EXPECT_LE((result->at(1) - image.narrow(0, 1, 1) * 2).abs().max().item<double>(), 1e-5);
        }
    }
}

TEST(SlidingWindow, ConstantBlendingAveragesAndGaussianTrustsTheCentre) {
    // Two windows [0, 8) and [4, 12) that answer 0 and 1.
    WindowManifest window;
    window.size = {8, 8, 8};
    const torch::Tensor image = torch::zeros({1, 8, 8, 12});
    const auto answer = [&] {
        int call = 0;
        return slide(image, window, {1}, 1,
                     [call](const torch::Tensor& b) mutable {
                         return std::vector<torch::Tensor>{torch::full_like(b, call++)};
                     })
            ->at(0)[0][4][4];
    };
    window.blending = "constant";
    EXPECT_FLOAT_EQ(answer()[4].item<float>(), 0.5f);
    EXPECT_FLOAT_EQ(answer()[3].item<float>(), 0.0f);
    EXPECT_FLOAT_EQ(answer()[8].item<float>(), 1.0f);
    window.blending = "gaussian";
    EXPECT_LT(answer()[4].item<float>(), 0.1f);
    EXPECT_GT(answer()[7].item<float>(), 0.9f);
}

TEST(SlidingWindow, SmallImageIsPaddedHalfLowRestHigh) {
    WindowManifest window;
    window.size = {8, 8, 8};
    torch::Tensor seen;
    slide(torch::ones({1, 5, 8, 8}), window, {1}, 1, [&](const torch::Tensor& b) {
        seen = b.clone();
        return std::vector<torch::Tensor>{b};
    });
    const torch::Tensor profile = seen[0][0].select(1, 0).select(1, 0);
    EXPECT_TRUE(torch::equal(profile, torch::tensor({0, 1, 1, 1, 1, 1, 0, 0}, torch::kFloat32)));
}

TEST(SlidingWindow, CancelGivesNothing) {
    WindowManifest window;
    window.size = {8, 8, 8};
    int calls = 0;
    const auto result = slide(
        torch::ones({1, 8, 8, 32}), window, {1}, 1,
        [&](const torch::Tensor& b) {
            ++calls;
            return std::vector<torch::Tensor>{b};
        },
        [](std::int64_t done, std::int64_t) { return done < 2; });
    EXPECT_FALSE(result.has_value());
    EXPECT_EQ(calls, 2);
}

TEST(SlidingWindow, AgreesWithTheReference) {
    CARDIONODE_NEEDS(test::shared("reference/sliding_window.safetensors"));
    torch::NoGradGuard no_grad;
    auto weights = read_safetensors(test::shared("reference/swin_unetr_fs12.safetensors"), "state.");
    auto reference = read_safetensors(test::shared("reference/sliding_window.safetensors"));
    ASSERT_TRUE(weights.ok() && reference.ok());
    NamedTensors state;
    for (const auto& [name, tensor] : weights->tensors) state[name.substr(6)] = tensor;
    auto network = make_network(infer_network_options("swin_unetr", state).value());
    ASSERT_TRUE(network.ok() && load_state(**network, state).ok());
    (*network)->eval();
    std::size_t hps = 0;
    while ((*network)->heads()[hps].name != "hps") ++hps;
    const auto blended =
        slide(reference->tensors.at("input")[0], WindowManifest{}, {6}, 1, [&](const torch::Tensor& batch) {
            return std::vector<torch::Tensor>{(*network)->forward(batch)[hps].levels[0]};
        });
    const torch::Tensor ours = blended->at(0).slice(1, 0, 80, 4).slice(2, 0, 72, 4).slice(3, 0, 100, 4);
    EXPECT_LE((ours - reference->tensors.at("output.hps")[0]).abs().max().item<double>(), 1e-4);
}

}  // namespace
}  // namespace cardionode
