// A hospital of balls for tests: study files of 16^3 voxels, a network of a few thousand weights, seconds a round.
#pragma once

#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "conf/base/files.h"
#include "models/network.h"
#include "models/train/random.h"
#include "models/train/recipe.h"
#include "models/train/study_file.h"
#include "models/train/trainer.h"

namespace cardionode::fed::test {

/// @param heads  lines of the recipe's heads
inline std::string tiny_recipe(const std::string& heads, const std::string& more = {}) {
    return "batch: 1\nwindow: [16, 16, 16]\n"
           "architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}\n"
           "input: {spacing_mm: 2, hu_low: -200, hu_high: 400, mean: 100, sd: 100}\n"
           "heads: " +
           heads +
           "\nlevel_weights: [1]\n"
           "optimiser: {learning_rate: 0.02, warm_up: 2, ema_decay: 0.9}\n"
           "checkpoint_every: 3\n"
           "data: {studies: studies, share: 1, holdout: 0.25, rare_share: 0.5}\n"
           "augment: {rotate: {probability: 0}, scale: {probability: 0}, blur: {probability: 0}, low_resolution: "
           "{probability: 0}, gamma: {probability: 0}, noise: {probability: 0}, contrast: {probability: 0}}\n" +
           more;
}

inline constexpr const char* kTwoHeads = "[{name: calc, classes: 1}, {name: other, classes: 1}]";

inline void need(const Result<void>& result) {
    if (!result) throw std::runtime_error(result.error().message);
}

/// A study with a bright ball; the heads named get its voxels as their label.
inline train::Study ball_study(int number, const std::vector<std::string>& heads, const train::Recipe& recipe) {
    train::Random random(static_cast<std::uint64_t>(number), 5);
    const float cz = random.uniform(5, 11), cy = random.uniform(5, 11), cx = random.uniform(5, 11);
    train::Study study;
    study.facts.patient_hash = "patient " + std::to_string(number);
    study.facts.source = "test";
    study.facts.size = {16, 16, 16};
    study.facts.spacing_mm = {2, 2, 2};
    study.facts.input = train::input_words(recipe.input);
    std::vector<std::uint8_t> ball;
    for (int z = 0; z < 16; ++z) {
        for (int y = 0; y < 16; ++y) {
            for (int x = 0; x < 16; ++x) {
                const float square = (static_cast<float>(z) - cz) * (static_cast<float>(z) - cz) +
                                     (static_cast<float>(y) - cy) * (static_cast<float>(y) - cy) +
                                     (static_cast<float>(x) - cx) * (static_cast<float>(x) - cx);
                const bool in = square < 16;
                study.image.push_back((in ? 1.5F : 0.0F) + 0.2F * random.normal());
                ball.push_back(in ? 1 : 0);
            }
        }
    }
    for (const std::string& head : heads) study.labels[head] = ball;
    return study;
}

/// recipe.yaml, studies/ and global.safetensors in a folder.
struct TinyHospital {
    std::filesystem::path folder, recipe_file, global;
    train::Recipe recipe;

    explicit TinyHospital(const std::filesystem::path& where, const std::string& heads = kTwoHeads,
                          const std::string& more = {})
        : folder(where), recipe_file(where / "recipe.yaml"), global(where / "global.safetensors") {
        need(make_folder(folder / "studies"));
        need(write_file_durably(recipe_file, tiny_recipe(heads, more)));
        Result<train::Recipe> loaded = train::load_recipe(recipe_file);
        if (!loaded) throw std::runtime_error(loaded.error().message);
        recipe = *std::move(loaded);
        fresh(recipe, global);
    }
    /// Numbers 0.. of studies; the label's heads may differ.
    void add(int number, const std::vector<std::string>& heads) const {
        need(train::write_study(folder / "studies" / (std::to_string(number) + ".safetensors"),
                                ball_study(number, heads, recipe)));
    }
    static void fresh(const train::Recipe& recipe, const std::filesystem::path& out) {
        train::Recipe start = recipe;
        start.data.studies.clear();
        Result<train::Trainer> trainer = train::Trainer::create(start);
        if (!trainer) throw std::runtime_error(trainer.error().message);
        need(save_weights(trainer->network(), out));
    }
};

inline NamedTensors tensors_of(const std::filesystem::path& file) {
    Result<Safetensors> read = read_safetensors(file);
    if (!read) throw std::runtime_error(read.error().message);
    return read->tensors;
}

inline bool same(const NamedTensors& a, const NamedTensors& b) {
    if (a.size() != b.size()) return false;
    for (const auto& [name, tensor] : a) {
        if (!b.count(name) || !torch::equal(tensor, b.at(name))) return false;
    }
    return true;
}

}  // namespace cardionode::fed::test
