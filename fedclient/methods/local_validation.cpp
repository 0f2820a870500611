#include "fedclient/methods/local_validation.h"

#include <algorithm>

#include "conf/base/hash.h"
#include "fedclient/methods/cpu_threads.h"
#include "fedclient/methods/round_training.h"
#include "models/device.h"
#include "models/train/phantom.h"
#include "models/train/validation.h"

namespace cardionode::fed {
namespace {

/// The head of a point's name, as validation.h names them.
std::string head_of_point(const std::string& name) {
    for (const train::PhantomHead& head : train::phantom_heads()) {
        if (std::find(head.classes.begin(), head.classes.end(), name) != head.classes.end()) return head.name;
    }
    return {};
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

Validation summary_of(const train::ValidationResult& result, const train::Recipe& recipe) {
    Validation v;
    std::map<std::string, std::vector<double>> errors;
    for (const auto& [name, score] : result.landmarks) {
        std::vector<double>& all = errors[head_of_point(name)];
        for (const double e : score.errors_mm) all.push_back(std::min(e, kMissMm));
        for (int missed = score.found; missed < score.present; ++missed) all.push_back(kMissMm);
    }
    for (const train::HeadRecipe& head : recipe.heads) {
        const auto points = errors.find(head.name);
        if (points != errors.end()) {
            if (!points->second.empty()) v.point_mm[head.name] = median(points->second);
        } else if (result.has(head.name)) {
            v.dice[head.name] = result.mean_dice(head.name);
        }
    }
    return v;
}

}  // namespace

Result<Validation> validate_on_holdout(const train::Recipe& recipe, const std::filesystem::path& weights,
                                       torch::Device device) {
    Result<std::shared_ptr<Network>> network = network_with(recipe, weights, device);
    if (!network) return std::move(network).error();
    Result<train::StudySource> held_out = train::StudySource::open(recipe, train::StudySource::Part::HeldOut);
    if (!held_out) return std::move(held_out).error();
    if (held_out->size() == 0) return Validation{};
    try {
        Validation v = summary_of(train::validate(**network, *held_out, recipe, device), recipe);
        v.studies = static_cast<std::int64_t>(held_out->size());
        return v;
    } catch (const train::BadSample& e) {
        return reject_error(std::string("validating: ") + e.what());
    } catch (const std::exception& e) {
        return bug_error(std::string("validating: ") + e.what());
    }
}

Result<Validation> validate_weights(const std::filesystem::path& file, const std::filesystem::path& weights,
                                    const std::string& device_word, int threads) {
    Result<train::Recipe> recipe = train::load_recipe(file);
    if (!recipe) return std::move(recipe).error();
    if (recipe->data.studies.empty()) return config_error(file.string() + ": data.studies is missing");
    Result<torch::Device> device = device_from(device_word);
    if (!device) return std::move(device).error();
    if (Result<void> set = set_threads(threads); !set) return set.error();
    return validate_on_holdout(*recipe, weights, *device);
}

Result<std::string> architecture_hash(const std::filesystem::path& file) {
    Result<train::Recipe> recipe = train::load_recipe(file);
    if (!recipe) return std::move(recipe).error();
    NetworkOptions options;
    options.architecture = recipe->architecture;
    options.input_channels = recipe->input.channels;
    for (const train::HeadRecipe& h : recipe->heads) options.heads.push_back({h.name, h.classes + 1});
    try {
        Result<std::shared_ptr<Network>> network = make_network(options);
        if (!network) return std::move(network).error();
        Sha256 hash;
        hash.update("architecture " + recipe->architecture.type + "\n");
        // Not to be seen in the tensors, but it decides what they compute.
        if (recipe->architecture.type == "swin_unetr")
            hash.update("patch_merging " + recipe->architecture.patch_merging + "\n");
        for (const auto& [name, tensor] : state_of(**network)) {  // in bytewise order of the names
            std::string line = name + " float32";
            for (const std::int64_t side : tensor.sizes()) line += " " + std::to_string(side);
            hash.update(line + "\n");
        }
        return hash.hex_digest();
    } catch (const std::exception& e) {
        return config_error(file.string() + ": " + e.what());
    }
}

}  // namespace cardionode::fed
