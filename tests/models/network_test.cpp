#include <gtest/gtest.h>

#include "models/network.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

NetworkOptions small_unet() {
    NetworkOptions options;
    options.architecture.type = "plain_conv_unet";
    options.architecture.features = {4, 6, 8};
    options.architecture.strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 1}};
    options.heads = {{"heart", 8}, {"calc", 2}};
    return options;
}

NetworkOptions small_swin() {
    NetworkOptions options;
    options.architecture.type = "swin_unetr";
    options.heads = {{"hps", 6}, {"calc", 2}};
    return options;
}

std::shared_ptr<Network> made(const NetworkOptions& options) {
    torch::manual_seed(7);
    auto network = make_network(options);
    if (!network) throw std::runtime_error(network.error().message);
    return *network;
}

class EachNetwork : public ::testing::TestWithParam<NetworkOptions (*)()> {
protected:
    NetworkOptions options = GetParam()();
    torch::Tensor input = torch::rand({1, 1, 32, 32, 32});
};

TEST_P(EachNetwork, LearnsInEveryTrainableParameter) {
    const auto network = made(options);
    torch::Tensor loss;
    for (const HeadLogits& head : network->forward(input, network->max_levels())) {
        for (const torch::Tensor& level : head.levels) {
            const torch::Tensor term = torch::log_softmax(level, 1).select(1, 1).mean().neg();
            loss = loss.defined() ? loss + term : term;
        }
    }
    loss.backward();
    for (const auto& item : network->named_parameters()) {
        if (!item.value().requires_grad()) continue;
        ASSERT_TRUE(item.value().grad().defined()) << item.key();
    }
}

TEST_P(EachNetwork, ComesBackFromItsFileWithTheSameOutputs) {
    test::TemporaryFolder folder;
    torch::NoGradGuard no_grad;
    const auto network = made(options);
    network->eval();
    ASSERT_TRUE(save_weights(*network, folder / "w.safetensors", {{"step", "3"}}).ok());
    auto stored = read_safetensors(folder / "w.safetensors");
    ASSERT_TRUE(stored.ok()) << stored.error().message;
    EXPECT_EQ(stored->metadata.at("step"), "3");
    torch::manual_seed(8);
    auto other = make_network(options);
    ASSERT_TRUE(other.ok());
    (*other)->eval();
    EXPECT_FALSE(torch::equal((*other)->forward(input)[0].levels[0], network->forward(input)[0].levels[0]));
    ASSERT_TRUE(load_weights(**other, folder / "w.safetensors").ok());
    for (std::size_t h = 0; h < options.heads.size(); ++h) {
        EXPECT_TRUE(torch::equal((*other)->forward(input)[h].levels[0], network->forward(input)[h].levels[0]));
    }
}

INSTANTIATE_TEST_SUITE_P(Architectures, EachNetwork, ::testing::Values(&small_unet, &small_swin),
                         [](const auto& info) { return info.param().architecture.type; });

}  // namespace
}  // namespace cardionode
