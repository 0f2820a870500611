#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/autocast.h"
#include "models/network.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using ::testing::HasSubstr;

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

TEST_P(EachNetwork, LearnsInMixedPrecisionOnTheCpu) {
    const auto network = made(options);
    const torch::Tensor whole = network->forward(input)[0].levels[0];
    torch::Tensor mixed;
    {
        const AutocastScope scope(torch::kCPU, torch::kBFloat16);
        mixed = network->forward(input)[0].levels[0].to(torch::kFloat);
    }
    EXPECT_FALSE(torch::equal(mixed, whole)) << "bfloat16 rounds";
    EXPECT_LT((mixed - whole).abs().mean().item<double>(), 0.05 * whole.abs().mean().item<double>() + 0.02);
    torch::log_softmax(mixed, 1).select(1, 1).mean().neg().backward();
    for (const auto& item : network->named_parameters()) {
        if (!item.value().grad().defined()) continue;
        EXPECT_EQ(item.value().grad().scalar_type(), torch::kFloat) << item.key();
        EXPECT_TRUE(torch::isfinite(item.value().grad()).all().item<bool>()) << item.key();
    }
}

TEST_P(EachNetwork, TakesWhatATrainingScriptSavedBesideOtherThings) {
    const auto network = made(options), other = made(options);
    for (torch::Tensor& p : other->parameters()) p.detach().zero_();
    NamedTensors saved;
    for (const auto& [name, tensor] : state_of(*network)) {
        saved["state_dict.module." + name] = tensor;
        saved["optimizer.state.0.exp_avg"] = tensor;
    }
    saved["state_dict.module.fed_task"] = torch::tensor(0.0);
    const Result<void> loaded = load_state(*other, saved);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    for (const auto& [name, tensor] : state_of(*network)) EXPECT_TRUE(torch::equal(tensor, state_of(*other).at(name)));
    const auto shape = infer_network_options(options.architecture.type, saved);
    ASSERT_TRUE(shape.ok()) << shape.error().message;
    EXPECT_EQ(shape->heads.size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Architectures, EachNetwork, ::testing::Values(&small_unet, &small_swin),
                         [](const auto& info) { return info.param().architecture.type; });

std::string refusal(const Result<void>& result) {
    EXPECT_FALSE(result.ok());
    if (result.ok()) return {};
    EXPECT_EQ(result.error().kind, ErrorKind::Config);
    return result.error().message;
}

TEST(LoadState, NamesWhatIsMissingUnexpectedAndMisshapen) {
    const auto network = made(small_unet());
    const NamedTensors before = state_of(*network);
    NamedTensors changed = before;
    changed.erase("model.encoder.stages.1.0.convs.0.norm.bias");
    changed["model.encoder.stages.7.weight"] = torch::ones({1});
    changed["seg_layers.calc.0.bias"] = torch::ones({3});
    changed["seg_layers.calc.1.bias"] = torch::ones({2}, torch::kInt64);
    changed["seg_layers.heart.0.bias"] = torch::full({8}, std::numeric_limits<float>::infinity());
    changed["seg_layers.heart.1.bias"] = torch::full({8}, 9.0f);
    const std::string message = refusal(load_state(*network, changed));
    EXPECT_THAT(message, HasSubstr("'model.encoder.stages.1.0.convs.0.norm.bias' is missing"));
    EXPECT_THAT(message, HasSubstr("'encoder.stages.7.weight' is unexpected"));
    EXPECT_THAT(message, HasSubstr("'seg_layers.calc.0.bias' has the shape [3], expected [2]"));
    EXPECT_THAT(message, HasSubstr("'seg_layers.calc.1.bias' does not hold floating numbers"));
    EXPECT_THAT(message, HasSubstr("'seg_layers.heart.0.bias' holds a value that is not finite"));
    for (const auto& [name, tensor] : state_of(*network)) EXPECT_TRUE(torch::equal(tensor, before.at(name))) << name;
}

TEST(LoadState, AliasesAreTakenWhenEqualAndRefusedWhenNot) {
    const auto network = made(small_unet());
    NamedTensors state = state_of(*network);
    const torch::Tensor weight = state.at("model.encoder.stages.0.0.convs.0.conv.weight");
    state["model.encoder.stages.0.0.convs.0.all_modules.0.weight"] = weight.clone();
    state["model.decoder.encoder.stages.0.0.convs.0.conv.weight"] = weight.clone();
    EXPECT_TRUE(load_state(*network, state).ok());
    state["model.decoder.encoder.stages.0.0.convs.0.conv.weight"] = weight + 1;
    EXPECT_THAT(refusal(load_state(*network, state)), HasSubstr("differs from its other copy"));
}

TEST(LoadState, FlagsPrefixesAndADamagedIndexOfPublishedCheckpointsAreTolerated) {
    const auto network = made(small_swin());
    NamedTensors state;
    for (const auto& [name, tensor] : state_of(*network)) state["module." + name] = tensor.to(torch::kFloat16);
    state["module.fed_task"] = torch::tensor(1.0f);
    state["module.swin_unetr.swinViT.layers1.0.blocks.0.attn.relative_position_index"] =
        torch::full({343, 343}, 1097.9999f);
    const auto loaded = load_state(*network, state);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    for (const auto& buffer : network->named_buffers()) {
        EXPECT_EQ(buffer.value()[0][0].item<std::int64_t>(), 1098);
        EXPECT_EQ(buffer.value()[0][49].item<std::int64_t>(), 929);
        EXPECT_EQ(buffer.value()[342][0].item<std::int64_t>(), 2196);
    }
}

TEST(Names, AreThoseOfThePublishedNetworks) {
    // Counts of the published networks: 62,188,926 with heads 6, 3, 2 and 30,790,078 with one head of 6, two channels.
    NetworkOptions swin;
    swin.architecture.type = "swin_unetr";
    swin.architecture.feature_size = 48;
    swin.input_channels = 2;
    swin.heads = {{"hps", 6}, {"ms", 3}, {"calc", 2}};
    std::int64_t count = 0;
    const auto big = made(swin);
    for (const torch::Tensor& parameter : big->parameters()) count += parameter.numel();
    EXPECT_EQ(count, 62'188'926);
    EXPECT_EQ(state_of(*big).count("outs.calc.conv.conv.bias"), 1u);

    NetworkOptions unet;
    unet.architecture.type = "plain_conv_unet";
    unet.architecture.features = {32, 64, 128, 256, 320, 320};
    unet.architecture.strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 1}};
    unet.input_channels = 2;
    unet.heads = {{"hps", 6}};
    count = 0;
    const auto teacher = made(unet);
    for (const torch::Tensor& parameter : teacher->parameters()) count += parameter.numel();
    EXPECT_EQ(count, 30'790'078);
    EXPECT_EQ(teacher->multiple(), (std::array<std::int64_t, 3>{32, 32, 16}));
    EXPECT_EQ(state_of(*teacher).count("model.decoder.transpconvs.4.weight"), 1u);
}

