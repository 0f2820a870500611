// Checkpoint names and the networks' own: loading, saving, and reading sizes from tensors.
#include <algorithm>
#include <regex>
#include <set>

#include "models/network.h"

namespace cardionode {
namespace {

constexpr std::size_t kProblemsNamed = 10;

bool starts_with(const std::string& text, std::string_view prefix) {
    return text.compare(0, prefix.size(), prefix) == 0;
}
bool ends_with(const std::string& text, std::string_view end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}
void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
}

/// Scalars that the published multi-head networks carry beside their weights, and the index that is recomputed.
bool is_ignored(const std::string& name) {
    for (const char* flag : {"fed_task", "patches", "deep_supervision", "condition_on_seg", "output_seg"}) {
        if (name == flag) return true;
    }
    // What a training script keeps beside the weights: moments of the optimiser and the like.
    for (const char* training : {"optim", "lr_scheduler", "scheduler", "scaler", "grad_scaler", "callbacks", "loops"}) {
        if (starts_with(name, training) && name.find('.') != std::string::npos) return true;
    }
    return ends_with(name, "relative_position_index");
}

/// "X" -> "X" without any of the known prefixes, aliases turned into the original's name, heads in the multi-head form:
/// encoder..., decoder..., swinViT..., seg_layers.<head>.<i>..., outs.<head>....
std::string plain_name(std::string name, const std::string& single_head) {
    for (bool again = true; again;) {
        again = false;
        for (const char* prefix : {"module.", "unet.", "model.", "swin_unetr.", "state_dict.", "model_state_dict.",
                                   "network_weights.", "net.", "network.", "_orig_mod."}) {
            if (starts_with(name, prefix)) {
                name.erase(0, std::string_view(prefix).size());
                again = true;
            }
        }
    }
    if (starts_with(name, "decoder.encoder.")) name.erase(0, std::string_view("decoder.").size());
    replace_all(name, ".mlp.fc1.", ".mlp.linear1.");  // MONAI's self-supervised weights
    replace_all(name, ".mlp.fc2.", ".mlp.linear2.");
    replace_all(name, ".all_modules.0.", ".conv.");
    replace_all(name, ".all_modules.1.", ".norm.");  // without dropout between them
    replace_all(name, ".all_modules.2.", ".norm.");
    if (starts_with(name, "decoder.seg_layers.")) {
        name = "seg_layers." + single_head + name.substr(std::string_view("decoder.seg_layers").size());
    }
    return name;
}

std::string shape_text(const torch::Tensor& tensor) {
    std::string text = "[";
    for (const std::int64_t size : tensor.sizes()) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + "]";
}

struct PlainState {
    NamedTensors tensors;
    std::vector<std::string> problems;
};

/// All tensors under their plain names; aliases folded into one.
PlainState plain_state(const NamedTensors& tensors, const std::string& single_head) {
    PlainState state;
    for (const auto& [stored, tensor] : tensors) {
        const std::string name = plain_name(stored, single_head);
        if (is_ignored(name)) continue;
        const auto [place, is_new] = state.tensors.emplace(name, tensor);
        if (!is_new && !torch::equal(place->second, tensor)) {
            state.problems.push_back("'" + stored + "' differs from its other copy in the file");
        }
    }
    // A network with one head only calls it "out"; beside outs.* the same name is the unused head.
    const bool multi = std::any_of(state.tensors.begin(), state.tensors.end(),
                                   [](const auto& item) { return starts_with(item.first, "outs."); });
    for (const char* part : {"conv.conv.weight", "conv.conv.bias"}) {
        const auto single = state.tensors.find(std::string("out.") + part);
        if (single == state.tensors.end() || multi) continue;
        state.tensors["outs." + single_head + "." + part] = single->second;
        state.tensors.erase(single);
    }
    return state;
}

Error all_problems(const std::vector<std::string>& problems) {
    std::string text = "the weights do not fit the network: ";
    for (std::size_t i = 0; i < std::min(problems.size(), kProblemsNamed); ++i) text += (i ? "; " : "") + problems[i];
    if (problems.size() > kProblemsNamed) {
        text += "; and " + std::to_string(problems.size() - kProblemsNamed) + " more";
    }
    return config_error(text);
}

bool is_unused_head(const std::string& plain) { return starts_with(plain, "out."); }

/// @param heads_may_differ  as load_body
Result<LoadedHeads> load_checked(Network& network, const NamedTensors& tensors, bool heads_may_differ) {
    const bool named = heads_may_differ || network.heads().size() != 1;
    const std::string single = named ? "out" : network.heads().front().name;
    PlainState state = plain_state(tensors, single);
    std::vector<std::pair<torch::Tensor, torch::Tensor>> copies;
    std::set<std::string> loaded, fresh, left_out;
    for (const auto& item : network.named_parameters()) {
        const std::string name = plain_name(item.key(), single), head = head_of_parameter(name);
        const auto found = state.tensors.find(name);
        if (!head.empty()) (found == state.tensors.end() ? fresh : loaded).insert(head);
        if (found == state.tensors.end()) {
            if (heads_may_differ && !head.empty()) continue;
            if (!is_unused_head(name)) state.problems.push_back("'" + item.key() + "' is missing");
            continue;
        }
        const torch::Tensor source = found->second;
        state.tensors.erase(found);
        if (source.sizes() != item.value().sizes()) {
            if (is_unused_head(name)) continue;
            state.problems.push_back("'" + item.key() + "' has the shape " + shape_text(source) + ", expected " +
                                     shape_text(item.value()));
        } else if (!source.is_floating_point()) {
            state.problems.push_back("'" + item.key() + "' does not hold floating numbers");
        } else if (!torch::isfinite(source).all().item<bool>()) {
            state.problems.push_back("'" + item.key() + "' holds a value that is not finite");
        } else {
            copies.emplace_back(item.value(), source);
        }
    }
    for (const auto& [name, tensor] : state.tensors) {
        const std::string head = head_of_parameter(name);
        if (heads_may_differ && !head.empty() && loaded.count(head) == 0) left_out.insert(head);
        else if (!is_unused_head(name)) state.problems.push_back("'" + name + "' is unexpected");
    }
    for (const std::string& head : loaded) {
        if (heads_may_differ && fresh.count(head) > 0)
            state.problems.push_back("head '" + head + "' is there in part only");
    }
    if (!state.problems.empty()) return all_problems(state.problems);
    torch::NoGradGuard no_grad;
    for (auto& [target, source] : copies) target.copy_(source);
    const auto list = [](const std::set<std::string>& names) {
        return std::vector<std::string>(names.begin(), names.end());
    };
    return LoadedHeads{list(loaded), list(fresh), list(left_out)};
}

/// torch's exceptions end here.
Result<LoadedHeads> load_guarded(Network& network, const NamedTensors& tensors, bool heads_may_differ) {
    try {
        return load_checked(network, tensors, heads_may_differ);
    } catch (const c10::Error& error) {
        return retry_error(std::string("loading weights: ") + error.what_without_backtrace());
    } catch (const std::bad_alloc&) {
        return retry_error("loading weights: not enough memory");
    }
}

const torch::Tensor* find(const NamedTensors& tensors, const std::string& name, std::int64_t dimensions) {
    const auto found = tensors.find(name);
    return found != tensors.end() && found->second.dim() == dimensions ? &found->second : nullptr;
}

Result<NetworkOptions> infer_swin(const NamedTensors& tensors) {
    const torch::Tensor* patches = find(tensors, "swinViT.patch_embed.proj.weight", 5);
    if (!patches) return config_error("no tensor swinViT.patch_embed.proj.weight: not a swin_unetr");
    NetworkOptions options;
    options.architecture.type = "swin_unetr";
    options.architecture.feature_size = patches->size(0);
    options.input_channels = patches->size(1);
    static const std::regex head_name("outs\\.([^.]+)\\.conv\\.conv\\.weight");
    for (const auto& [name, tensor] : tensors) {
        std::smatch match;
        if (std::regex_match(name, match, head_name) && tensor.dim() == 5) {
            options.heads.push_back({match[1], tensor.size(0)});
        }
    }
    if (options.heads.empty()) return config_error("no head: no tensor outs.<head>.conv.conv.weight");
    return options;
}

Result<NetworkOptions> infer_unet(const NamedTensors& tensors) {
    NetworkOptions options;
    options.architecture.type = "plain_conv_unet";
    auto& features = options.architecture.features;
    for (std::size_t i = 0;; ++i) {
        const auto* conv = find(tensors, "encoder.stages." + std::to_string(i) + ".0.convs.0.conv.weight", 5);
        if (!conv) break;
        if (i == 0) options.input_channels = conv->size(1);
        features.push_back(conv->size(0));
    }
    if (features.size() < 2)
        return config_error("no tensor encoder.stages.1.0.convs.0.conv.weight: not a plain_conv_unet");
    const std::size_t ups = features.size() - 1;
    auto& own = options.architecture.strides;
    own.assign(features.size(), {1, 1, 1});
    for (std::size_t i = 0; i < ups; ++i) {
        const auto* up = find(tensors, "decoder.transpconvs." + std::to_string(i) + ".weight", 5);
        if (!up) return config_error("no tensor decoder.transpconvs." + std::to_string(i) + ".weight");
        own[ups - i] = {up->size(2), up->size(3), up->size(4)};
    }
    static const std::regex head_name("seg_layers\\.([^.]+)\\.0\\.weight");
    for (const auto& [name, tensor] : tensors) {
        std::smatch match;
        if (std::regex_match(name, match, head_name) && tensor.dim() == 5) {
            options.heads.push_back({match[1], tensor.size(0)});
        }
    }
    if (options.heads.empty()) return config_error("no head: no tensor seg_layers.<head>.0.weight");
    return options;
}

}  // namespace

