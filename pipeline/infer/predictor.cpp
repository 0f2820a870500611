#include "pipeline/infer/predictor.h"

#include <torch/torch.h>

#include <cmath>

#include <fmt/format.h>

#include "models/autocast.h"
#include "models/device.h"
#include "models/network.h"
#include "models/sliding_window.h"
#include "pipeline/infer/window_runner.h"

namespace cardionode {
namespace {

constexpr std::int64_t kGpuBatch = 4, kCpuBatch = 1;

Result<std::shared_ptr<Network>> loaded_network(const NetworkOptions& options, const std::filesystem::path& weights,
                                                const torch::Device& device) {
    auto network = make_network(options);
    if (!network) return std::move(network).error();
    if (auto loaded = load_weights(**network, weights); !loaded) return std::move(loaded).error();
    (*network)->eval();
    (*network)->to(device);
    return network;
}

/// The image must be on the manifest's grid: anything else is a defect of the stage before.
Result<void> check_grid(const Grid& grid, const InputManifest& input) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
        if (std::abs(grid.spacing()[axis] - input.spacing_mm[axis]) > 1e-3 * input.spacing_mm[axis]) {
            return bug_error(fmt::format("the image's spacing is {} mm, the network's is {} mm",
                                         fmt::join(grid.spacing(), " x "), fmt::join(input.spacing_mm, " x ")));
        }
        if (std::abs(grid.axes()[axis][axis] - 1) > 1e-3) return bug_error("the image's axes are not LPS");
    }
    return {};
}

HeadProbabilities probabilities_of(const std::string& head, const torch::Tensor& logits, const Grid& grid) {
    const torch::Tensor p = torch::softmax(logits, 0).contiguous();
    HeadProbabilities result{head, {}};
    const std::int64_t voxels = grid.voxel_count();
    for (std::int64_t c = 0; c < p.size(0); ++c) {
        const float* from = p.data_ptr<float>() + c * voxels;
        result.channels.emplace_back(grid, std::vector<float>(from, from + voxels));
    }
    return result;
}

/// One network of the bundle, ready to compute.
struct LoadedNetwork {
    NetworkOptions options;
    std::filesystem::path weights;
    DeviceChoice choice;
    torch::Device device = torch::kCPU;
    std::shared_ptr<Network> network;      ///< on `device`
    std::shared_ptr<Network> cpu_network;  ///< made when the GPU fails: a failing GPU may not give the weights back

    static Result<LoadedNetwork> load(NetworkOptions options, std::filesystem::path weights, const DeviceChoice& choice,
                                      const torch::Device& device) {
        auto network = loaded_network(options, weights, device);
        if (!network) return std::move(network).error();
        return LoadedNetwork{std::move(options), std::move(weights), choice, device, std::move(*network), {}};
    }

    std::vector<torch::Tensor> compute(const torch::Tensor& batch, bool on_gpu) {
        if (!on_gpu && device.is_cuda() && !cpu_network) {
            auto loaded = loaded_network(options, weights, torch::kCPU);
            if (!loaded) throw std::runtime_error(loaded.error().message);
            cpu_network = *loaded;
        }
        Network& chosen = on_gpu || !device.is_cuda() ? *network : *cpu_network;
        const torch::ScalarType narrow = on_gpu ? torch::kHalf : narrow_on_cpu();
        const AutocastScope mixed(on_gpu ? device : torch::Device(torch::kCPU),
                                  choice.mixed_precision ? narrow : torch::kFloat);
        std::vector<torch::Tensor> logits;
        for (const HeadLogits& head : chosen.forward(batch.to(on_gpu ? device : torch::Device(torch::kCPU)))) {
            logits.push_back(head.levels[0].to(torch::kCPU, torch::kFloat32));
        }
        return logits;
    }

    /// @param voxels  float32 [C, D, H, W] on `grid`, CPU
    Result<Prediction> run(const torch::Tensor& voxels, const Grid& grid, const WindowManifest& window,
                           const Progress& progress) {
        if (!torch::isfinite(voxels).all().item<bool>()) return bug_error("the image holds values that are not finite");
        std::vector<std::int64_t> channels;
        for (const HeadChannels& head : network->heads()) channels.push_back(head.channels);
        SlidingWindow windows(voxels, window, channels);

        Prediction prediction;
        const bool gpu = device.is_cuda();
        const auto report = [&](std::int64_t done, std::int64_t total) {
            return !progress || progress(static_cast<int>(done), static_cast<int>(total));
        };
        auto ended = run_windows(
            windows, {gpu, gpu ? kGpuBatch : kCpuBatch},
            [this](const torch::Tensor& batch, bool on_gpu) { return compute(batch, on_gpu); }, report,
            prediction.notes);
        if (!ended) return std::move(ended).error();
        prediction.device = device_name(ended->on_gpu ? device : torch::Device(torch::kCPU));
        for (std::size_t i = 0; i < channels.size(); ++i) {
            prediction.heads.push_back(probabilities_of(network->heads()[i].name, windows.take(i), grid));
        }
        return prediction;
    }
};

