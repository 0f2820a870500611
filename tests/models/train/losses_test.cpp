#include <gtest/gtest.h>

#include "models/train/losses.h"
#include "tests/support/shared_data.h"

namespace cardionode::train {
namespace {

TEST(Losses, EqualTheReferenceInValueAndGradient) {
    const auto file = test::shared("reference/dice_ce.safetensors");
    CARDIONODE_NEEDS(file);
    const Result<Safetensors> reference = read_safetensors(file);
    ASSERT_TRUE(reference.ok()) << reference.error().message;
    torch::Tensor logits = reference->tensors.at("logits").clone().set_requires_grad(true);
    const torch::Tensor loss = dice_ce(logits, reference->tensors.at("target").squeeze(1));
    loss.backward();
    EXPECT_NEAR(loss.item<double>(), reference->tensors.at("loss").item<double>(), 1e-6);
    EXPECT_LE((logits.grad() - reference->tensors.at("grad_logits")).abs().max().item<double>(), 1e-7);
}

TEST(Losses, MatchTheFormulaOnATinyCase) {
    // Two voxels, two classes: p(foreground) = 0.5 and 0.75, truth 0 and 1.
    const torch::Tensor logits =
        torch::tensor({0.0, 0.0, 0.0, std::log(3.0)}).reshape({2, 2}).t().reshape({1, 2, 1, 1, 2}).to(torch::kFloat);
    const torch::Tensor target = torch::tensor({0, 1}, torch::kLong).reshape({1, 1, 1, 2});
    const double cross_entropy = -(std::log(0.5) + std::log(0.75)) / 2, dice = (2 * 0.75 + 1) / (1.25 + 1 + 1);
    EXPECT_NEAR(dice_ce(logits, target).item<double>(), cross_entropy - dice, 1e-6);
    // Weights 1 and 3 in the cross entropy, normalised by their sum.
    const double weighted = -(std::log(0.5) + 3 * std::log(0.75)) / 4;
    EXPECT_NEAR(dice_ce(logits, target, torch::tensor({1.0F, 3.0F})).item<double>(), weighted - dice, 1e-6);
}

HeadLogits random_head(const std::string& name, std::int64_t classes) {
    HeadLogits head{name, {}};
    for (const std::int64_t side : {8, 4, 2})
        head.levels.push_back(torch::randn({1, classes, side, side, side}).set_requires_grad(true));
    return head;
}

TEST(Losses, AHeadWithoutTargetCostsAndLearnsNothing) {
    torch::manual_seed(1);
    const std::vector<HeadLogits> outputs = {random_head("heart", 4), random_head("calc", 2)};
    const torch::Tensor target = torch::randint(0, 4, {1, 8, 8, 8}, torch::kLong);
    std::map<std::string, double> each;
    const torch::Tensor both = multi_head_loss(outputs, {{"heart", target}}, {}, {1, 0.5, 0.25}, &each);
    both.backward();
    EXPECT_EQ(each.size(), 1U);
    for (const torch::Tensor& level : outputs[0].levels) EXPECT_TRUE(level.grad().defined());
    for (const torch::Tensor& level : outputs[1].levels) EXPECT_FALSE(level.grad().defined());
    EXPECT_EQ(multi_head_loss(outputs, {}, {}, {1, 0.5, 0.25}).item<double>(), 0);
}

TEST(Losses, CoarserLevelsCountByTheirWeights) {
    torch::manual_seed(2);
    const std::vector<HeadLogits> outputs = {random_head("heart", 3)};
    const torch::Tensor target = torch::randint(0, 3, {1, 8, 8, 8}, torch::kLong);
    double expected = 0;
    const double weights[] = {1, 0.5, 0.25};
    for (std::int64_t level = 0; level < 3; ++level) {
        // Nearest voxel: every second, every fourth.
        const std::int64_t step = std::int64_t{1} << level;
        using torch::indexing::Slice;
        const torch::Tensor t =
            target.index({Slice(), Slice(0, {}, step), Slice(0, {}, step), Slice(0, {}, step)}).contiguous();
        expected += weights[level] * dice_ce(outputs[0].levels[static_cast<std::size_t>(level)], t).item<double>();
    }
    EXPECT_NEAR(multi_head_loss(outputs, {{"heart", target}}, {}, {1, 0.5, 0.25}).item<double>(), expected, 1e-5);
    EXPECT_NEAR(multi_head_loss(outputs, {{"heart", target}}, {{"heart", {3, 1}}}, {1, 0.5, 0.25}).item<double>(),
                3 * expected, 1e-4);
}

/// The gradient by automatic differentiation against central differences, in float64.
void expect_true_gradient(const torch::Tensor& target, const torch::Tensor& weights, const torch::Tensor& counts) {
    torch::manual_seed(5);
    torch::Tensor logits = torch::randn({2, 3, 2, 2, 3}, torch::kDouble).set_requires_grad(true);
    dice_ce(logits, target, weights, counts).backward();
    const torch::Tensor gradient = logits.grad().reshape({-1});
    torch::NoGradGuard no_grad;
    constexpr double kStep = 1e-5;
    for (std::int64_t i = 0; i < logits.numel(); ++i) {
        const auto moved = [&](double by) {
            torch::Tensor x = logits.detach().clone();
            x.view({-1})[i] += by;
            return dice_ce(x, target, weights, counts).item<double>();
        };
        EXPECT_NEAR(gradient[i].item<double>(), (moved(kStep) - moved(-kStep)) / (2 * kStep), 1e-8) << i;
    }
}

TEST(SoftLosses, GradientsAreThoseOfCentralDifferences) {
    torch::manual_seed(3);
    const torch::Tensor hard = torch::randint(0, 3, {2, 2, 2, 3}, torch::kLong);
    const torch::Tensor soft = torch::softmax(torch::randn({2, 3, 2, 2, 3}, torch::kDouble), 1);
    const torch::Tensor counts = torch::rand({2, 2, 2, 3}).gt(0.4);
    const torch::Tensor weights = torch::tensor({1.0, 4.0, 7.0}, torch::kDouble);
    ASSERT_GT(counts.sum().item<int>(), 2);
    expect_true_gradient(hard, {}, counts);
    expect_true_gradient(hard, weights, counts);
    expect_true_gradient(soft, {}, {});
    expect_true_gradient(soft, weights, {});
    expect_true_gradient(soft, weights, counts);
}

TEST(SoftLosses, CertainProbabilitiesEqualHardLabels) {
    torch::manual_seed(4);
    const torch::Tensor logits = torch::randn({1, 3, 4, 4, 4}, torch::kDouble);
    const torch::Tensor hard = torch::randint(0, 3, {1, 4, 4, 4}, torch::kLong);
    const torch::Tensor soft = torch::one_hot(hard, 3).permute({0, 4, 1, 2, 3}).to(torch::kDouble);
    const torch::Tensor weights = torch::tensor({1.0, 20.0, 5.0}, torch::kDouble);
    const torch::Tensor everything = torch::ones({1, 4, 4, 4}, torch::kBool);
    for (const torch::Tensor& w : {torch::Tensor(), weights}) {
        const double plain = dice_ce(logits, hard, w).item<double>();
        EXPECT_NEAR(dice_ce(logits, soft, w).item<double>(), plain, 1e-12);
        EXPECT_NEAR(dice_ce(logits, hard, w, everything).item<double>(), plain, 1e-12);
    }
}

TEST(SoftLosses, WhatDoesNotCountHasNoSayAndNoGradient) {
    torch::manual_seed(6);
    torch::Tensor logits = torch::randn({1, 2, 2, 2, 2}).set_requires_grad(true);
    const torch::Tensor hard = torch::randint(0, 2, {1, 2, 2, 2}, torch::kLong);
    torch::Tensor counts = torch::ones({1, 2, 2, 2}, torch::kBool);
    counts[0][1] = false;
    const torch::Tensor loss = dice_ce(logits, hard, {}, counts);
    loss.backward();
    EXPECT_EQ(logits.grad().slice(2, 1).abs().max().item<double>(), 0);
    EXPECT_GT(logits.grad().slice(2, 0, 1).abs().max().item<double>(), 0);
    torch::Tensor other = hard.clone();
    other[0][1] = 1 - other[0][1];
    EXPECT_EQ(dice_ce(logits, other, {}, counts).item<double>(), loss.item<double>());
    // Nothing counts: no loss and no harm.
    logits.mutable_grad().zero_();
    const torch::Tensor nothing = dice_ce(logits, hard, {}, torch::zeros({1, 2, 2, 2}, torch::kBool));
    nothing.backward();
    EXPECT_EQ(nothing.item<double>(), 0);
    EXPECT_EQ(logits.grad().abs().max().item<double>(), 0);
}

TEST(SoftLosses, BatchesMayMixPeoplesLabelsAndProbabilities) {
    const torch::Tensor hard = torch::randint(0, 3, {2, 2, 2}, torch::kLong);
    const torch::Tensor soft = torch::softmax(torch::randn({3, 2, 2, 2}), 0).to(torch::kHalf);
    EXPECT_TRUE(torch::equal(stack_targets({hard, hard}, 3), torch::stack({hard, hard})));
    const torch::Tensor mixed = stack_targets({hard, soft}, 3);
    EXPECT_EQ(mixed.sizes(), (std::vector<std::int64_t>{2, 3, 2, 2, 2}));
    EXPECT_TRUE(torch::equal(mixed[0].argmax(0), hard));
    EXPECT_TRUE(torch::equal(mixed[1], soft.to(torch::kFloat)));
    EXPECT_FALSE(stack_counts({{}, {}}, mixed).defined());
    const torch::Tensor none = torch::zeros({2, 2, 2}, torch::kBool), counts = stack_counts({{}, none}, mixed);
    EXPECT_EQ(counts.sum().item<int>(), 8);
    EXPECT_EQ(counts[1].sum().item<int>(), 0);
}

TEST(SoftLosses, CoarserLevelsTakeTheNearestProbabilities) {
    torch::manual_seed(7);
    const std::vector<HeadLogits> outputs = {random_head("heart", 3)};
    const torch::Tensor hard = torch::randint(0, 3, {1, 8, 8, 8}, torch::kLong);
    const torch::Tensor soft = torch::one_hot(hard, 3).permute({0, 4, 1, 2, 3}).to(torch::kFloat);
    EXPECT_NEAR(multi_head_loss(outputs, {{"heart", hard}}, {}, {1, 0.5, 0.25}).item<double>(),
                multi_head_loss(outputs, {{"heart", soft}}, {}, {1, 0.5, 0.25}).item<double>(), 1e-5);
    const torch::Tensor nothing = torch::zeros({1, 8, 8, 8}, torch::kBool);
    EXPECT_EQ(
        multi_head_loss(outputs, {{"heart", hard}}, {}, {1, 0.5, 0.25}, nullptr, {{"heart", nothing}}).item<double>(),
        0);
}

}  // namespace
}  // namespace cardionode::train