TEST(MakeNetwork, RefusesOptionsThatDoNotFit) {
    const auto refused = [](const std::function<void(NetworkOptions&)>& change, NetworkOptions options) {
        change(options);
        const auto network = make_network(options);
        return !network.ok() && network.error().kind == ErrorKind::Config;
    };
    EXPECT_TRUE(refused([](auto& o) { o.heads.clear(); }, small_unet()));
    EXPECT_TRUE(refused([](auto& o) { o.heads.push_back(o.heads[0]); }, small_unet()));
    EXPECT_TRUE(refused([](auto& o) { o.heads[0].name = "a.b"; }, small_unet()));
    EXPECT_TRUE(refused([](auto& o) { o.architecture.strides.pop_back(); }, small_unet()));
    EXPECT_TRUE(refused([](auto& o) { o.architecture.strides[0] = {2, 2, 2}; }, small_unet()));
    EXPECT_TRUE(refused([](auto& o) { o.architecture.type = "unet"; }, small_unet()));
    EXPECT_TRUE(refused([](auto& o) { o.architecture.feature_size = 13; }, small_swin()));
    EXPECT_TRUE(refused([](auto& o) { o.architecture.patch_merging = "v3"; }, small_swin()));
}

TEST(Forward, RefusesSidesThatAreNotMultiples) {
    EXPECT_THROW(made(small_swin())->forward(torch::zeros({1, 1, 32, 32, 48})), c10::Error);
    EXPECT_THROW(made(small_unet())->forward(torch::zeros({1, 2, 32, 32, 32})), c10::Error);
}

TEST(Dropout, WorksInTrainingOnly) {
    NetworkOptions options = small_unet();
    options.dropout = 0.5;
    const auto network = made(options);
    const torch::Tensor input = torch::rand({1, 1, 16, 16, 16});
    const auto output = [&] { return network->forward(input)[0].levels[0].detach(); };
    EXPECT_FALSE(torch::equal(output(), output()));
    network->eval();
    EXPECT_TRUE(torch::equal(output(), output()));
}

}  // namespace
}  // namespace cardionode
