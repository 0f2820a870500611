#include "models/train/bundle_export.h"

#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "models/bundle.h"
#include "models/network.h"
#include "models/train/recipe.h"
#include "models/weights/safetensors.h"

namespace cardionode::train {
namespace {

constexpr const char* kWeights = "weights.safetensors";
constexpr const char* kSecondWeights = "second_look.safetensors";

/// A folder that goes when this object goes.
struct Scratch {
    std::filesystem::path path;
    ~Scratch() {
        std::error_code leftovers_do_no_harm;
        if (!path.empty()) std::filesystem::remove_all(path, leftovers_do_no_harm);
    }
};

/// The manifest's text with the hash line of its weights replaced: load_bundle refuses a stale one, rightly.
std::string with_hash(const std::string& yaml, const std::string& hash) {
    const std::string key = "  sha256:";
    const std::size_t at = yaml.find("\n" + key);
    if (at == std::string::npos) return yaml;
    const std::size_t end = yaml.find('\n', at + 1);
    return yaml.substr(0, at + 1) + key + " \"" + hash + "\"" + (end == std::string::npos ? "\n" : yaml.substr(end));
}

Result<void> fits(const BundleManifest& m, const Recipe& r) {
    const auto wrong = [](const std::string& what) { return config_error("manifest and recipe differ in " + what); };
    if (m.architecture.type != r.architecture.type) return wrong("architecture.type");
    if (m.architecture.type == "plain_conv_unet" &&
        (m.architecture.features != r.architecture.features || m.architecture.strides != r.architecture.strides)) {
        return wrong("architecture.features or strides");
    }
    if (m.architecture.type == "swin_unetr" && (m.architecture.feature_size != r.architecture.feature_size ||
                                                m.architecture.patch_merging != r.architecture.patch_merging)) {
        return wrong("architecture.feature_size or patch_merging");
    }
    if (m.input.spacing_mm != r.input.spacing_mm || m.input.hu_low != r.input.hu_low ||
        m.input.hu_high != r.input.hu_high || m.input.mean != r.input.mean || m.input.sd != r.input.sd) {
        return wrong("input");
    }
    if (m.heads.size() != r.heads.size()) return wrong("heads");
    for (std::size_t i = 0; i < m.heads.size(); ++i) {
        if (m.heads[i].name != r.heads[i].name || static_cast<int>(m.heads[i].classes.size()) != r.heads[i].classes) {
            return wrong("head " + m.heads[i].name);
        }
    }
    return {};
}

/// Every tenth step and all validations: enough for a curve, small enough for a repository.
std::string thinned(const std::string& metrics) {
    std::istringstream in(metrics);
    std::string line, out;
    while (std::getline(in, line)) {
        const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
        if (json.is_discarded()) continue;
        if (json.contains("validation") || json.value("step", std::int64_t{0}) % 10 == 0) out += line + "\n";
    }
    return out;
}

/// Of the last validation: "heart Dice 0.91" and so on, for the manifest's training record.
void add_metrics(const std::filesystem::path& file, std::map<std::string, std::string>& record,
                 const std::string& prefix = {}) {
    std::ifstream in(file);
    std::string line;
    nlohmann::json last;
    std::int64_t step = 0;
    while (std::getline(in, line)) {
        const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
        if (json.is_discarded()) continue;
        step = std::max(step, json.value("step", std::int64_t{0}));
        if (json.contains("validation")) last = json["validation"];
    }
    record[prefix + "steps"] = std::to_string(step);
    if (last.contains("dice")) record[prefix + "phantom_dice"] = last["dice"].dump();
    if (last.contains("landmarks")) record[prefix + "phantom_landmarks"] = last["landmarks"].dump();
}

/// The averaged weights of a run, rounded to float16, as a file. Returns its SHA-256.
Result<std::string> write_rounded_weights(const std::filesystem::path& run, const std::filesystem::path& file) {
    Result<Safetensors> trained = read_safetensors(run / kWeights);
    if (!trained) return std::move(trained).error().in("the run's weights");
    try {
        for (auto& [name, tensor] : trained->tensors) {
            tensor = tensor.to(torch::kHalf);
            if (!torch::isfinite(tensor.to(torch::kFloat)).all().item<bool>()) {
                return config_error(name + " does not fit float16");
            }
        }
    } catch (const std::exception& e) {
        return bug_error(std::string("rounding the weights: ") + e.what());
    }
    if (Result<void> r = write_safetensors(file, trained->tensors, trained->metadata); !r) return r.error();
    return sha256_of_file(file);
}

/// An empty folder in `folder`.
Result<void> make_scratch(const std::filesystem::path& folder, Scratch& scratch) {
    std::string pattern = (folder / ".export-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) return file_error("making a folder beside the manifest", folder, errno);
    scratch.path = pattern;
    return {};
}

/// The weights of the other network of a bundle, for a manifest that names them.
Result<void> copy_other_weights(const std::filesystem::path& from, const std::filesystem::path& to) {
    std::error_code error;
    for (const auto& file : std::filesystem::directory_iterator(from, error)) {
        if (error || file.path().extension() != ".safetensors" || file.path().filename() == kWeights) continue;
        std::filesystem::copy_file(file.path(), to / file.path().filename(), error);
        if (error) return file_error("copying", file.path(), error.value());
    }
    if (error) return file_error("reading", from, error.value());
    return {};
}

/// A second look as the recipe describes it.
SecondLookManifest second_look_of(const Recipe& recipe, const std::string& file, const std::string& sha256) {
    SecondLookManifest second;
    second.architecture = recipe.architecture;
    second.input = recipe.input;
    for (std::size_t axis = 0; axis < 3; ++axis) second.window[axis] = recipe.window[axis];
    for (const HeadRecipe& head : recipe.heads) second.heads.push_back(head.name);
    second.weights = {file, sha256};
    return second;
}

}  // namespace

Result<void> export_bundle(const std::filesystem::path& run, const std::filesystem::path& recipe_file,
                           const std::filesystem::path& folder, const std::map<std::string, std::string>& record) {
    Result<Recipe> recipe = load_recipe(recipe_file);
    if (!recipe) return std::move(recipe).error();
    // Everything is made and checked beside the bundle; only what loads replaces what is there.
    Scratch scratch;
    if (Result<void> r = make_scratch(folder, scratch); !r) return r;
    Result<std::string> hash = write_rounded_weights(run, scratch.path / kWeights);
    if (!hash) return std::move(hash).error();
    Result<std::string> yaml = read_file(folder / "manifest.yaml");
    if (!yaml) return std::move(yaml).error();
    if (Result<void> r = write_file_durably(scratch.path / "manifest.yaml", with_hash(*yaml, *hash)); !r) return r;
    if (Result<void> r = copy_other_weights(folder, scratch.path); !r) return r;
    Result<Bundle> bundle = load_bundle(scratch.path);
    if (!bundle) return std::move(bundle).error().in("the bundle's manifest");
    if (Result<void> r = fits(bundle->manifest, *recipe); !r) return r;
    if (bundle->manifest.weights.file != kWeights) return config_error("weights.file must be weights.safetensors");
    Result<std::shared_ptr<Network>> network = make_network(network_options(bundle->manifest));
    if (!network) return std::move(network).error();
    if (Result<void> r = load_weights(**network, scratch.path / kWeights); !r) return r;

    for (const auto& [key, value] : record) bundle->manifest.training[key] = value;
    bundle->manifest.training["seed"] = std::to_string(recipe->seed);
    add_metrics(run / "metrics.jsonl", bundle->manifest.training);
    Result<std::string> weights = read_file(scratch.path / kWeights), metrics = read_file(run / "metrics.jsonl");
    Result<std::string> recipe_text = read_file(recipe_file);
    for (const Result<std::string>* text : {&weights, &metrics, &recipe_text}) {
        if (!*text) return text->error();
    }
    if (Result<void> r = write_file_durably(folder / kWeights, *weights); !r) return r;
    if (Result<void> r = write_file_durably(folder / "metrics.jsonl", thinned(*metrics)); !r) return r;
    if (Result<void> r = write_file_durably(folder / "recipe.yaml", *recipe_text); !r) return r;
    return write_file_durably(folder / "manifest.yaml", to_yaml(bundle->manifest));
}

Result<void> export_second_look(const std::filesystem::path& run, const std::filesystem::path& recipe_file,
                                const std::filesystem::path& folder, const std::map<std::string, std::string>& record) {
    Result<Recipe> recipe = load_recipe(recipe_file);
    if (!recipe) return std::move(recipe).error();
    Result<Bundle> bundle = load_bundle(folder);
    if (!bundle) return std::move(bundle).error().in("the bundle of the first look");
    BundleManifest& m = bundle->manifest;
    for (const HeadRecipe& head : recipe->heads) {
        const HeadManifest* same = m.head(head.name);
        if (!same || static_cast<int>(same->classes.size()) != head.classes) {
            return config_error("manifest and recipe differ in head " + head.name);
        }
    }
    // A bundle that has a second look keeps its file name.
    const std::string file = m.second_look ? m.second_look->weights.file : kSecondWeights;
    Scratch scratch;
    if (Result<void> r = make_scratch(folder, scratch); !r) return r;
    Result<std::string> hash = write_rounded_weights(run, scratch.path / file);
    if (!hash) return std::move(hash).error();
    m.second_look = second_look_of(*recipe, file, *hash);
    for (const auto& [key, value] : record) m.training[key] = value;
    m.training["second_look_seed"] = std::to_string(recipe->seed);
    add_metrics(run / "metrics.jsonl", m.training, "second_look_");

    // What will be written must load: the manifest as a whole, and the weights in the network that it describes.
    Result<std::string> first = read_file(bundle->weights_file());
    if (!first) return std::move(first).error();
    if (Result<void> r = write_file_durably(scratch.path / m.weights.file, *first); !r) return r;
    if (Result<void> r = write_file_durably(scratch.path / "manifest.yaml", to_yaml(m)); !r) return r;
    Result<Bundle> written = load_bundle(scratch.path);
    if (!written) return std::move(written).error().in("the bundle with its second look");
    Result<std::shared_ptr<Network>> network = make_network(second_look_options(written->manifest));
    if (!network) return std::move(network).error();
    if (Result<void> r = load_weights(**network, scratch.path / file); !r) return r;

    Result<std::string> weights = read_file(scratch.path / file), metrics = read_file(run / "metrics.jsonl");
    Result<std::string> recipe_text = read_file(recipe_file);
    for (const Result<std::string>* text : {&weights, &metrics, &recipe_text}) {
        if (!*text) return text->error();
    }
    if (Result<void> r = write_file_durably(folder / file, *weights); !r) return r;
    if (Result<void> r = write_file_durably(folder / "second_look_metrics.jsonl", thinned(*metrics)); !r) return r;
    if (Result<void> r = write_file_durably(folder / "second_look_recipe.yaml", *recipe_text); !r) return r;
    return write_file_durably(folder / "manifest.yaml", to_yaml(m));
}

}  // namespace cardionode::train