Result<NetworkOptions> infer_network_options(const std::string& type, const NamedTensors& tensors,
                                             const std::string& single_head) {
    const PlainState state = plain_state(tensors, single_head);
    if (type == "swin_unetr") return infer_swin(state.tensors);
    if (type == "plain_conv_unet") return infer_unet(state.tensors);
    return config_error("architecture: expected swin_unetr or plain_conv_unet, found '" + type + "'");
}

Result<void> load_state(Network& network, const NamedTensors& tensors) {
    auto loaded = load_guarded(network, tensors, false);
    if (!loaded) return std::move(loaded).error();
    return {};
}

Result<LoadedHeads> load_body(Network& network, const NamedTensors& tensors) {
    return load_guarded(network, tensors, true);
}

std::string head_of_parameter(const std::string& name) {
    for (const char* prefix : {"outs.", "seg_layers."}) {
        if (!starts_with(name, prefix)) continue;
        const std::size_t begin = std::string_view(prefix).size(), end = name.find('.', begin);
        if (end != std::string::npos) return name.substr(begin, end - begin);
    }
    return {};
}

NamedTensors state_of(const Network& network) {
    NamedTensors state;
    for (const auto& item : network.named_parameters()) {
        state.emplace(item.key(), item.value().detach().to(torch::kCPU, torch::kFloat32, false, /*copy=*/true));
    }
    return state;
}

Result<void> load_weights(Network& network, const std::filesystem::path& file) {
    auto stored = read_safetensors(file);
    if (!stored) return std::move(stored).error();
    auto loaded = load_state(network, stored->tensors);
    if (!loaded) return std::move(loaded).error().in(file.string());
    return {};
}

Result<void> save_weights(const Network& network, const std::filesystem::path& file,
                          const std::map<std::string, std::string>& metadata) {
    try {
        return write_safetensors(file, state_of(network), metadata);
    } catch (const c10::Error& error) {
        return retry_error("writing " + file.string() + ": " + error.what_without_backtrace());
    }
}

}  // namespace cardionode
