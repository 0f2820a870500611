#include "conf/command/models_forward.h"

#include <unistd.h>

#include <cstdio>

#include <fmt/format.h>

#include "models/device.h"
#include "models/network.h"
#include "models/sliding_window.h"

namespace cardionode {
namespace {

/// A network with one head and several levels, as nnU-Net's own, has no name for the head: its outputs are numbered.
constexpr const char* kUnnamedHead = "out";

NamedTensors state_tensors(NamedTensors stored) {
    NamedTensors state;
    for (auto& [name, tensor] : stored) {
        if (name.rfind("state.", 0) == 0) state[name.substr(6)] = tensor;
    }
    return state.empty() ? std::move(stored) : state;
}

/// The strides as given, one or three a stage, against those that the tensors tell.
Result<void> check_strides(const std::vector<std::int64_t>& given, const ArchitectureManifest& architecture) {
    if (given.empty()) return {};
    const std::size_t stages = architecture.strides.size();
    if (given.size() != stages && given.size() != 3 * stages) {
        return config_error(fmt::format("--strides: the network has {} stages: expected {} or {} numbers, found {}",
                                        stages, stages, 3 * stages, given.size()));
    }
    for (std::size_t i = 0; i < 3 * stages; ++i) {
        const std::int64_t stride = given.size() == stages ? given[i / 3] : given[i];
        const std::int64_t own = architecture.strides[i / 3][i % 3];
        if (stride != own) {
            return config_error(
                fmt::format("--strides: {} for stage {}, but the transposed convolutions in the file "
                            "have {}",
                            stride, i / 3, own));
        }
    }
    return {};
}

Result<std::shared_ptr<Network>> network_for(const ForwardOptions& options) {
    auto stored = read_safetensors(options.weights);
    if (!stored) return std::move(stored).error();
    const NamedTensors state = state_tensors(std::move(stored->tensors));
    auto shape = infer_network_options(options.architecture, state, kUnnamedHead);
    if (!shape) return std::move(shape).error().in(options.weights.string());
    if (auto ok = check_strides(options.strides, shape->architecture); !ok) return std::move(ok).error();
    shape->architecture.patch_merging = options.merging;
    auto network = make_network(*shape);
    if (!network) return std::move(network).error().in(options.weights.string());
    if (auto loaded = load_state(**network, state); !loaded) {
        return std::move(loaded).error().in(options.weights.string());
    }
    (*network)->eval();
    return network;
}

Result<torch::Tensor> input_for(const ForwardOptions& options, const Network& network) {
    auto stored = read_safetensors(options.input, "input");
    if (!stored) return std::move(stored).error();
    const auto found = stored->tensors.find("input");
    if (found == stored->tensors.end()) return config_error(options.input.string() + ": holds no tensor 'input'");
    const torch::Tensor input = found->second.to(torch::kFloat32);
    if (input.dim() != 5 || input.numel() == 0 || input.size(1) != network.input_channels()) {
        return config_error(
            fmt::format("{}: expected an input [N, {}, D, H, W]", options.input.string(), network.input_channels()));
    }
    const auto multiple = network.multiple();
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t side = options.window.value_or(input.size(static_cast<std::int64_t>(axis) + 2));
        if (side % multiple[axis] != 0) {
            return config_error(fmt::format("{}: a side of {} voxels is not a multiple of {}{}", options.input.string(),
                                            side, multiple[axis],
                                            options.window ? "" : "; --window N takes an input of any size"));
        }
    }
    return input;
}

/// Output tensors of one image of the batch, by their names in the file.
NamedTensors outputs_of(Network& network, const torch::Tensor& image, const ForwardOptions& options,
                        const torch::Device& device) {
    const bool numbered =
        network.heads().size() == 1 && network.heads()[0].name == kUnnamedHead && network.max_levels() > 1;
    NamedTensors outputs;
    if (!options.window) {
        for (const HeadLogits& head :
             network.forward(image.unsqueeze(0).to(device), numbered ? network.max_levels() : 1)) {
            for (std::size_t level = 0; level < head.levels.size(); ++level) {
                outputs["output." + (numbered ? std::to_string(level) : head.head)] =
                    head.levels[level].to(torch::kCPU, torch::kFloat32);
            }
        }
        return outputs;
    }
    WindowManifest window;
    window.size = {*options.window, *options.window, *options.window};
    window.overlap = options.overlap;
    window.blending = options.blending;
    std::vector<std::int64_t> channels;
    for (const HeadChannels& head : network.heads()) channels.push_back(head.channels);
    const bool terminal = ::isatty(STDERR_FILENO) == 1;
    auto blended = slide(
        image, window, channels, 1,
        [&](const torch::Tensor& batch) {
            std::vector<torch::Tensor> logits;
            for (const HeadLogits& head : network.forward(batch.to(device))) logits.push_back(head.levels[0]);
            return logits;
        },
        [&](std::int64_t done, std::int64_t total) {
            if (terminal) fmt::print(stderr, "\rwindow {} of {}{}", done, total, done == total ? "\n" : "");
            return true;
        });
    for (std::size_t i = 0; i < channels.size(); ++i) {
        outputs["output." + (numbered ? "0" : network.heads()[i].name)] = blended->at(i).unsqueeze(0);
    }
    return outputs;
}

Result<void> forward(const ForwardOptions& options) {
    auto device = device_from(options.device);
    if (!device) return std::move(device).error();
    set_cpu_threads(options.threads);
    auto network = network_for(options);
    if (!network) return std::move(network).error();
    auto input = input_for(options, **network);
    if (!input) return std::move(input).error();
    torch::NoGradGuard no_grad;
    (*network)->to(*device);
    std::map<std::string, std::vector<torch::Tensor>> images;
    for (std::int64_t n = 0; n < input->size(0); ++n) {
        for (auto& [name, tensor] : outputs_of(**network, (*input)[n], options, *device))
            images[name].push_back(tensor);
    }
    NamedTensors outputs;
    for (const auto& [name, parts] : images) outputs[name] = torch::cat(parts, 0);
    if (auto written = write_safetensors(options.output, outputs, {{"architecture", options.architecture}}); !written) {
        return written;
    }
    for (const auto& [name, tensor] : outputs) {
        std::string shape;
        for (const std::int64_t size : tensor.sizes()) shape += (shape.empty() ? "" : "x") + std::to_string(size);
        fmt::print("{:<24} {}\n", name, shape);
    }
    fmt::print("written to {} (computed on {})\n", options.output.string(), device_name(*device));
    return {};
}

}  // namespace

Result<void> run_models_forward(const ForwardOptions& options) {
    try {
        return forward(options);
    } catch (const c10::Error& error) {
        return retry_error(std::string("torch: ") + error.what_without_backtrace());
    } catch (const std::bad_alloc&) {
        return retry_error("not enough memory");
    }
}

}  // namespace cardionode
