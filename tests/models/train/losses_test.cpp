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

}  // namespace
}  // namespace cardionode::train
