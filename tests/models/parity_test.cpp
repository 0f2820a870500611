// The networks against numbers that MONAI and nnU-Net computed.
#include <gtest/gtest.h>

#include "models/network.h"
#include "models/plain_conv_unet.h"
#include "models/swin_unetr.h"
#include "tests/models/formula_fill.h"
#include "tests/support/shared_data.h"

namespace cardionode {
namespace {

constexpr double kTolerance = 1e-4;

Safetensors reference(const std::string& name) {
    auto file = read_safetensors(test::shared("reference/" + name));
    if (!file) throw std::runtime_error(file.error().message);
    return std::move(*file);
}

NamedTensors state_in(const Safetensors& file) {
    NamedTensors state;
    for (const auto& [name, tensor] : file.tensors) {
        if (name.rfind("state.", 0) == 0) state[name.substr(6)] = tensor;
    }
    return state;
}

std::shared_ptr<Network> network_from(const NetworkOptions& options, const NamedTensors& state) {
    auto network = make_network(options);
    if (!network) throw std::runtime_error(network.error().message);
    if (auto loaded = load_state(**network, state); !loaded) throw std::runtime_error(loaded.error().message);
    (*network)->eval();
    return *network;
}

double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
    EXPECT_EQ(a.sizes(), b.sizes());
    return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : 1e9;
}

torch::Tensor strided(torch::Tensor x, std::int64_t stride) {
    for (int axis = 2; axis < 5; ++axis) x = x.slice(axis, 0, c10::nullopt, stride);
    return x;
}

TEST(Parity, SwinUnetrHeadsAndHiddenStates) {
    CARDIONODE_NEEDS(test::shared("reference/swin_unetr_fs12.safetensors"));
    torch::NoGradGuard no_grad;
    const Safetensors file = reference("swin_unetr_fs12.safetensors");
    auto options = infer_network_options("swin_unetr", state_in(file));
    ASSERT_TRUE(options.ok()) << options.error().message;
    EXPECT_EQ(options->architecture.feature_size, 12);
    EXPECT_EQ(options->input_channels, 1);
    ASSERT_EQ(options->heads.size(), 4u);
    const auto network = network_from(*options, state_in(file));
    const torch::Tensor input = file.tensors.at("input");
    for (const HeadLogits& head : network->forward(input)) {
        EXPECT_LE(largest_difference(strided(head.levels.at(0), 4), file.tensors.at("output." + head.head)), kTolerance)
            << head.head;
    }
    const auto hidden = std::dynamic_pointer_cast<SwinUnetr>(network)->hidden_states(input);
    ASSERT_EQ(hidden.size(), 5u);
    for (std::size_t i = 0; i < hidden.size(); ++i) {
        const torch::Tensor& expected = file.tensors.at("hidden." + std::to_string(i));
        EXPECT_LE(largest_difference(strided(hidden[i], hidden[i].size(2) / expected.size(2)), expected), kTolerance)
            << i;
    }
}

TEST(Parity, SwinUnetrUnderTheThreeMergingOrders) {
    CARDIONODE_NEEDS(test::shared("reference/swin_unetr_fs12_merging_orders.safetensors"));
    torch::NoGradGuard no_grad;
    const Safetensors file = reference("swin_unetr_fs12.safetensors");
    const Safetensors orders = reference("swin_unetr_fs12_merging_orders.safetensors");
    auto options = infer_network_options("swin_unetr", state_in(file));
    ASSERT_TRUE(options.ok()) << options.error().message;
    const std::map<std::string, std::string> names = {
        {"monai_0_9", "merging_until_1.4"}, {"monai_1_5", "merging_from_1.5"}, {"v2", "mergingv2"}};
    for (const auto& [ours, theirs] : names) {
        options->architecture.patch_merging = ours;
        const auto network = network_from(*options, state_in(file));
        for (const HeadLogits& head : network->forward(file.tensors.at("input"))) {
            const torch::Tensor& expected = orders.tensors.at(theirs + ".output." + head.head);
            EXPECT_LE(largest_difference(strided(head.levels.at(0), 4), expected), kTolerance) << ours << head.head;
        }
    }
}

TEST(Parity, PlainConvUnetAtAllLevels) {
    CARDIONODE_NEEDS(test::shared("reference/plain_conv_unet_f8.safetensors"));
    torch::NoGradGuard no_grad;
    const Safetensors file = reference("plain_conv_unet_f8.safetensors");
    auto options = infer_network_options("plain_conv_unet", state_in(file));
    ASSERT_TRUE(options.ok()) << options.error().message;
    EXPECT_EQ(options->architecture.features, (std::vector<std::int64_t>{8, 16, 32, 64, 80, 80}));
    EXPECT_EQ(options->input_channels, 2);
    const auto network = network_from(*options, state_in(file));
    const auto outputs = network->forward(file.tensors.at("input"), network->max_levels());
    ASSERT_EQ(outputs.size(), 1u);
    ASSERT_EQ(outputs[0].levels.size(), 5u);
    for (std::size_t level = 0; level < 5; ++level) {
        const torch::Tensor& expected = file.tensors.at("output." + std::to_string(level));
        EXPECT_LE(largest_difference(strided(outputs[0].levels[level], level == 0 ? 2 : 1), expected), kTolerance)
            << level;
    }
}

// Numbers of SwinUNETR with feature size 12 on 64^3, two channels, six classes, weights and input from the formula;
// computed with MONAI under each merging order.
struct FormulaCase {
    const char* merging;
    double mean, mean_of_absolute, first, probe_1_32_21_16, probe_2_5_57_11, last;
};
class FormulaParity : public ::testing::TestWithParam<FormulaCase> {};

TEST_P(FormulaParity, SwinUnetr) {
    torch::NoGradGuard no_grad;
    NetworkOptions options;
    options.architecture.type = "swin_unetr";
    options.architecture.feature_size = 12;
    options.architecture.patch_merging = GetParam().merging;
    options.input_channels = 2;
    options.heads = {{"hps", 6}};
    auto network = make_network(options);
    ASSERT_TRUE(network.ok()) << network.error().message;
    NamedTensors single;  // the names of the network with one head, whose order numbers the tensors
    for (const auto& [name, tensor] : state_of(**network)) {
        if (name.rfind("swin_unetr.out.", 0) == 0) continue;
        const bool head = name.rfind("outs.hps.", 0) == 0;
        single[head ? "out." + name.substr(9) : name.substr(11)] = tensor;
    }
    ASSERT_EQ(single.size(), 151u);
    test::fill_by_formula(single);
    auto loaded = load_state(**network, single);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    (*network)->eval();
    const torch::Tensor logits = (*network)->forward(test::formula_input({1, 2, 64, 64, 64}))[0].levels[0][0];
    EXPECT_NEAR(logits.to(torch::kFloat64).mean().item<double>(), GetParam().mean, 1e-5);
    EXPECT_NEAR(logits.to(torch::kFloat64).abs().mean().item<double>(), GetParam().mean_of_absolute, 1e-5);
    EXPECT_NEAR(logits[0][0][0][0].item<double>(), GetParam().first, kTolerance);
    EXPECT_NEAR(logits[1][32][21][16].item<double>(), GetParam().probe_1_32_21_16, kTolerance);
    EXPECT_NEAR(logits[2][5][57][11].item<double>(), GetParam().probe_2_5_57_11, kTolerance);
    EXPECT_NEAR(logits[5][63][63][63].item<double>(), GetParam().last, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(
    MergingOrders, FormulaParity,
    ::testing::Values(FormulaCase{"monai_0_9", 0.2810532, 0.7470580, -0.9641666, 0.2079577, 0.5079269, 0.1557407},
                      FormulaCase{"monai_1_5", 0.2810270, 0.7468873, -0.9506589, -0.0650118, 0.6104581, 0.1391765},
                      FormulaCase{"v2", 0.2809738, 0.7468926, -0.8403672, -0.1263592, 0.4500294, 0.0242420}),
    [](const auto& info) { return std::string(info.param.merging); });

}  // namespace
}  // namespace cardionode
