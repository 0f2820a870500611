#include "pipeline/infer/predictor.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>
#include <torch/version.h>

#include <cmath>

#include <fmt/format.h>

#include "models/device.h"
#include "models/network.h"
#include "models/sliding_window.h"
#include "pipeline/infer/window_runner.h"

namespace cardionode {
namespace {

constexpr std::int64_t kGpuBatch = 4, kCpuBatch = 1;

/// float16 autocast on CUDA while it lives.
class Autocast {
public:
    explicit Autocast(bool wanted) : wanted_(wanted) {
        if (wanted_) set(true);
    }
    ~Autocast() {
        if (!wanted_) return;
        at::autocast::clear_cache();
        set(false);
    }
    Autocast(const Autocast&) = delete;
    Autocast& operator=(const Autocast&) = delete;

private:
    static void set(bool enabled) {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
        at::autocast::set_autocast_enabled(at::kCUDA, enabled);
#else
        at::autocast::set_enabled(enabled);
#endif
    }
    bool wanted_;
};

Result<std::shared_ptr<Network>> loaded_network(const Bundle& bundle, const torch::Device& device) {
    auto network = make_network(network_options(bundle.manifest));
    if (!network) return std::move(network).error();
    if (auto loaded = load_weights(**network, bundle.weights_file()); !loaded) return std::move(loaded).error();
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

}  // namespace

struct Predictor::State {
    Bundle bundle;
    DeviceChoice choice;
    torch::Device device = torch::kCPU;
    std::shared_ptr<Network> network;  ///< on `device`
    std::shared_ptr<Network>
        cpu_network;  ///< made from the file when the GPU fails: a failing GPU may not give it back

    std::vector<torch::Tensor> compute(const torch::Tensor& batch, bool on_gpu) {
        if (!on_gpu && device.is_cuda() && !cpu_network) {
            auto loaded = loaded_network(bundle, torch::kCPU);
            if (!loaded) throw std::runtime_error(loaded.error().message);
            cpu_network = *loaded;
        }
        Network& chosen = on_gpu || !device.is_cuda() ? *network : *cpu_network;
        const Autocast autocast(on_gpu && choice.mixed_precision);
        std::vector<torch::Tensor> logits;
        for (const HeadLogits& head : chosen.forward(batch.to(on_gpu ? device : torch::Device(torch::kCPU)))) {
            logits.push_back(head.levels[0].to(torch::kCPU, torch::kFloat32));
        }
        return logits;
    }

    Result<Prediction> run(const Volume& image, const Progress& progress) {
        if (auto ok = check_grid(image.grid, bundle.manifest.input); !ok) return std::move(ok).error();
        const torch::InferenceMode inference;
        const auto& size = image.grid.size();
        // SlidingWindow pads into a tensor of its own: the voxels are only read.
        const torch::Tensor voxels =
            torch::from_blob(const_cast<float*>(image.voxels.data()), {1, size[2], size[1], size[0]}, torch::kFloat32);
        if (!torch::isfinite(voxels).all().item<bool>()) return bug_error("the image holds values that are not finite");
        std::vector<std::int64_t> channels;
        for (const HeadChannels& head : network->heads()) channels.push_back(head.channels);
        SlidingWindow windows(voxels, bundle.manifest.window, channels);

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
            prediction.heads.push_back(probabilities_of(network->heads()[i].name, windows.take(i), image.grid));
        }
        return prediction;
    }
};

Predictor::Predictor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;
Predictor::~Predictor() = default;

Result<Predictor> Predictor::load(const Bundle& bundle, const DeviceChoice& choice) {
    try {
        if (bundle.manifest.input.channels != 1) {
            return config_error(bundle.manifest.name +
                                ": networks with a chamber label map as second input cannot run "
                                "in this node yet: expected input.channels 1");
        }
        auto device = device_from(choice.device);
        if (!device) return std::move(device).error();
        set_cpu_threads(choice.threads);
        auto network = loaded_network(bundle, *device);
        if (!network) return std::move(network).error().in("loading the model " + bundle.manifest.name);
        auto state = std::make_unique<State>();
        state->bundle = bundle;
        state->choice = choice;
        state->device = *device;
        state->network = *network;
        return Predictor(std::move(state));
    } catch (const std::exception& failure) {
        const bool full = classify(failure) == ComputeFailure::MemoryFull;
        return Error{full ? ErrorKind::Retry : ErrorKind::Bug,
                     "loading the model " + bundle.manifest.name + ": " + failure.what()};
    }
}

Result<Prediction> Predictor::run(const Volume& image, const Progress& progress) {
    try {
        return state_->run(image, progress);
    } catch (const std::exception& failure) {
        if (classify(failure) == ComputeFailure::MemoryFull) return retry_error("not enough memory for this image");
        return bug_error(std::string("the network failed: ") + failure.what());
    }
}

}  // namespace cardionode
