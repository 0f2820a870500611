#include "models/train/samples.h"

namespace cardionode::train {
namespace {
constexpr std::uint64_t kValidation = 0x76616c6964ULL;  // stream of held-out seeds

PhantomOptions options_of(const PhantomRecipe& recipe, PhantomOptions options) {
    options.edition = recipe.edition;
    options.profiles = recipe.profiles == "held_out" ? ProfileSet::HeldOut
                       : recipe.profiles == "all"    ? ProfileSet::All
                                                     : ProfileSet::Training;
    return options;
}
}  // namespace

PhantomSource::PhantomSource(std::shared_ptr<const PhantomAtlas> atlas, const Recipe& recipe)
    : atlas_(std::move(atlas)), recipe_(recipe) {
    options_.ball_radius_mm = static_cast<float>(recipe.ball_radius_mm);
    options_.septum_ball_radius_mm = static_cast<float>(recipe.septum_ball_radius_mm);
    options_.non_contrast = static_cast<float>(recipe.non_contrast_share);
    options_ = options_of(recipe.phantoms, options_);
}

Sample PhantomSource::sample(std::uint64_t number) const {
    const std::uint64_t seed = mix_bits(mix_bits(recipe_.seed) + number);
    const auto spacing = static_cast<float>(recipe_.input.spacing_mm[0]);
    const PhantomGrid window = recipe_.placement == "root" ? root_window(seed, recipe_.window, spacing,
                                                                         static_cast<float>(recipe_.root_jitter_mm))
                                                           : training_window(seed, recipe_.window, spacing);
    const auto step = static_cast<std::int64_t>(number) / recipe_.batch;
    return to_sample(draw_phantom(*atlas_, seed, window, options_of(recipe_.phantoms_at(step), options_)));
}

Phantom PhantomSource::validation_phantom(std::uint64_t number) const {
    const std::uint64_t seed = mix_bits(mix_bits(kValidation) + number);
    const auto spacing = static_cast<float>(recipe_.input.spacing_mm[0]);
    if (recipe_.placement == "root") {
        return draw_phantom(*atlas_, seed,
                            root_window(seed, recipe_.window, spacing, static_cast<float>(recipe_.root_jitter_mm)),
                            options_);
    }
    Random random(seed, 7);
    const Vec centre{random.uniform(-15, 15), random.uniform(-10, 25), random.uniform(-20, 15)};
    return draw_phantom(*atlas_, seed, PhantomGrid::around(centre, recipe_.window, spacing), options_);
}

Phantom PhantomSource::phantom(std::uint64_t seed, const PhantomGrid& grid) const {
    return draw_phantom(*atlas_, seed, grid, options_);
}

Sample PhantomSource::to_sample(const Phantom& phantom) const {
    const auto [d, h, w] = phantom.grid.size;
    Sample sample;
    sample.origin = "a phantom";
    sample.image = torch::from_blob(const_cast<float*>(phantom.hu.data()), {1, d, h, w}, torch::kFloat)
                       .clamp(recipe_.input.hu_low, recipe_.input.hu_high)
                       .sub(recipe_.input.mean)
                       .div(recipe_.input.sd);
    for (const HeadRecipe& head : recipe_.heads) {
        const std::vector<std::uint8_t>* labels = head.name == "heart"        ? &phantom.heart
                                                  : head.name == "hps"        ? &phantom.hps
                                                  : head.name == "ms"         ? &phantom.ms
                                                  : head.name == "calc"       ? &phantom.calc
                                                  : head.name == "coronaries" ? &phantom.coronaries
                                                                              : nullptr;
        if (labels == nullptr || labels->empty()) continue;  // a head that these phantoms do not label
        sample.targets[head.name] =
            torch::from_blob(const_cast<std::uint8_t*>(labels->data()), {d, h, w}, torch::kByte).to(torch::kLong);
    }
    return sample;
}

}  // namespace cardionode::train