/// SlidingWindow pads into a tensor of its own: the voxels are only read.
torch::Tensor tensor_of(const Volume& image) {
    const auto& size = image.grid.size();
    return torch::from_blob(const_cast<float*>(image.voxels.data()), {1, size[2], size[1], size[0]}, torch::kFloat32);
}

torch::Tensor tensor_of(const LabelMap& labels) {
    const auto& size = labels.grid.size();
    return torch::from_blob(const_cast<std::uint8_t*>(labels.voxels.data()), {1, size[2], size[1], size[0]},
                            torch::kByte)
        .to(torch::kFloat32);
}

/// What is thrown while a network runs, as an error of the image.
template <class Work>
Result<Prediction> guarded(Work&& work) {
    try {
        return work();
    } catch (const std::exception& failure) {
        if (classify(failure) == ComputeFailure::MemoryFull) return retry_error("not enough memory for this image");
        return bug_error(std::string("the network failed: ") + failure.what());
    }
}

}  // namespace

struct Predictor::State {
    BundleManifest manifest;
    LoadedNetwork first;
    std::optional<LoadedNetwork> second;
};

Predictor::Predictor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;
Predictor::~Predictor() = default;

Result<Predictor> Predictor::load(const Bundle& bundle, const DeviceChoice& choice) {
    const BundleManifest& m = bundle.manifest;
    try {
        if (m.input.channels != 1) {
            return config_error(m.name +
                                ": input.channels: expected 1: there is nothing to take the chamber label map from; a "
                                "network that wants one can be the second_look of a bundle that marks chambers");
        }
        auto device = device_from(choice.device);
        if (!device) return std::move(device).error();
        set_cpu_threads(choice.threads);
        auto first = LoadedNetwork::load(network_options(m), bundle.weights_file(), choice, *device);
        if (!first) return std::move(first).error().in("loading the model " + m.name);
        std::unique_ptr<State> state(new State{m, std::move(*first), std::nullopt});
        if (m.second_look) {
            auto second = LoadedNetwork::load(second_look_options(m), bundle.second_weights_file(), choice, *device);
            if (!second) return std::move(second).error().in("loading the second look of the model " + m.name);
            state->second = std::move(*second);
        }
        return Predictor(std::move(state));
    } catch (const std::exception& failure) {
        const bool full = classify(failure) == ComputeFailure::MemoryFull;
        return Error{full ? ErrorKind::Retry : ErrorKind::Bug, "loading the model " + m.name + ": " + failure.what()};
    }
}

Result<Prediction> Predictor::run(const Volume& image, const Progress& progress) {
    return guarded([&]() -> Result<Prediction> {
        if (auto ok = check_grid(image.grid, state_->manifest.input); !ok) return std::move(ok).error();
        const torch::InferenceMode inference;
        return state_->first.run(tensor_of(image), image.grid, state_->manifest.window, progress);
    });
}

Result<Prediction> Predictor::run_second(const Volume& image, const LabelMap* chambers, const Progress& progress) {
    if (!state_->second) return bug_error("the model " + state_->manifest.name + " has no second look");
    const SecondLookManifest& second = *state_->manifest.second_look;
    return guarded([&]() -> Result<Prediction> {
        if (auto ok = check_grid(image.grid, second.input); !ok) return std::move(ok).error();
        const std::array<std::int64_t, 3> size = {second.window[2], second.window[1], second.window[0]};
        if (image.grid.size() != size) return bug_error("the image is not as large as the second look's window");
        const torch::InferenceMode inference;
        torch::Tensor voxels = tensor_of(image);
        if (second.input.channels == 2) {
            if (!chambers || !chambers->grid.same_as(image.grid)) {
                return bug_error("the second look needs the chamber label map on its own grid");
            }
            voxels = torch::cat({voxels, tensor_of(*chambers)});
        }
        return state_->second->run(voxels, image.grid, {second.window, 0, "constant", 1}, progress);
    });
}

}  // namespace cardionode
