#include "conf/command/models_files.h"

#include <fmt/format.h>

#include "conf/base/hash.h"
#include "models/network.h"
#include "models/weights/checkpoint.h"
#include "models/weights/checkpoint_write.h"

namespace cardionode {
namespace {

void print_network(const Network& network, const ArchitectureManifest& architecture) {
    std::int64_t numbers = 0;
    for (const auto& item : network.named_parameters()) numbers += item.value().numel();
    if (architecture.type == "swin_unetr") {
        fmt::print("swin_unetr, feature size {}", architecture.feature_size);
    } else {
        fmt::print("plain_conv_unet, features {}", fmt::join(architecture.features, " "));
    }
    fmt::print(", {} input channel(s), {} parameters\n", network.input_channels(), numbers);
    for (const HeadChannels& head : network.heads())
        fmt::print("  head {:<12} {} channels, background included\n", head.name, head.channels);
}

}  // namespace

Result<void> run_models_export(const ExportOptions& options) {
    auto bundle = load_bundle(options.bundle);
    if (!bundle) return std::move(bundle).error();
    auto network = make_network(network_options(bundle->manifest));
    if (!network) return std::move(network).error();
    if (auto loaded = load_weights(**network, bundle->weights_file()); !loaded) return loaded;
    const std::map<std::string, std::string> about = {{"model", bundle->manifest.name},
                                                      {"version", bundle->manifest.version},
                                                      {"architecture", bundle->manifest.architecture.type}};
    if (options.format == "safetensors") {
        if (auto written = save_weights(**network, options.output, about); !written) return written;
    } else {
        OrderedTensors tensors;  // in the order of the network's own state_dict
        for (const auto& item : (*network)->named_parameters()) tensors.emplace_back(item.key(), item.value());
        if (auto written = write_checkpoint(options.output, tensors); !written) return written;
    }
    print_network(**network, bundle->manifest.architecture);
    fmt::print("written to {}\n", options.output.string());
    return {};
}

Result<void> run_models_import(const ImportOptions& options) {
    auto tensors = read_weights(options.file);
    if (!tensors) return std::move(tensors).error();
    auto shape = infer_network_options(options.architecture, *tensors, options.single_head);
    if (!shape) return std::move(shape).error().in(options.file.string());
    auto network = make_network(*shape);
    if (!network) return std::move(network).error().in(options.file.string());
    if (auto loaded = load_state(**network, *tensors); !loaded) {
        return std::move(loaded).error().in(options.file.string());
    }
    auto hash = sha256_of_file(options.file);
    if (!hash) return std::move(hash).error();
    if (auto written = save_weights(**network, options.output,
                                    {{"architecture", options.architecture}, {"imported_sha256", *hash}});
        !written) {
        return written;
    }
    print_network(**network, shape->architecture);
    if (options.architecture == "swin_unetr") {
        fmt::print(
            "The order of patch merging cannot be seen in a file: ask which MONAI it was trained with, and write "
            "it\ninto the manifest (patch_merging: monai_0_9 for 0.9 to 1.4, monai_1_5, v2).\n");
    }
    fmt::print("written to {}\n", options.output.string());
    return {};
}

}  // namespace cardionode
